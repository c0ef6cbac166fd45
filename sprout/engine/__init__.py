"""Generation. `types.py` says what goes in and comes out; `sampling.py` chooses a token; `calculator.py` and `tools.py`
are what the model may call (`registry.py`: tools of your own), `constraint.py` what a reply must be; `decoder.py` is the
model prepared for writing, `prefixes.py` what it has read before; `writer.py` makes text of tokens; `rows.py` is what is known of
a conversation, `filling.py` what it has to be shown; `batch.py` writes many at once, `scheduler.py` lets them come and go, `engine.py` puts it together, `shared.py` shares it out over processes."""

from sprout.engine.calculator import calculate
from sprout.engine.constraint import json_grammar, json_object_grammar
from sprout.engine.decoder import Decoder, KVCache
from sprout.engine.engine import Engine
from sprout.engine.registry import load_tools, tool_from
from sprout.engine.sampling import choose, filter_logits, log_probability, uniform
from sprout.engine.scheduler import Scheduler
from sprout.engine.shared import generate_shared
from sprout.engine.tools import calculator, lookup, run_tool, toolbox_for
from sprout.engine.types import Busy, Completion, Event, Prompt, Sampling, Token, Tool, Toolbox, TooLong

__all__ = [
    "Busy", "Completion", "Decoder", "Engine", "Event", "KVCache", "Prompt", "Sampling", "Scheduler", "Token",
    "TooLong", "Tool", "Toolbox", "calculate", "calculator", "choose", "filter_logits", "generate_shared",
    "json_grammar", "json_object_grammar", "load_tools", "log_probability", "lookup", "run_tool", "tool_from", "toolbox_for",
    "uniform",
]  # fmt: skip
