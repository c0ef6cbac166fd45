"""What a fresh model is born with: the instinct to look back.

Copying from what was read is the first thing a small model needs and among the last it finds by itself: two attention
layers have to agree before either pays (the induction circuit, arXiv 2209.11895). On random tokens said twice, this
model learns nothing of it in 500 steps from the usual random start, and is right nine times in ten after 50 from this
one (LOG.md). Only the starting weights are special; training may change all of them. Starting from the shape that
training ends in is called mimetic initialisation (arXiv 2305.09828).

Head 0 of the first layer looks at the token before and writes it down; head 0 of the second layer looks for a token
that wrote down 'before me stood what stands here now', and copies it: A B ... A -> B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sprout.model.gpt import GPT, Block

CONSTANT = 16  # one channel in so many is the same for all tokens: attention by position alone needs something constant
LEVEL = 2.0  # value of those channels
FAST = 3  # pairs of channels with the fastest rotation, which tell neighbours apart
QUIET = 0.1  # what is left of the random start of these heads' queries and keys
ECHO = 6.4  # the head starts as the embedding, scaled to this logit for a token by itself: what was copied is predicted


def directions(count: int, rows: int, width: int, skip: int, generator: torch.Generator) -> Tensor:
    """`count` random orthonormal rows (rows, width), zero in the first `skip` columns and in rows beyond `count`."""
    square = torch.randn(width - skip, count, generator=generator)
    out = torch.zeros(rows, width)
    out[:count, skip:] = torch.linalg.qr(square)[0].T
    return out


@torch.no_grad()
def look_back(model: GPT, generator: torch.Generator) -> None:
    """Give a freshly initialised model of two layers or more the induction circuit, in place."""
    c = model.config
    C, D, half = c.width, c.head_size, c.head_size // 2
    skip = max(1, C // CONSTANT)
    rank = min(D, C - skip)
    content, noted, copied = (directions(rank, D, C, skip, generator) for _ in range(3))
    model.embed[:, :skip] = LEVEL * (C**-0.5 if c.tied else 1.0)
    if model.head is not None:
        model.head.copy_(model.embed_table() * (ECHO / C))
        model.head[:, :skip] = 0

    first, second = cast("Block", model.blocks[0]), cast("Block", model.blocks[1])
    for block in (first, second):
        block.q[:D] *= QUIET
        block.k[:D] *= QUIET
    # Layer 1: a constant query meets a constant key turned one step further, so the best match stands one step back.
    fast = min(FAST, half)
    step = c.rope_theta ** (-torch.arange(fast, dtype=torch.float32) * 2 / D)  # radians a position
    first.q[:fast, :skip] += 1
    first.k[:fast, :skip] += step.cos()[:, None]
    first.k[half : half + fast, :skip] += step.sin()[:, None]
    first.v[:D] = content
    first.o[:, :D] = noted.T
    # Layer 2: the query is the token here, the key what was noted there, in the channels that hardly turn.
    slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, D)])
    second.q[slow] += content[: len(slow)]
    second.k[slow] += noted[: len(slow)]
    second.v[:D] = copied
    second.o[:, :D] = copied.T
