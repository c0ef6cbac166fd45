"""The policy gradient against brute force, and that reinforcement raises a reward that can rise."""

import itertools

import torch

from sprout.common.messages import Message
from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig
from sprout.rl import ReinforceConfig, advantages, policy_weights, reinforce
from sprout.world import Problem, Verdict, final_text


def test_advantages_compare_within_a_group():
    a = advantages(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]]))
    assert a.tolist() == [[0.75, -0.25, -0.25, -0.25], [0, 0, 0, 0]]


def test_every_token_of_the_batch_weighs_alike():
    logp = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -9.0, -9.0]])
    mask = torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    weights = policy_weights(torch.tensor([0.5, -1.0]), mask, mask.sum())
    assert torch.isclose((weights * -logp).sum(), torch.tensor(-(0.5 * -1 + 0.5 * -2 + -1 * -3) / 3))


def test_reward_rises(tokenizer, tmp_path):
    model = GPT(GPTConfig(tokenizer.vocab_size, 64, 1, 32, 1, 1, 32, 48), seed=1)
    problem = Problem("short", "k", (Message("user", "Be brief."),), (Message("assistant", ""),), "")

    def check(p, reply):
        return Verdict(len(final_text(reply)) < 6)

    with torch.no_grad():  # a model that ends its replies now and then
        assert model.head is not None
        model.head[tokenizer.specials["<|end|>"]].normal_(0, 0.5)
    optim = OptimConfig(0.01, 0.01, 0.02)
    config = ReinforceConfig(40, 4, 8, 20, 1.0, 3, optim)
    log = reinforce(model, tokenizer, {}, itertools.repeat(problem), check, config, tmp_path)
    first, last = (sum(e["reward"] for e in part) / 5 for part in (log[:5], log[-5:]))
    assert last > first + 0.2, (first, last)
    assert {"all_right", "all_wrong", "length", "cut", "entropy", "kl"} <= set(log[0])


def test_rehearsal_goes_on_where_practice_teaches_nothing(tokenizer, tmp_path):
    """All tries wrong: no advantage, and what changes the weights is the rehearsal, once a step."""
    problem = Problem("any", "k", (Message("user", "Hello."),), (Message("assistant", ""),), "")

    def trained(name: str, rehearse: bool) -> tuple[GPT, list[int]]:
        model, steps = GPT(GPTConfig(tokenizer.vocab_size, 64, 1, 32, 1, 1, 32, 48), seed=1), []

        def one(step: int) -> None:
            steps.append(step)
            assert model.head is not None
            model.head.sum().backward()

        config = ReinforceConfig(3, 2, 2, 4, 1.0, 3, OptimConfig(0.01, 0.01, 0.02))
        check = lambda p, reply: Verdict(False)  # noqa: E731
        reinforce(model, tokenizer, {}, itertools.repeat(problem), check, config, tmp_path / name, rehearse=one if rehearse else None)
        return model, steps

    fresh = GPT(GPTConfig(tokenizer.vocab_size, 64, 1, 32, 1, 1, 32, 48), seed=1)
    (alone, none), (beside, steps) = trained("alone", False), trained("beside", True)
    assert none == [] and steps == [0, 1, 2]
    assert alone.head is not None and beside.head is not None and fresh.head is not None
    assert alone.head.equal(fresh.head) and not beside.head.equal(fresh.head)
