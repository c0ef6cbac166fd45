"""How much memory training takes, told before it begins. What the C core takes is counted to the byte; what torch takes
is worked out from what each operation keeps for the way back, and measured (LOG.md)."""

from __future__ import annotations

from sprout.common.compute import Compute
from sprout.common.errors import UserError
from sprout.model import GPTConfig
from sprout.model.count import parameters
from sprout.model.dial import matrix_parameters, round_up
from sprout.model.loss import chunk_on

BLOCK, CHUNK = 64, 256  # as in native.c
# Measured on a CPU, not compiled: what a layer's way back takes besides what it kept, and the head's passes over a chunk's
# logits, each as a multiple.
WAY_BACK, LOGITS = 2.5, 5
AT_ONCE = 1 << 16  # tokens that keep a GPU busy
REST = 1 << 20  # small things: the batch, tables of pointers, what malloc rounds up


def core_bytes(shape: GPTConfig, threads: int, context: int, recompute: bool = False) -> int:
    """What `_native.step` takes: the weights packed twice, each thread's room for a row, and its gradients (the first
    thread's are the result and not of these). The pointers beside them are left out; they are a few kB."""
    C, D, F, H, K, L = shape.width, shape.head_size, shape.hidden, shape.heads, shape.kv_heads, shape.layers
    T, V, wide, J = round_up(context, 64), round_up(shape.vocab_size, 64), H * D, (H + 2 * K) * D
    C64, F64, J64, W64, D64 = (round_up(n, 64) for n in (C, F, J, wide, D))
    packed = C * V + V * C64
    packed += L * (C * J64 + J * C64 + wide * C64 + C * W64 + C * round_up(2 * F, 64) + 2 * F * C64 + F * C64 + C * F64)
    kept = 1 if recompute else L  # layers whose insides are there at once
    layer = C + J + wide + 2 * F + H + 2 + H + K
    rows = max(T, CHUNK)
    room = T * (C * (L + 1) + kept * layer)
    room += T * (1 + 3 * C + F + wide + J + 4 * D64) + BLOCK * (2 * T + D64) + CHUNK * (V + 1)
    room += rows * max(C64, F64, W64) + max(T * max(2 * F, J, C), CHUNK * V) + 8 * rows
    return 4 * (packed + threads * room + (threads - 1) * parameters(shape))


def optimizer_bytes(shape: GPTConfig) -> int:
    """The optimizer's state: one float32 for each number of a matrix, two for those of embedding and head."""
    table = shape.vocab_size * shape.width
    inside = matrix_parameters(shape) - table
    return 4 * inside + 8 * (parameters(shape) - inside)


def muon_bytes(shape: GPTConfig, threads: int) -> int:
    """The room of Muon's updates in C, kept from step to step: for each thread the largest matrix, its panels of 64, and four
    square ones."""
    C, F, wide, narrow = shape.width, shape.hidden, shape.heads * shape.head_size, shape.kv_heads * shape.head_size

    def room(rows: int, columns: int) -> int:
        r, c = sorted((rows, columns))
        return r * c + max(c * round_up(r, 64), r * round_up(c, 64)) + 4 * r * round_up(r, 64)

    return 4 * threads * max(room(wide, C), room(narrow, C), room(F, C))


def kept_bytes(shape: GPTConfig, bytes_per_value: int, context: int, attention: str = "plain", compiled: bool = False) -> float:
    """What torch keeps of one token in one layer for the way back: the inputs of the products, the norms, the gate, the scores
    of its attention (those of 5 in 8 keys, see `causal_attention`) where it is written out. Compiled for a GPU it keeps no
    norm in float32 and one number less of the gate, and there heads share their keys."""
    C, D, F, H, K = shape.width, shape.head_size, shape.hidden, shape.heads, shape.kv_heads
    W, J, size = H * D, (H + 2 * K) * D, bytes_per_value
    keys = 2 * K * D if K == 1 else 6 * K * D  # several key heads are copied for each block of queries
    if attention != "plain":
        keys = 2 * W  # one copy for each head
    if compiled:
        total = size * (4 * C + J + 3 * W + 2 * K * D + 3 * F)
    else:
        total = size * (4 * C + J + 2 * W + keys + 4 * F) + 184
        if size < 4:  # norms are computed in float32
            total += 4 * (2 * C + W + K * D)
    return total + (0.625 * H * context * (4 if size == 4 else 4 + size) if attention == "plain" else 0)


