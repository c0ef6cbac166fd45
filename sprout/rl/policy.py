"""The policy gradient, as pure functions: advantages within a group, and the loss over the tokens of a batch."""

from __future__ import annotations

from torch import Tensor


def advantages(rewards: Tensor) -> Tensor:
    """How much better each reply is than its group: rewards (groups, replies) minus the group's mean, same shape.

    Not divided by the group's spread, which would favour problems that are nearly always right or wrong
    (arXiv 2503.20783)."""
    return rewards - rewards.mean(dim=1, keepdim=True)


def policy_loss(logprobs: Tensor, advantage: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """The REINFORCE loss, on-policy: minus the advantage of each token's reply times its log-probability, averaged over
    all trained tokens of the whole batch (arXiv 2503.14476), so that a token counts the same in long and short replies.

    logprobs, mask (N, T), advantage (N,); a scalar. `count` is the number of trained tokens, where these are only a part of
    the batch."""
    return -(advantage[:, None] * logprobs * mask).sum() / (mask.sum() if count is None else count).clamp(min=1)
