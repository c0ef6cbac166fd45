"""The policy gradient, as pure functions: advantages within a group, and what each token weighs in the loss."""

from __future__ import annotations

from torch import Tensor


def advantages(rewards: Tensor) -> Tensor:
    """How much better each reply is than its group: rewards (groups, replies) minus the group's mean, same shape.

    Not divided by the group's spread, which would favour problems that are nearly always right or wrong
    (arXiv 2503.20783)."""
    return rewards - rewards.mean(dim=1, keepdim=True)


def policy_weights(advantage: Tensor, mask: Tensor, count: Tensor | float) -> Tensor:
    """What the nats of each token weigh in the REINFORCE loss, on-policy: the advantage of the token's reply, over the
    number of trained tokens of the whole batch (arXiv 2503.14476), so that a token counts the same in long and short
    replies. The loss is minus the advantage times the log-probability, and nats are minus log-probabilities.

    advantage (N,), mask (N, T), 1 for a trained token; `count` of all of them, on all processes. Returns (N, T)."""
    return advantage[:, None] * mask / max(1.0, float(count))
