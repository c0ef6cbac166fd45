"""The training loop, in the order in which things happen. Pretraining, midtraining and finetuning differ only in what
is fed to it."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sprout.common.compute import Compute
from sprout.common.errors import Interrupted, UserError
from sprout.common.processes import add_up, on_first
from sprout.data import Batch, Packed, Resident, Source
from sprout.journal import Journal
from sprout.model import GPT
from sprout.optim import OptimConfig, Optimizer, schedule, world
from sprout.train import native
from sprout.train.checkpoint import Checkpoint, Pause, load_for_all, save_checkpoint, save_seconds


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long and how to train. A step takes `rows` rows of the packed data, `micro_rows` at a time."""

    steps: int
    rows: int
    micro_rows: int
    warmup: int
    decay: int
    seed: int
    optim: OptimConfig
    save_seconds: float = field(default_factory=save_seconds)
    log_every: int = 10


Gradients = Callable[[Batch, float | Tensor], Tensor]


def make_gradients(model: GPT, compute: Compute) -> Gradients:
    """`gradients(batch, weight)` adds to the parameters' gradients those of the batch's targets' nats, each times its weight,
    (B, T) float32 or one number for all, and returns the nats (B, T), 0 where there is no target: by the C core, or by
    torch, compiled where that is on. Build once, use in all stages."""
    if compute.kernels == "c":
        return native.CoreGradients(model, compute)

    def loss(ids: Tensor, segments: Tensor, targets: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        return model.loss(model(ids, segments), targets, scales)

    run = torch.compile(loss, dynamic=False) if compute.compile else loss

    def gradients(batch: Batch, weight: float | Tensor) -> Tensor:
        whole = torch.full(batch.targets.shape, weight, device=batch.targets.device) if isinstance(weight, float) else weight
        total, nats = run(batch.ids, batch.segments, batch.targets, whole)
        total.backward()
        return nats.detach()

    return gradients


def backward_step(gradients: Gradients, batch: Batch, micro_rows: int) -> float:
    """Gradients of the mean loss over all targets of the step, on all processes; returns that mean in nats.

    Every process divides by the same count, the global one over the number of processes, so that the mean of the
    gradients inside the optimizer's step is the gradient of the global mean.
    """
    size = world()[1]
    totals = torch.tensor([0.0, float((batch.targets >= 0).sum())], dtype=torch.float64)
    count = totals[1].clone()
    add_up(count)
    parts = []
    for i in range(0, len(batch.ids), micro_rows):
        part = slice(i, i + micro_rows)
        parts.append(gradients(Batch(batch.ids[part], batch.targets[part], batch.segments[part]), size / float(count)))
    for nats in parts:  # only now: to look at them is to wait for the GPU
        totals[0] += nats.cpu().double().sum()
    add_up(totals)
    return float(totals[0] / count)


def train(
    model: GPT,
    gradients: Gradients,
    data: Packed | Source,
    config: LoopConfig,
    folder: Path,
    name: str,
    compute: Compute,
    say: Callable[[str], None] = print,
    journal: Journal | None = None,
    sample: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place for `config.steps` steps; go on from a checkpoint in `folder` if there is one. For who
    watches, on the first process only: `journal` is told of the steps, `sample(step)` shows what the model says now.

    Returns the curve: step, tokens, loss (nats), lr (multiplier) and seconds every `log_every` steps. Raises
    Interrupted after Ctrl-C with everything saved, UserError when the loss is no longer a number.
    """
    rank, size = world()
    source = Resident(data, config.rows, config.seed) if isinstance(data, Packed) else data
    optimizer = Optimizer(model, config.optim)
    start, curve, spent = 0, [], 0.0
    if checkpoint := load_for_all(folder, say):
        model.load_state_dict(checkpoint.weights)
        optimizer.load_state_dict(checkpoint.optimizer)
        start, curve, spent = checkpoint.step, checkpoint.meta["curve"], checkpoint.meta["seconds"]
        say(f"{name}: going on from step {start} of {config.steps}")

    def save(step: int) -> None:
        state = optimizer.state_dict()  # every process takes part
        meta = {"curve": curve, "seconds": spent + time.perf_counter() - began}
        on_first(lambda: save_checkpoint(folder, Checkpoint(step, model.state_dict(), state, meta)))

    pause, step = Pause(config.save_seconds), start

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C; or in the first step, which compiles and has nothing to lose. One of several processes can't go
        # by itself, and hears torchrun's signal besides the keyboard's.
        if size == 1 and (pause.asked or step == start):
            raise KeyboardInterrupt
        pause.asked = True

    began = time.perf_counter()
    tokens_per_step = config.rows * data.context
    bar = tqdm(total=config.steps, initial=start, desc=name, unit="step", mininterval=0.5, disable=rank != 0)
    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        for step in range(start, config.steps):
            batch = source.batch(step, rank, size, compute.device)
            value = backward_step(gradients, batch, config.micro_rows)
            if not math.isfinite(value):
                raise UserError(
                    f"{name}: the loss is {value} at step {step}. The last checkpoint is intact. Lower the learning rate."
                )
            multiplier = schedule(step, config.steps, config.warmup, config.decay)
            optimizer.step(multiplier)

            now = time.perf_counter()
            seconds = spent + now - began
            speed = (step + 1 - start) * tokens_per_step / (now - began)
            if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                curve.append(
                    {
                        "step": step + 1,
                        "tokens": (step + 1) * tokens_per_step,
                        "loss": value,
                        "lr": multiplier,
                        "seconds": seconds,
                    }
                )
                waited = f", waited {source.waited:.1f} s for text" if source.waited >= 0.1 else ""
                bar.set_postfix_str(f"loss {value:.3f}, {speed / 1000:.1f}k tokens/s{waited}", refresh=False)
            if journal:
                waits = {"waited": source.waited} if source.waited else {}
                journal.step(name, step + 1, config.steps, speed, seconds, loss=value, **waits)
            if sample:
                sample(step + 1)
            bar.update()
            stop, due = pause.now()
            if stop or (due and step + 1 < config.steps):
                save(step + 1)
                pause.saved()
            if stop:
                raise Interrupted(f"{name}: saved at step {step + 1} of {config.steps}; run the same command to go on")
        save(config.steps)
    finally:
        source.close()
        bar.close()
        signal.signal(signal.SIGINT, previous)
    return curve
