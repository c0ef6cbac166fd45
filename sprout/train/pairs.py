"""What stands behind what: the embedding and the head, learned from counted pairs of tokens before training begins.

The blocks start as the identity, so a fresh model is its head on its embedding: what it can say of the next token depends on
the last one alone, and what it can learn of that stands in the table of how often each token follows each. Training learns
that table first, a batch at a time, through all layers; here it is counted once and fitted without them: a softmax
regression of rank `width` on all pairs of the text at once, a few seconds instead of a minute or two at depth 6 (LOG.md).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sprout.data import Packed
from sprout.model import GPT
from sprout.model.gpt import EMBED_EPS
from sprout.model.instinct import CONSTANT
from sprout.model.layers import norm
from sprout.optim.adamw import adamw_update

LARGEST = 4096  # vocabulary; the table of a larger one takes too much memory
STEPS = 40  # over the whole table
EMBED_LR, HEAD_LR = 0.3, 0.02  # at the first step; they fall to nothing
CHUNK = 256  # tokens whose logits exist at once


def pair_counts(data: Packed, vocabulary: int) -> Tensor:
    """How often a target (column) stands behind a token (row), (V, V) float32."""
    table = np.zeros(vocabulary**2, np.float32)
    for start in range(0, len(data), 4096):
        tokens = data.tokens[start : start + 4096].astype(np.int64)
        pairs = (tokens[:, :-1] * vocabulary + tokens[:, 1:])[data.counted[start : start + 4096, 1:]]
        which, often = np.unique(pairs, return_counts=True)
        table[which] += often
    return torch.from_numpy(table).view(vocabulary, vocabulary)


@torch.no_grad()
def learn_pairs(model: GPT, data: Packed, steps: int = STEPS) -> bool:
    """Fit embedding and head of a fresh model, in place, to the pairs of `data`; the blocks are left as they are. The first
    channels of the embedding, the same for all tokens, stay so: the instinct wants them. Whether it was done: not for a model
    whose head is its embedding, nor for a large vocabulary."""
    c = model.config
    if model.head is None or c.vocab_size > LARGEST:
        return False
    embed, head, constant = model.embed.data, model.head.data, max(1, c.width // CONSTANT)
    joint = pair_counts(data, c.vocab_size).to(embed.device)
    joint /= joint.sum()
    share = joint.sum(1, keepdim=True)  # of each token among those that something follows
    moments = [torch.zeros_like(p) for p in (embed, embed, head, head)]
    for step in range(steps):
        x, scale = norm(embed, EMBED_EPS), torch.rsqrt(embed.square().mean(1, keepdim=True) + EMBED_EPS)
        to_x, to_head = torch.empty_like(embed), torch.zeros_like(head)
        for start in range(0, c.vocab_size, CHUNK):
            rows = slice(start, start + CHUNK)
            # The loss's gradient, of the logits.
            wrong = torch.softmax(x[rows] @ head.T, 1).mul_(share[rows]).sub_(joint[rows])
            to_x[rows] = wrong @ head
            to_head.addmm_(wrong.T, x[rows])
        to_embed = scale * (to_x - x * (to_x * x).mean(1, keepdim=True))  # through the norm
        to_embed[:, :constant] = 0
        left = 1 - step / steps
        adamw_update(embed, to_embed, moments[0], moments[1], step + 1, EMBED_LR * left, (0.8, 0.95), 1e-10, 0.0)
        adamw_update(head, to_head, moments[2], moments[3], step + 1, HEAD_LR * left, (0.8, 0.95), 1e-10, 0.0)
        embed[:, constant:] = norm(embed[:, constant:], EMBED_EPS)  # as long as at the start
    return True
