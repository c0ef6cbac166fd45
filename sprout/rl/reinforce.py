"""Reinforcement learning: try a problem several times, see which tries were right, make these likelier.

Group-relative policy gradient (arXiv 2402.03300) reduced to its core: one update per batch of rollouts, so that there is
nothing to clip, and no reference model; the KL to where it began is only reported.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sprout.common.errors import Interrupted
from sprout.engine import Completion, Engine, Prompt, Sampling, Toolbox
from sprout.journal import Journal
from sprout.model import GPT
from sprout.model.loss import target_logprobs
from sprout.optim import OptimConfig, Optimizer, schedule, world
from sprout.optim.exchange import mean_scalar
from sprout.rl.policy import advantages, policy_loss
from sprout.tokenizer import Tokenizer
from sprout.train.checkpoint import Checkpoint, load_latest, save_checkpoint, save_seconds
from sprout.world import Problem, Verdict


@dataclass(frozen=True, slots=True)
class ReinforceConfig:
    """`groups` problems a step, `replies` tries each, at `temperature`; `optim` has the (small) learning rates."""

    steps: int
    groups: int
    replies: int
    max_tokens: int
    temperature: float
    seed: int
    optim: OptimConfig
    weight: float = 4.0  # of the policy loss where something is rehearsed beside it
    save_seconds: float = field(default_factory=save_seconds)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """One step's tries: completions (groups x replies) and their rewards (groups, replies)."""

    completions: list[Completion]
    rewards: Tensor


def roll_out(
    engine: Engine,
    problems: Sequence[Problem],
    check: Callable[[Problem, Sequence[Any]], Verdict],
    config: ReinforceConfig,
    step: int,
) -> Rollouts:
    """Sample `config.replies` replies to each problem; the reward is 1 for a right and ended one, else 0."""
    asked = [p for p in problems for _ in range(config.replies)]
    rank = world()[0]
    sampling = Sampling(
        config.temperature,
        max_tokens=config.max_tokens,
        seed=((config.seed * 1000 + rank) * 100_000 + step) * len(asked),
    )
    completions = engine.generate([Prompt(p.prompt, p.tools) for p in asked], sampling)
    right = [check(p, c.messages).right and c.finish == "stop" for p, c in zip(asked, completions, strict=True)]
    return Rollouts(completions, torch.tensor(right, dtype=torch.float32).view(len(problems), config.replies))


