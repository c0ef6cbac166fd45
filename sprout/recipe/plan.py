"""From minutes to steps: how fast a step is here, and how the time is shared out."""

from __future__ import annotations

import time

import numpy as np

from sprout.common.hashing import stable_hash
from sprout.common.processes import from_first, world
from sprout.data import (
    batch_rows,
    get_batch,
)
from sprout.optim import OptimConfig, Optimizer
from sprout.recipe.config import GrowConfig, Plan, Session
from sprout.recipe.sources import feed
from sprout.train import LoopConfig
from sprout.train.loop import backward_step
from sprout.train.memory import rows_at_once
from sprout.world.skills import SKILLS

REINFORCE_STEP = 1.5  # seconds, on two cores


def evaluation_seconds(config: GrowConfig) -> float:
    """About how long a stage's evaluation takes on two cores."""
    return 0.0012 * config.eval_problems * (len(SKILLS) + 1) * (1 if config.uses_world else 0.2) + 4


def loop_config(s: Session, stage: str, steps: int) -> LoopConfig:
    """Numbers of the loop. The learning rate is held through pretraining and midtraining and falls in finetuning."""
    d, rows = s.dial, max(1, s.config.batch_tokens // s.config.context)
    decay = steps if stage == "finetune" else 0
    optim = OptimConfig(d.matrix_lr, d.embed_lr, d.head_lr, d.weight_decay, dtype=s.compute.dtype, kernels=s.compute.kernels)
    return LoopConfig(
        steps,
        rows,
        rows_at_once(rows, d.shape, s.compute, s.model.recompute),
        min(40, max(1, steps // 10)),
        decay,
        stable_hash(s.config.seed, stage) % 2**31,
        optim,
    )


def measure(s: Session) -> float:
    """Seconds a training step takes here; compiles on the way. The model comes out as it went in."""
    rank, size = world()
    rows = max(1, s.config.batch_tokens // s.config.context)
    data = feed(s, "midtrain", 40 * s.config.context)
    weights = {k: v.clone() for k, v in s.model.state_dict().items()}
    optimizer = Optimizer(s.model, loop_config(s, "pretrain", 100).optim)
    seconds: list[float] = []
    began = time.perf_counter()
    while from_first(len(seconds) < 4 or (len(seconds) < 25 and time.perf_counter() - began < 6)):
        start = time.perf_counter()
        batch = get_batch(data, batch_rows(len(data), rows, len(seconds), 0)[rank::size], s.compute.device)
        backward_step(s.gradients, batch, rows_at_once(rows, s.dial.shape, s.compute, s.model.recompute))
        optimizer.step(1e-6)
        if not seconds:
            began = time.perf_counter()  # the first step compiles
        seconds.append(time.perf_counter() - start)
    s.model.load_state_dict(weights)
    return float(np.median(seconds[1:]))


def make_plan(s: Session, began: float) -> Plan:
    """Turn minutes into steps: what is left after evaluation and data is shared out, 9 % of all to reinforcement."""
    config = s.config
    tokens_per_step = max(1, config.batch_tokens // config.context) * config.context
    if config.tokens:
        steps = max(3, config.tokens // tokens_per_step)
        speed, rl = 0.0, 4 if config.rl_steps < 0 else config.rl_steps
    else:
        step = measure(s)
        speed = tokens_per_step / step
        s.say(f"measured {speed / 1000:.1f}k tokens/s")
        total = config.minutes * 60
        evaluation = 4 * evaluation_seconds(config)
        rl_seconds = 0.09 * total
        left = total - (time.perf_counter() - began) - evaluation - rl_seconds - 10
        # Making the data costs about a second per 600k tokens besides.
        steps = max(3, int(left / (step + tokens_per_step / 600_000)))
        rl = max(2, int(rl_seconds / REINFORCE_STEP)) if config.rl_steps < 0 else config.rl_steps
    pretrain, finetune = max(1, round(steps * 0.08)), max(1, round(steps * 0.60))
    return Plan(pretrain, max(1, steps - pretrain - finetune), finetune, rl, speed)
