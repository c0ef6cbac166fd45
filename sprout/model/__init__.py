"""The GPT. `layers.py` has the parts as pure functions, `gpt.py` puts them together, `dial.py` sizes them, `count.py`
counts them, `hf.py` writes them for the rest of the world."""

from sprout.model.config import GPTConfig
from sprout.model.gpt import GPT, Block, token_losses

__all__ = ["GPT", "Block", "GPTConfig", "token_losses"]
