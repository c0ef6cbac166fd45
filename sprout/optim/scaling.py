"""What more GPUs would give, on paper: the exchange of `exchange.py` and a step's computation as formulas, with assumed
figures of hardware. Nothing here was run on more than one GPU; `docs/scale/README.md` shows what comes out.

(1) A process sends, per tensor, a reduce-scatter's and an all-gather's share: 2 (N - 1) shards of 4 bytes a number, where a
    shard is the first axis over N, rounded up (arXiv 1910.02054). Matrices of one shape are one tensor, whose first axis
    counts them: with more processes than matrices most of what is sent is padding.
(2) A ring's time is bytes over bandwidth, and a hop's latency for each of its N - 1 steps, of which `nodes - 1` go over the
    network (the model in NCCL's src/graph/tuning.cc, protocol Simple).
(3) A step computes flops_per_token for each of the busiest process's tokens, then orthogonalises its matrices: 5 times
    4 s^2 l + 2 s^3 for an s by l matrix, s the shorter side.
(4) A batch B costs 1 + B / B_critical times the data of a tiny one (arXiv 1812.06162). The dial's batch is taken as the
    critical one, which grows with the data and not with the model (arXiv 2505.13738).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from sprout.model import GPT, GPTConfig
from sprout.model.count import flops_per_token, parameters
from sprout.model.dial import Dial, dial
from sprout.optim.optimizer import OptimConfig, parameter_groups

VOCAB, CONTEXT = 32768, 2048  # of the models on the page
NODE = 8  # GPUs that NVLink connects
NVLINK, NETWORK = 450e9, 50e9  # bytes/s of a GPU in one direction: H100 SXM's NVLink 4 has 900 GB/s both ways; a 400 Gb/s NIC each
NVLINK_HOP, NETWORK_HOP = 3.4e-6, 9.6e-6  # seconds (NCCL, src/graph/tuning.cc)
PEAK, REACHED = 989e12, 0.4  # bfloat16 FLOP/s of an H100 SXM; the share that large runs reach (38 to 43 %, arXiv 2407.21783)


@dataclass(frozen=True, slots=True)
class Tensors:
    """What one exchange in `step()` moves: `length` entries along the first axis, `width` numbers in each; Muon's work on
    one entry in FLOP (0: AdamW's, which is nothing beside it)."""

    length: int
    width: int
    work: int

    def padded(self, processes: int) -> int:
        """Numbers, padding included."""
        return -(-self.length // processes) * processes * self.width


@functools.cache
def tensors(shape: GPTConfig) -> tuple[Tensors, ...]:
    """The tensors that `Optimizer.step` exchanges, from its own groups."""
    with torch.device("meta"):
        groups = parameter_groups(GPT(shape), OptimConfig())
    found = []
    for group in groups:
        p = group.params[0]
        if group.name.startswith("matrix"):
            short, long = sorted(p.shape)
            found.append(Tensors(len(group.params), p.numel(), 5 * (4 * short * short * long + 2 * short**3)))
        else:
            found.append(Tensors(p.numel(), 1, 0))
    return tuple(found)


def bytes_sent(shape: GPTConfig, processes: int, padding: bool = True) -> int:
    """Bytes that a process sends (and receives) in a step, formula (1)."""
    numbers = sum(t.padded(processes) if padding else t.length * t.width for t in tensors(shape))
    return round(2 * 4 * numbers * (processes - 1) / processes)


def ring_seconds(bytes_: float, processes: int, nodes: int, rings: int) -> float:
    """Formula (2), of `rings` rings one after the other that send so many bytes together."""
    if processes == 1:
        return 0.0
    hops = (processes - nodes) * NVLINK_HOP + (nodes - 1) * NETWORK_HOP
    return bytes_ / (NVLINK if nodes == 1 else NETWORK) + rings * hops


@dataclass(frozen=True, slots=True)
class Step:
    """A step on paper. Times in seconds; `sent` in bytes; `gain`: how many times faster than on one GPU with the dial's
    batch the same loss is reached."""

    gpus: int
    batch: int
    sent: int
    compute: float
    muon: float
    exchange: float
    data: float
    gain: float

    @property
    def seconds(self) -> float:
        return self.compute + self.muon + self.exchange

    @property
    def busy(self) -> float:
        """The share of the time in which a GPU computes on the batch."""
        return self.compute / self.seconds


def on_paper(depth: int, gpus: int, batch: int = 0, hybrid: bool = False) -> Step:
    """A step of the model of `depth` on so many GPUs with `batch` tokens (0: the dial's). `hybrid`: gradients and weights
    are sharded within a node, and only summed between nodes; this is not built."""
    d: Dial = dial(depth, VOCAB, CONTEXT)
    batch = batch or d.batch_tokens
    nodes = -(-gpus // NODE)
    local = gpus if nodes == 1 else NODE
    parts = tensors(d.shape)
    shards = local if hybrid else gpus
    sent = bytes_sent(d.shape, shards)
    if hybrid and nodes > 1:
        between = round(2 * 4 * sum(t.padded(local) for t in parts) / local * (nodes - 1) / nodes)  # an all-reduce of a shard
        hops = 2 * len(parts) * (nodes - 1) * NETWORK_HOP
        exchange = ring_seconds(sent, local, 1, 2 * len(parts)) + between / NETWORK + hops
        sent += between
    else:
        exchange = ring_seconds(sent, gpus, nodes, 2 * len(parts))
    rows = -(-batch // CONTEXT // gpus) if batch >= CONTEXT * gpus else 1  # the busiest process's
    compute = rows * CONTEXT * flops_per_token(d.shape) / (PEAK * REACHED)
    muon = sum(-(-t.length // shards) * t.work for t in parts if t.work) / (PEAK * REACHED)
    data = (1 + batch / d.batch_tokens) / 2
    step = Step(gpus, batch, sent, compute, muon, exchange, data, 0.0)
    if gpus == 1 and batch == d.batch_tokens:
        return Step(gpus, batch, sent, compute, muon, exchange, data, 1.0)
    alone = on_paper(depth, 1)
    gain = (batch / step.seconds) / (alone.batch / alone.seconds) / data
    return Step(gpus, batch, sent, compute, muon, exchange, data, gain)


def best_batch(depth: int, gpus: int, hybrid: bool = False) -> int:
    """The batch, the dial's times a power of two, with which so many GPUs reach the same loss soonest."""
    own = dial(depth, VOCAB, CONTEXT).batch_tokens
    return max((own << i for i in range(8)), key=lambda batch: on_paper(depth, gpus, batch, hybrid).gain)


def table(depth: int, counts: tuple[int, ...] = (1, 8, 64, 1024)) -> str:
    """A Markdown table: the dial's batch, then the batch that serves so many GPUs best, then that with hybrid sharding."""
    shape = dial(depth, VOCAB, CONTEXT).shape
    lines = [f"Depth {depth}: {parameters(shape):,} parameters, {len(tensors(shape))} tensors exchanged, "
             f"{flops_per_token(shape) / 1e9:.2f} GFLOP a token.", "",
             "| GPUs | batch, tokens | sent a GPU and step | of it padding | compute | Muon | exchange | step | computing | data | faster |",
             "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for gpus in counts:
        for kind in ("dial", "best", "hybrid") if gpus > 1 else ("dial",):
            hybrid = kind == "hybrid"
            if hybrid and gpus <= NODE:
                continue
            batch = 0 if kind == "dial" else best_batch(depth, gpus, hybrid)
            s = on_paper(depth, gpus, batch, hybrid)
            if kind == "best" and s.batch == on_paper(depth, gpus).batch:
                continue
            padding = "" if hybrid else f"{1 - bytes_sent(shape, gpus, False) / s.sent:.0%}" if s.sent else "0%"
            lines.append(
                f"| {gpus:,}{', hybrid' if hybrid else ''} | {s.batch:,} | {s.sent / 1e9:.2f} GB | {padding} | {s.compute * 1e3:.1f} ms | "
                f"{s.muon * 1e3:.1f} ms | {s.exchange * 1e3:.1f} ms | {s.seconds * 1e3:.1f} ms | {s.busy:.0%} | {s.data:.2f}x | {s.gain:.1f}x |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{table(12)}\n\n{table(20)}")
