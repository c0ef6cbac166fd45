"""Choosing tokens and the calculator, each against an independent way to the same answer."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sprout.common.errors import UserError
from sprout.common.messages import ToolCall
from sprout.engine import Prompt, Sampling, Tool, calculate, choose, filter_logits, run_tool, toolbox_for, uniform
from sprout.engine.calculator import DEEPEST, LONGEST
from sprout.engine.tools import MALFORMED, one_text
from sprout.world import WorldConfig, build_world


def test_uniform_is_spread_and_has_no_pattern() -> None:
    seeds, positions = np.meshgrid(np.arange(200, dtype=np.uint64), np.arange(200))
    u = uniform(seeds.ravel(), positions.ravel()).reshape(200, 200)
    assert u.min() >= 0 and u.max() < 1
    counts, _ = np.histogram(u, 20, (0, 1))
    chi2 = ((counts - u.size / 20) ** 2 / (u.size / 20)).sum()
    assert chi2 < 45  # 19 degrees of freedom: 0.1 % lies above 43.8, and the numbers never change
    assert abs(np.corrcoef(u[:, 1:].ravel(), u[:, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(u[1:].ravel(), u[:-1].ravel())[0, 1]) < 0.02


def test_uniform_takes_any_seed() -> None:
    u = uniform(np.array([0, 2**64 - 1], np.uint64), np.array([0, 0]))
    assert u[0] != u[1]


def draw(logits: torch.Tensor, n: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
    """How often (share) each of V tokens is chosen in n draws."""
    luck = torch.from_numpy(uniform(np.arange(n, dtype=np.uint64), np.zeros(n, np.int64)))
    rows = logits.expand(n, -1)
    t, k, p = torch.full((n,), temperature), torch.full((n,), top_k), torch.full((n,), top_p)
    return torch.bincount(choose(rows, t, k, p, torch.zeros(n), luck), minlength=logits.shape[-1]) / n


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf])
    for temperature in (0.5, 1.0, 2.0):
        want = (logits / temperature).softmax(-1)
        assert torch.allclose(draw(logits, 40_000, temperature), want, atol=0.012)  # 5 standard errors
    assert draw(logits, 5000)[4] == 0


def test_greedy_and_the_coldest_temperature_take_the_likeliest() -> None:
    logits = torch.tensor([1.0, 1.5, 1.4])
    assert draw(logits, 100, 0.0)[1] == 1
    assert draw(logits, 100, 1e-30)[1] == 1


def test_the_edges_of_luck_stay_inside() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    one = torch.ones(2)
    got = choose(
        logits, one, torch.zeros(2, dtype=torch.long), one, torch.zeros(2), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    )
    assert got.tolist() == [1, 2]


def plain_filter(logits: list[float], top_k: int, top_p: float) -> set[int]:
    """The tokens that stay, by the definition."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: top_k or None]
    weights = np.exp(np.array([logits[i] for i in order], dtype=np.float64) - max(logits))
    p, total = weights / weights.sum(), 0.0
    kept: set[int] = set()
    for i, share in zip(order, p, strict=True):
        if kept and total >= top_p:
            break
        kept.add(i)
        total += share
    return kept


@given(
    st.lists(st.integers(-30, 30).map(lambda x: x / 4), min_size=1, max_size=12),
    st.integers(0, 13),
    st.sampled_from([0.1, 0.33, 0.5, 0.77, 0.9]),
)
def test_filters_by_definition(logits: list[float], top_k: int, top_p: float) -> None:
    got = filter_logits(torch.tensor([logits]), torch.tensor([top_k]), torch.tensor([top_p], dtype=torch.float64))[0]
    want = plain_filter(logits, top_k, top_p)
    kept = set(got.isfinite().nonzero()[:, 0].tolist())
    assert kept == want or (abs(len(kept) - len(want)) == 1 and top_p == 0.5)  # sums of 0.5 up to rounding
    assert all(got[i] == logits[i] for i in kept)


def test_rows_of_a_batch_have_their_own_filters() -> None:
    logits = torch.arange(6.0).expand(3, -1)
    got = filter_logits(logits, torch.tensor([0, 2, 0]), torch.tensor([1.0, 1.0, 0.01]))
    assert got.isfinite().sum(-1).tolist() == [6, 2, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"max_tokens": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_a_prompt_has_messages_or_a_text() -> None:
    with pytest.raises(UserError):
        Prompt()
    with pytest.raises(UserError):
        Prompt(tools=("calculator",), text="Once")


# ------------------------------------------------------------------------------------------------ calculator

numbers = st.one_of(
    st.integers(0, 10**6).map(str),
    st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda ab: f"{ab[0]}.{ab[1]}"),
)
signs = st.sampled_from([" + ", " - ", "*", " x ", " / ", "÷"])
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, signs, inner).map("".join), inner.map(lambda e: f"({e})"), inner.map(lambda e: f"-{e}")
    ),
    max_leaves=8,
)


