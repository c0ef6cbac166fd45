"""Text <-> token ids. Read `bpe.py` (learning and applying merges), `tokenizer.py`, then `chat.py` (the chat format)."""

from sprout.tokenizer.chat import parse_assistant, prompt_ids, render
from sprout.tokenizer.tokenizer import SPECIALS, StreamDecoder, Tokenizer

__all__ = ["SPECIALS", "StreamDecoder", "Tokenizer", "parse_assistant", "prompt_ids", "render"]
