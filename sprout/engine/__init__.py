"""Generation. `types.py` says what goes in and comes out, `sampling.py` chooses a token, `calculator.py` and `tools.py`
are what the model may call, `batch.py` runs many conversations at once, `engine.py` puts it together."""

from sprout.engine.calculator import calculate
from sprout.engine.engine import Engine
from sprout.engine.sampling import choose, filter_logits, log_probability, uniform
from sprout.engine.tools import calculator, lookup, run_tool, toolbox_for
from sprout.engine.types import Busy, Completion, Event, Prompt, Sampling, Token, TooLong, Tool, Toolbox

__all__ = [
    "Busy", "Completion", "Engine", "Event", "Prompt", "Sampling", "Token", "TooLong", "Tool", "Toolbox", "calculate",
    "calculator", "choose", "filter_logits", "log_probability", "lookup", "run_tool", "toolbox_for", "uniform",
]  # fmt: skip
