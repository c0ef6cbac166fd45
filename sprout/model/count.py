"""Counting what a model costs: parameters, operations per token, bytes of cache per token."""

from __future__ import annotations

from sprout.model.config import GPTConfig
from sprout.model.dial import matrix_parameters


def parameters(shape: GPTConfig) -> int:
    """All weights of the model."""
    table = 0 if shape.tied else shape.vocab_size * shape.width
    return matrix_parameters(shape) + table


def flops_per_token(shape: GPTConfig, context: int | None = None, training: bool = True) -> int:
    """Floating-point operations for one token that sees `context` tokens (default: the model's; no discount for
    scores that a causal mask makes needless, as is usual): 2 per matrix parameter, and 4 per channel of the heads and token seen; 3 times that with backward
    (arXiv 2001.08361)."""
    seen = context or shape.context
    forward = 2 * matrix_parameters(shape) + 4 * shape.layers * seen * shape.heads * shape.head_size
    return 3 * forward if training else forward


def cache_bytes_per_token(shape: GPTConfig, bytes_per_value: int = 4) -> int:
    """Bytes of keys and values that one more token adds to the cache."""
    return 2 * shape.layers * shape.kv_heads * shape.head_size * bytes_per_value