def token_logprobs(model: GPT, completions: Sequence[Completion], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (N, T-1) of each next token of prompt + reply, the mask (N, T-1) of those the model chose (the
    end of turn among them), and the entropies (N, T-1), detached."""
    longest = max(len(c.prompt_ids) + len(c.ids) for c in completions)
    ids = torch.full((len(completions), longest), pad, dtype=torch.int64)
    mask = torch.zeros(len(completions), longest)
    for i, c in enumerate(completions):
        start, stop = len(c.prompt_ids), len(c.prompt_ids) + len(c.ids)
        ids[i, :stop] = torch.tensor(c.prompt_ids + c.ids)
        mask[i, start:stop] = torch.tensor(c.sampled, dtype=torch.float32)
    ids, mask = ids.to(model.embed.device), mask.to(model.embed.device)
    hidden, weight = model.head_product(model(ids[:, :-1]).flatten(0, 1))
    logprobs, entropy = target_logprobs(hidden, weight, ids[:, 1:].flatten())
    return logprobs.view(len(ids), -1), mask[:, 1:], entropy.view(len(ids), -1)


def reinforce(
    model: GPT,
    tokenizer: Tokenizer,
    toolbox: Toolbox,
    problems: Iterator[Problem],
    check: Callable[[Problem, Sequence[Any]], Verdict],
    config: ReinforceConfig,
    folder: Path,
    say: Callable[[str], None] = print,
    rehearse: Callable[[int], None] | None = None,
    journal: Journal | None = None,
    sample: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place on problems from an endless iterator; go on from a checkpoint in `folder` if there is one.
    `rehearse(step)`, where given, adds the gradients of a batch of what was learned before, so that practising one thing
    does not unlearn the others (as PPO-ptx does, arXiv 2203.02155). `journal` and `sample` are for who watches, as in
    `train`.

    Returns per step: reward, shares of groups all right and all wrong, mean length, share cut off, entropy, KL to the
    beginning (nats a token), seconds. Groups all right or all wrong teach nothing and take no part in the update."""
    optimizer = Optimizer(model, config.optim)
    engine = Engine(model, tokenizer, toolbox, max_batch=config.groups * config.replies)
    pad = tokenizer.specials["<|endoftext|>"]
    rank, size = world()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    start, log, spent = 0, [], 0.0
    if checkpoint := load_latest(folder, say):
        model.load_state_dict(checkpoint.weights)
        optimizer.load_state_dict(checkpoint.optimizer)
        start, log, spent = checkpoint.step, checkpoint.meta["log"], checkpoint.meta["seconds"]
        say(f"reinforce: going on from step {start} of {config.steps}")
        for _ in range(start * config.groups * size):  # the problems already used
            next(problems)
    reference = GPT(model.config).to(model.embed.device)
    reference.load_state_dict(before)
    stop = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        if stop:  # a second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        stop = True

    previous = signal.signal(signal.SIGINT, on_interrupt)
    began = saved = time.perf_counter()
    bar = tqdm(total=config.steps, initial=start, desc="reinforce", unit="step", mininterval=0.5, disable=rank != 0)
    dtype, model.dtype = model.dtype, torch.float32
    try:
        for step in range(start, config.steps):
            step_began = time.perf_counter()
            drawn = [next(problems) for _ in range(config.groups * size)]
            rollouts = roll_out(engine, drawn[rank::size], check, config, step)
            rewards = rollouts.rewards
            advantage = advantages(rewards).flatten()
            used = [i for i, a in enumerate(advantage.tolist()) if a != 0]
            entropy = kl = 0.0
            if used:
                chosen = [rollouts.completions[i] for i in used]
                logprobs, mask, entropies = token_logprobs(model, chosen, pad)
                loss = policy_loss(logprobs, advantage[used].to(mask.device), mask)
                (loss * config.weight).backward()
                with torch.no_grad():
                    old, _, _ = token_logprobs(reference, chosen, pad)
                entropy = float((entropies * mask).sum() / mask.sum())
                kl = float(((logprobs.detach() - old) * mask).sum() / mask.sum())
            if rehearse:
                rehearse(step)
            optimizer.step(schedule(step, config.steps, 2, config.steps - 2))

            lengths = [sum(c.sampled) for c in rollouts.completions]
            entry = {
                "step": step + 1,
                "reward": float(rewards.mean()),
                "all_right": float((rewards.mean(1) == 1).float().mean()),
                "all_wrong": float((rewards.mean(1) == 0).float().mean()),
                "length": sum(lengths) / len(lengths),
                "cut": sum(c.finish != "stop" for c in rollouts.completions) / len(lengths),
                "entropy": entropy,
                "kl": kl,
            }
            now = time.perf_counter()
            log.append(
                {k: v if k == "step" else mean_scalar(v) for k, v in entry.items()} | {"seconds": spent + now - began}
            )
            bar.set_postfix_str(
                f"reward {entry['reward']:.2f}, all right {entry['all_right']:.0%}, all wrong {entry['all_wrong']:.0%}, KL {kl:.3f}",
                refresh=False,
            )
            bar.update()
            if journal:
                speed = sum(lengths) / (now - step_began)
                journal.step("reinforce", step + 1, config.steps, speed, log[-1]["seconds"], reward=log[-1]["reward"])
            if sample:
                sample(step + 1)
            if stop or now - saved > config.save_seconds or step + 1 == config.steps:
                state = optimizer.state_dict()
                if rank == 0:
                    meta = {"log": log, "seconds": spent + time.perf_counter() - began}
                    save_checkpoint(folder, Checkpoint(step + 1, model.state_dict(), state, meta))
                saved = time.perf_counter()
            if stop:
                raise Interrupted(
                    f"reinforce: saved at step {step + 1} of {config.steps}; run the same command to go on"
                )
    finally:
        model.dtype = dtype
        bar.close()
        signal.signal(signal.SIGINT, previous)
    return log
