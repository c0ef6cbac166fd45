"""The C core behind the decoder, `native.c`, where the set-up could build it: a step of one new token for each row, on a CPU.
It gives what `Decoder.step` gives in PyTorch, but for the last bits of a float; or, where the processor multiplies integers of
16 bits faster, but for some ten-thousandths of what scores usually are (integers.h)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from sprout.engine.decoder import Decoder, KVCache

try:
    from sprout.engine import _native  # type: ignore[attr-defined]
except ImportError as error:
    _native, ABSENT = None, str(error)
else:
    ABSENT = ""

SWITCH = "SPROUT_NATIVE_DECODER"  # environment: 'off' leaves the steps to PyTorch; the best kind of products is
# chosen, or 'int16', or with 'float32' the best of 'avx512', 'avx2', 'plain'


def say() -> str:
    """Which one is used, and why, for people."""
    if not _native:
        return f"decoder: PyTorch, several times slower on a CPU; the C core was not built, a C compiler at set-up does ({ABSENT})"
    switch = os.environ.get(SWITCH, "")
    if switch == "off":
        return f"decoder: PyTorch, since {SWITCH}=off"
    return f"decoder: the C core on a CPU, products {'of integers of 16 bits' if integers() else 'in float32'}"


def integers() -> bool:
    """Whether the C core multiplies integers of 16 bits."""
    return _native is not None and (os.environ.get(SWITCH) or _native.best) == "int16"


def kept(device: torch.device) -> torch.dtype:
    """What a decoder there has keys and values of the cache in."""
    return torch.float16 if device.type == "cpu" and integers() else torch.float32


def core(decoder: Decoder) -> Any:
    """The decoder's weights once more, as the C core wants them; None where it can't be used."""
    switch = os.environ.get(SWITCH, "")
    if _native is None or switch == "off" or decoder.device.type != "cpu":
        return None
    c = decoder.config
    layers = tuple(tuple(m.numpy() for m in (layer.qkv, layer.o, layer.gate_up, layer.down)) for layer in decoder.layers)
    whole = [m.contiguous().numpy() for m in (decoder.table, decoder.cos, decoder.sin, decoder.head)]
    return _native.Model(
        c.heads, c.kv_heads, c.head_size, c.width, c.hidden, c.vocab_size, c.context, c.eps, c.qk_gain * c.head_size**-0.5,
        *whole, layers, switch,
    )  # fmt: skip


def step(core: Any, ids: Tensor, cache: KVCache, rows: Tensor | slice, starts: Tensor, last: Tensor, logits: Tensor) -> Tensor:
    """As `Decoder.step`, to logits (B, V), which it returns; what stands behind `last` is not read."""
    B, T = ids.shape
    row = np.arange(cache.k.shape[1])[rows] if isinstance(rows, slice) else rows.numpy()
    shown, places, until = ids.numpy(), starts.numpy(), np.arange(B)
    if T == 1:
        shown = shown[:, 0]
    else:  # one after the other without the padding
        real = np.arange(T) <= last.numpy()[:, None]
        of, at = real.nonzero()
        shown, row, places, until = shown[real], row[of], places[of] + at, real.sum(1).cumsum() - 1
    given = [np.ascontiguousarray(a) for a in (shown, row, places, until)]
    core.step(*given, cache.k.numpy(), cache.v.numpy(), logits.numpy(), torch.get_num_threads())
    return logits


def choose(
    core: Any, logits: Tensor, scores: Tensor, masks: np.ndarray, kinds: np.ndarray, settings: Sequence[np.ndarray],
    seeds: np.ndarray, positions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """As `sampling.choose` and `log_probability`: the next ids (B,) and their log-probabilities under the logits (B, V), chosen
    by the scores (B, V) without the tokens that the masks (kinds, V) forbid, of which each row has one. `settings` are
    temperature, top_k, top_p and min_p, (B,) each."""
    ids, logprobs = np.empty(len(kinds), np.int64), np.empty(len(kinds), np.float32)
    rows = [np.ascontiguousarray(a) for a in (kinds, *settings, seeds, positions)]
    core.choose(logits.numpy(), scores.numpy(), masks, *rows, ids, logprobs, torch.get_num_threads())
    return ids, logprobs


def write(
    core: Any, n: int, ids: np.ndarray, cache: KVCache, seen: np.ndarray, masks: np.ndarray, kinds: np.ndarray,
    settings: Sequence[np.ndarray], seeds: np.ndarray, positions: np.ndarray, stops: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`step` for the first rows of the cache, of which the ids (B,) are the last tokens, and `choose`, n times, or until a row
    chose its stop: ids and log-probabilities, (n, B) or fewer. A tenth of a millisecond less for each than one by one."""
    chosen, logprobs = np.empty((n, len(ids)), np.int64), np.empty((n, len(ids)), np.float32)
    first = [np.ascontiguousarray(a) for a in (ids, np.arange(len(ids)), seen)]
    rows = [np.ascontiguousarray(a) for a in (kinds, *settings, seeds, positions, stops)]
    done = core.write(*first, cache.k.numpy(), cache.v.numpy(), masks, *rows, chosen, logprobs, torch.get_num_threads())
    return chosen[:done], logprobs[:done]
