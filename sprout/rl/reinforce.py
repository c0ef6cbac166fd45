"""Reinforcement learning: try a problem several times, see which tries were right, make these likelier.

Group-relative policy gradient (arXiv 2402.03300) reduced to its core: one update per batch of rollouts, so that there is
nothing to clip, and no reference model; the KL to where it began is only reported.
"""

from __future__ import annotations

import functools
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

from sprout.common.compute import Compute
from sprout.common.errors import Interrupted
from sprout.common.processes import add_up, gathered, on_first
from sprout.data import Batch
from sprout.engine import Completion, Engine, Prompt, Sampling, Toolbox
from sprout.journal import Journal
from sprout.model import GPT
from sprout.model.loss import target_logprobs
from sprout.optim import OptimConfig, Optimizer, schedule, world
from sprout.rl.policy import advantages, policy_weights
from sprout.tokenizer import Tokenizer
from sprout.train import Gradients, make_gradients
from sprout.train.checkpoint import Checkpoint, Pause, load_for_all, save_checkpoint, save_seconds
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
    """One step's tries, this process's part of them: completions (groups x replies) and their rewards (groups, replies)."""

    completions: list[Completion]
    rewards: Tensor


def roll_out(
    engine: Engine,
    problems: Sequence[Problem],
    check: Callable[[Problem, Sequence[Any]], Verdict],
    config: ReinforceConfig,
    step: int,
) -> Rollouts:
    """Sample `config.replies` replies to each problem; the reward is 1 for a right and ended one, else 0. Of several
    processes each samples for its part of the problems; a try's luck does not depend on how many there are."""
    rank, size = world()
    tries = len(problems) * config.replies
    first = (config.seed * 1000 * 100_000 + step) * tries
    mine = [i for i in range(tries) if i // config.replies % size == rank]
    asked = [problems[i // config.replies] for i in mine]
    sampling = [Sampling(config.temperature, max_tokens=config.max_tokens, seed=first + i) for i in mine]
    completions = engine.generate([Prompt(p.prompt, p.tools) for p in asked], sampling)
    right = [check(p, c.messages).right and c.finish == "stop" for p, c in zip(asked, completions, strict=True)]
    return Rollouts(completions, torch.tensor(right, dtype=torch.float32).view(-1, config.replies))


def as_batch(completions: Sequence[Completion], pad: int, device: torch.device) -> Batch:
    """Prompts and replies as a batch (N, T) whose targets are the tokens that the model chose, the end of turn among them."""
    longest = max(len(c.prompt_ids) + len(c.ids) for c in completions)
    ids = torch.full((len(completions), longest), pad, dtype=torch.int64)
    chosen = torch.zeros(len(completions), longest, dtype=torch.bool)
    segments = torch.zeros(len(completions), longest, dtype=torch.int32)
    for i, c in enumerate(completions):
        start, stop = len(c.prompt_ids), len(c.prompt_ids) + len(c.ids)
        ids[i, :stop] = torch.tensor(c.prompt_ids + c.ids)
        chosen[i, start:stop] = torch.tensor(c.sampled, dtype=torch.bool)
        segments[i, :stop] = 1
    targets = torch.where(chosen, ids, -1)[:, 1:]
    return Batch(ids[:, :-1].to(device), targets.to(device), segments[:, :-1].to(device))


@torch.no_grad()
def token_nats(model: GPT, batch: Batch) -> Tensor:
    """The nats (N, T) of the batch's targets under the model, 0 where there is none."""
    counted = batch.targets >= 0
    hidden, weight = model.head_product(model(batch.ids, batch.segments)[counted])
    nats = torch.zeros(batch.targets.shape, device=hidden.device)
    nats[counted] = -target_logprobs(hidden, weight, batch.targets[counted])[0]
    return nats


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
    gradients: Gradients | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place on problems from an endless iterator; go on from a checkpoint in `folder` if there is one.
    `rehearse(step)`, where given, adds the gradients of a batch of what was learned before, so that practising one thing
    does not unlearn the others (as PPO-ptx does, arXiv 2203.02155). `journal` and `sample` are for who watches, as in
    `train`; `gradients` is who computes them (torch in float32 where not given).

    Returns per step: reward, shares of groups all right and all wrong, mean length, share cut off, entropy (the mean
    nats of what was sampled), KL to the beginning (nats a token, as far as the rounding of `gradients` goes), seconds. Groups all right or all wrong teach nothing and take no part in the update."""
    gradients = gradients or make_gradients(model, Compute("cpu", torch.float32, False, torch.get_num_threads(), ()))
    optimizer = Optimizer(model, config.optim)
    engine = Engine(model, tokenizer, toolbox, max_batch=config.groups * config.replies)
    pad = tokenizer.specials["<|endoftext|>"]
    rank, size = world()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    start, log, spent = 0, [], 0.0
    if checkpoint := load_for_all(folder, say):
        model.load_state_dict(checkpoint.weights)
        optimizer.load_state_dict(checkpoint.optimizer)
        start, log, spent = checkpoint.step, checkpoint.meta["log"], checkpoint.meta["seconds"]
        say(f"reinforce: going on from step {start} of {config.steps}")
        for _ in range(start * config.groups):  # the problems already used
            next(problems)
    reference = GPT(model.config).to(model.embed.device)
    reference.load_state_dict(before)
    pause = Pause(config.save_seconds)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if size == 1 and pause.asked:  # a second Ctrl-C does not wait for the step; see `train`
            raise KeyboardInterrupt
        pause.asked = True

    previous = signal.signal(signal.SIGINT, on_interrupt)
    began = time.perf_counter()
    bar = tqdm(total=config.steps, initial=start, desc="reinforce", unit="step", mininterval=0.5, disable=rank != 0)
    dtype, model.dtype = model.dtype, torch.float32
    try:
        for step in range(start, config.steps):
            step_began = time.perf_counter()
            drawn = [next(problems) for _ in range(config.groups)]
            rollouts = roll_out(engine, drawn, check, config, step)
            rewards = rollouts.rewards
            advantage = advantages(rewards).flatten()
            used = [i for i, a in enumerate(advantage.tolist()) if a != 0]
            sums = torch.zeros(3)  # of entropy, KL and trained tokens
            count = torch.zeros(())
            if used:
                chosen = [rollouts.completions[i] for i in used]
                batch = as_batch(chosen, pad, model.embed.device)
                mask = (batch.targets >= 0).float()
                count = mask.sum().cpu()
            count = add_up(count)
            if used:
                weights = policy_weights(advantage[used].to(mask.device), mask, count)
                nats = gradients(batch, weights * (config.weight * size))  # the optimizer takes the mean over the processes
                sums = torch.stack([nats.sum(), (token_nats(reference, batch) - nats).sum(), mask.sum()]).cpu()
            if rehearse:
                rehearse(step)
            optimizer.step(schedule(step, config.steps, 2, config.steps - 2))

            entropy, kl = (sums[:2] / sums[2]).tolist() if add_up(sums)[2] > 0 else (0.0, 0.0)
            told = gathered((rewards, [(sum(c.sampled), c.finish != "stop") for c in rollouts.completions]))
            rewards = torch.cat([theirs for theirs, _ in told])
            lengths, cut = zip(*(pair for _, pairs in told for pair in pairs), strict=True)
            entry = {
                "step": step + 1,
                "reward": float(rewards.mean()),
                "all_right": float((rewards.mean(1) == 1).float().mean()),
                "all_wrong": float((rewards.mean(1) == 0).float().mean()),
                "length": sum(lengths) / len(lengths),
                "cut": sum(cut) / len(lengths),
                "entropy": entropy,
                "kl": kl,
            }
            now = time.perf_counter()
            log.append(entry | {"seconds": spent + now - began})
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
            stop, due = pause.now()
            if stop or due or step + 1 == config.steps:
                meta = {"log": log, "seconds": spent + time.perf_counter() - began}
                checkpoint = Checkpoint(step + 1, model.state_dict(), optimizer.state_dict(), meta)
                on_first(functools.partial(save_checkpoint, folder, checkpoint))
                pause.saved()
            if stop:
                raise Interrupted(
                    f"reinforce: saved at step {step + 1} of {config.steps}; run the same command to go on"
                )
    finally:
        model.dtype = dtype
        bar.close()
        signal.signal(signal.SIGINT, previous)
    return log
