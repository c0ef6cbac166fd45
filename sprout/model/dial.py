"""One dial, `depth`, from which shape, batch, horizon, learning rates and weight decay follow.

(1) width = depth x aspect, aspect from 32 at depth 4 to 64 at depth 12 and above, rounded up to whole heads. Small
    models want to be deep for their width (arXiv 2402.14905); 64 is nanochat's ratio for the large ones.
(2) head size 64 (128 from width 768 on); as many heads as fit the width; half as many key/value heads
    (arXiv 2305.13245), or the nearest number below that divides the heads.
(3) hidden = 8/3 width (arXiv 2002.05202), rounded up to a multiple of 64.
(4) horizon = 20 tokens per matrix parameter (arXiv 2203.15556), unless time or tokens are given.
(5) batch = 2^13 tokens x sqrt(horizon / 20M) (critical batch grows as the square root of the data, arXiv 2505.13738),
    rounded to a power of two, at least 2^12 and at most 2^20.
(6) learning rates x sqrt(batch / 2^13) (arXiv 2405.14578), at most x 2; those of embedding and head also
    x (width / 128)^-1/2 (arXiv 2011.14522, softened as in nanochat).
(7) weight decay = 1 / (lr x steps), so that the weights' memory is one run long (arXiv 2405.13698); at most 0.2.
    It stays finite for every depth: short runs of small models have few steps, and the ceiling holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from sprout.common.errors import UserError
from sprout.model.config import GPTConfig


@dataclass(frozen=True, slots=True)
class Dial:
    """What `depth` decides. Batches are in tokens, learning rates are the peaks."""

    shape: GPTConfig
    horizon_tokens: int
    batch_tokens: int
    matrix_lr: float
    embed_lr: float
    head_lr: float
    weight_decay: float


def round_up(x: float, multiple: int) -> int:
    """The smallest multiple that is at least x."""
    return -int(-x // multiple) * multiple


def matrix_parameters(shape: GPTConfig) -> int:
    """Parameters that take part in a matrix product for every token: the blocks and the head."""
    attention = shape.width * shape.head_size * (2 * shape.heads + 2 * shape.kv_heads)
    mlp = 3 * shape.width * shape.hidden
    return shape.layers * (attention + mlp) + shape.vocab_size * shape.width


def shape_of(depth: int, vocab_size: int, context: int) -> GPTConfig:
    """Formulas (1) to (3)."""
    if not 1 <= depth <= 64:
        raise UserError(f"depth is {depth}; expected 1 to 64. A laptop grows 4 to 6, one GPU 12 to 20.")
    aspect = min(64.0, max(32.0, 32 + 4 * (depth - 4)))
    head_size = 128 if depth * aspect >= 768 else 64
    width = round_up(depth * aspect, head_size)
    heads = width // head_size
    kv_heads = max(k for k in range(1, max(1, heads // 2) + 1) if heads % k == 0)
    hidden = round_up(width * 8 / 3, 64)
    return GPTConfig(vocab_size, context, depth, width, heads, kv_heads, head_size, hidden)


def dial(depth: int, vocab_size: int, context: int, tokens: int | None = None, batch_tokens: int | None = None) -> Dial:
    """All numbers for a model of `depth` layers, trained on `tokens` tokens (default: formula 4)."""
    shape = shape_of(depth, vocab_size, context)
    horizon = tokens or 20 * matrix_parameters(shape)
    ideal = 8192 * (horizon / 20e6) ** 0.5
    batch = batch_tokens or min(1 << 20, max(1 << 12, 1 << round(log2(ideal))))
    steps = max(1, horizon // batch)
    by_batch = min(2.0, (batch / 8192) ** 0.5)
    by_width = (shape.width / 128) ** -0.5
    matrix_lr = 0.02 * by_batch
    return Dial(
        shape=shape,
        horizon_tokens=horizon,
        batch_tokens=batch,
        matrix_lr=matrix_lr,
        embed_lr=0.14 * by_batch * by_width,
        head_lr=0.01 * by_batch * by_width,
        weight_decay=min(0.2, 1 / (matrix_lr * steps)),
    )
