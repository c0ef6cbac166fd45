"""Bits per byte: how well held-out text is predicted, whatever the tokenizer."""

from __future__ import annotations

from math import log

import numpy as np
import torch

from sprout.common.processes import add_up, world
from sprout.data import Packed, get_batch
from sprout.model import GPT, token_losses
from sprout.tokenizer import Tokenizer


@torch.no_grad()
def bits_per_byte(model: GPT, data: Packed, tokenizer: Tokenizer, rows: int = 16) -> float:
    """Nats of all counted targets, in bits, over the bytes that they spell. Special tokens spell none; predicting them
    costs all the same. Several processes share the work."""
    rank, size = world()
    lengths = tokenizer.token_bytes()
    nats, spelled = 0.0, 0
    for start in range(rank * rows, len(data), size * rows):
        batch = get_batch(data, np.arange(start, min(start + rows, len(data))), str(model.embed.device))
        losses = token_losses(model.logits(model(batch.ids, batch.segments)).flatten(0, 1), batch.targets.flatten())
        nats += float(losses.double().sum())
        spelled += int(lengths[batch.targets[batch.targets >= 0].cpu().numpy()].sum())
    nats, spelled = add_up(torch.tensor([nats, spelled], dtype=torch.float64)).tolist()
    return nats / log(2) / max(1, spelled)