def by_python(expression: str) -> Fraction | None:
    """The value by Python's own parser on Fractions (the expression is ours); None for a division by zero."""
    import ast

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            a, b = value(node.left), value(node.right)
            return a + b if isinstance(node.op, ast.Add) else a - b if isinstance(node.op, ast.Sub) else (
                a * b if isinstance(node.op, ast.Mult) else a / b
            )  # fmt: skip
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.Name)
        return Fraction(node.id[1:].replace("_", "."))

    import re

    names = re.sub(r"[0-9.]+", lambda m: "n" + m[0].replace(".", "_"), expression.replace("x", "*").replace("÷", "/"))
    try:
        return value(ast.parse(names, mode="eval").body)
    except ZeroDivisionError:
        return None


@given(expressions)
def test_calculator_agrees_with_fractions(expression: str) -> None:
    want = by_python(expression)
    try:
        got = calculate(expression)
    except ValueError as error:
        reason = str(error)
        assert (
            (want is None and "zero" in reason)
            or ("longer" in reason and len(expression) > LONGEST)
            or ("large" in reason and want is not None and abs(want) > 10**30)
            or ("brackets" in reason and expression.count("(") + expression.count("-") > DEEPEST)
        )  # fmt: skip
        return
    assert want is not None
    if got.startswith("about "):
        assert abs(Fraction(got[6:]) - want) <= Fraction(1, 2 * 10**6)
        assert (want * 10**12).denominator != 1
    else:
        assert Fraction(got) == want


@given(st.text(max_size=40) | st.text("0123456789.+-*/x() ", max_size=230))
def test_calculator_survives_anything(text: str) -> None:
    try:
        assert calculate(text)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ("12 + 30", "42"), ("2 + 3 x 4", "14"), ("(2 + 3) * 4", "20"), ("7/8", "0.875"), ("-3 - -4", "1"),
        ("10 / 4", "2.5"), ("10/3", "about 3.333333"), ("-1/3", "about -0.333333"), ("0.1 + 0.2", "0.3"),
        ("100 - 7 - 3", "90"), ("-1/2", "-0.5"),
        ("999999999999 * 999999999999", "999999999998000000000001"),
    ],
)  # fmt: skip
def test_calculator_examples(expression: str, want: str) -> None:
    assert calculate(expression) == want


@pytest.mark.parametrize(
    "wrong", ["", "1 +", "(1", "1)", "1..2", "2 3", "1,000", "__import__('os')", "2**3", "٣ + 1", "(" * 40 + "1"]
)
def test_calculator_says_what_is_wrong(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        calculate(wrong)


# ------------------------------------------------------------------------------------------------ tools


def test_calls_that_go_wrong_are_answered() -> None:
    def broken(name: str) -> str:
        raise RuntimeError("the line is dead")

    box = toolbox_for(None) | {"phone": Tool("phone", "Rings.", one_text("name", "who"), broken)}
    all_of_them = tuple(box)

    def ask(name: str, arguments: str, allowed: tuple[str, ...] = all_of_them) -> str:
        return run_tool(box, allowed, ToolCall(name, arguments))

    assert ask("calculator", '{"expression": "12 + 30"}') == "42"
    assert ask("calculator", '{"expression": "1/0"}') == "Error: division by zero"
    assert ask("calculator", '{"expression": 3}') == "Error: the argument expression is not a string"
    assert ask("calculator", "{}") == "Error: the argument expression is missing"
    assert ask("calculator", '{"expression": "1", "mode": "x"}') == "Error: there is no argument mode"
    assert ask("calculator", "[1]").startswith("Error: ")
    assert ask("oven", "{}") == "Error: there is no tool oven"
    assert ask("phone", '{"name": "Ann"}') == "Error: the line is dead"
    assert ask("phone", '{"name": "Ann"}', ("calculator",)) == "Error: there is no tool phone"
    assert run_tool(box, all_of_them, None) == MALFORMED


def test_lookup_reads_the_almanac() -> None:
    world = build_world(WorldConfig(people=8, strangers=20))
    box = toolbox_for(world)
    name = world.strangers[0].name
    assert run_tool(box, ("lookup",), ToolCall.of("lookup", name=name)).startswith(name + ":")
    assert run_tool(box, ("lookup",), ToolCall.of("lookup", name="Nobody Here")) == "No entry."
    assert "lookup" not in toolbox_for(None)


def test_a_long_result_is_cut_visibly() -> None:
    box = {"say": Tool("say", "", one_text("text", ""), lambda text: text * 500)}
    result = run_tool(box, ("say",), ToolCall.of("say", text="ab"))
    assert len(result) == 400 and result.endswith(" ...")
