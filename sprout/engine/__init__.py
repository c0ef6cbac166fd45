"""Generation. `sampling.py` chooses a token, `tools.py` holds the tools, `engine.py` runs many conversations at once."""

from sprout.engine.engine import Completion, Engine, Prompt
from sprout.engine.sampling import Sampling, choose, filter_logits
from sprout.engine.tools import Tool, Toolbox, calculate, toolbox_for

__all__ = ["Completion", "Engine", "Prompt", "Sampling", "Tool", "Toolbox", "calculate", "choose", "filter_logits", "toolbox_for"]
