"""Sprout grows a complete ChatGPT from nothing, on a laptop, in code that teaches how it works."""

__version__ = "0.1.0"