def _step_bytes(shape: GPTConfig, compute: Compute, rows: int, recompute: bool) -> int:
    """What a step by torch takes, `rows` rows at once."""
    size, on_gpu = compute.dtype.itemsize, compute.compile and compute.device == "cuda"
    tokens, weights = rows * shape.context, 4 * parameters(shape)
    layer = kept_bytes(shape, size, shape.context, compute.attention, on_gpu) * tokens
    kept = layer + shape.layers * shape.width * size * tokens if recompute else shape.layers * layer
    logits = 4 * min(tokens, chunk_on(compute.device)) * shape.vocab_size
    if on_gpu:  # besides the weights as the products read them
        kept += weights * size // 4 + (WAY_BACK * layer if recompute else 0) + 2 * logits
    else:
        kept += max(WAY_BACK * layer, LOGITS * logits)
    return 2 * weights + optimizer_bytes(shape) + int(kept)


def rows_at_once(rows: int, shape: GPTConfig, compute: Compute, recompute: bool = False) -> int:
    """How many of a step's rows go forward and back together: 32, or on a GPU as many as keep it busy, half of them where
    these take more than nine tenths of its memory, and so on."""
    if compute.device != "cuda":
        return min(rows, 32)
    rows = min(rows, max(1, AT_ONCE // shape.context))
    while rows > 1 and compute.memory and _step_bytes(shape, compute, rows, recompute) > 0.9 * compute.memory:
        rows = -(-rows // 2)
    return rows


def training_bytes(shape: GPTConfig, compute: Compute, rows: int, recompute: bool = False, planning: bool = False) -> int:
    """The most memory that training takes at a time, beyond the libraries: steps of `rows` rows of the model's context,
    `rows_at_once` of them together, and checkpoints. `planning`: with the copy of the weights that measuring the speed keeps.

    By the C core it is right within a tenth, by torch on a CPU within 15 % where it isn't compiled, compiled on a GPU within
    5 % where that was measured (LOG.md). Compiled for a CPU it takes less than is told here."""
    weights, state = 4 * parameters(shape), optimizer_bytes(shape)
    copy = weights if planning else 0
    written = 2 * state  # a checkpoint's tensors as bytes, and the file made of them
    if compute.kernels == "c":
        held = 2 * weights + state + core_bytes(shape, compute.threads, shape.context, recompute) + muon_bytes(shape, compute.threads)
        return held + max(copy + weights * (rows > 32), written) + REST
    step = _step_bytes(shape, compute, rows_at_once(rows, shape, compute, recompute), recompute) + copy
    return max(step, weights + state + (written if compute.device == "cpu" else 0)) + REST


def fitting(shape: GPTConfig, compute: Compute, rows: int, asked: str, free: int | None, planning: bool) -> tuple[bool, str]:
    """Whether layers are to be recomputed on the way back (`asked`: on, off, or auto, which does it where it would not fit
    otherwise), and a line that says what training will take. Raises UserError where it takes more than is free; where that
    is not certain (compiled for a CPU, or on a GPU and not compiled), only if weights, gradients and the optimizer alone do."""
    recompute = asked == "on"
    need = training_bytes(shape, compute, rows, recompute, planning)
    if asked == "auto" and free is not None and need > free:
        recompute, need = True, training_bytes(shape, compute, rows, True, planning)
    certain = compute.kernels == "c" or (compute.device, compute.compile) in (("cpu", False), ("cuda", True))
    if not certain and free is not None and need > free >= 2 * 4 * parameters(shape) + optimizer_bytes(shape):
        return recompute, f"training takes at most about {need / 1e9:.2f} GB, of which {free / 1e9:.1f} are free: it may not fit"
    of = f" of {free / 1e9:.1f} GB free" if free is not None else ""
    if free is not None and need > free:
        fewer = "fewer --threads (each has room of its own), " if compute.kernels == "c" and compute.threads > 1 else ""
        again = "--recompute on, " if asked == "off" else ""
        smaller = "" if compute.kernels == "c" else "--batch-tokens, "
        raise UserError(
            f"a model of depth {shape.layers} ({parameters(shape):,} parameters) takes about {need / 1e9:.1f} GB to train, "
            f"and {free / 1e9:.1f} GB are free. Take {again}{fewer}a smaller --depth, {smaller}--context or --vocab-size, "
            "or close other programs."
        )
    most = "" if certain else "at most "
    how = "; layers are computed again on the way back, " + ("as asked" if asked == "on" else "to fit") if recompute else ""
    return recompute, f"training takes {most}about {need / 1e9:.2f} GB{of}{how}"
