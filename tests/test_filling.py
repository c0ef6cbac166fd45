"""What a batch shows its model before it goes on: nothing too much, nobody left out, the earliest first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sprout.engine import filling
from sprout.engine.filling import CHUNK, WASTE, groups, waiting
from sprout.engine.rows import row_type
from sprout.model import GPTConfig

CONTEXT = 1000
CONFIG = GPTConfig(vocab_size=100, context=CONTEXT, layers=1, width=32, heads=2, kv_heads=1, head_size=16, hidden=32)
ANY = st.tuples(st.integers(0, CONTEXT - 1), st.integers(0, CONTEXT - 1)).map(sorted)
NEAR = st.tuples(st.integers(0, 2), st.integers(0, 60)).map(lambda t: [CONTEXT - 1 - t[0] - t[1], CONTEXT - 1 - t[0]])  # the context's end
FEW = st.integers(0, 3).map(lambda n: [5, 5 + n])
ROWS = st.lists(ANY, max_size=12) | st.lists(FEW, max_size=12) | st.lists(FEW | NEAR, max_size=12)  # seen, length - 1


@given(ROWS, st.integers(1, 2000), st.booleans(), st.randoms())
def test_as_many_are_shown_as_may_be_and_the_earliest_first(rows: list, most: int, eager: bool, dice: object) -> None:
    r = np.zeros(len(rows), row_type(CONTEXT))
    r["seen"], r["length"] = [a for a, _ in rows], [b + 1 for _, b in rows]
    r["number"] = np.random.default_rng(dice.randrange(99)).permutation(len(rows))  # type: ignore[attr-defined]
    could = np.minimum([b - a for a, b in rows], CHUNK)
    waits = waiting(r, most, eager)
    if could.sum() <= (min(4, len(rows)) if eager else len(rows)):
        assert not waits.any()
        return
    assert (0 <= waits).all() and (waits <= could).all() and waits.sum() == min(most, could.sum())
    short = r["number"][waits < could]  # whoever has to wait comes after everybody who is shown something whole
    assert not len(short) or (r["number"][waits > 0] <= short.min()).all()


@given(ROWS)
def test_everybody_who_waits_is_in_one_group_that_fits(rows: list) -> None:
    seen, waits = np.array([a for a, _ in rows], int), np.array([b - a for a, b in rows], int)
    found = groups(waits, seen, CONFIG)
    assert sorted(i for group in found for i in group.tolist()) == np.flatnonzero(waits).tolist()
    for group in found:
        assert seen[group].max() + waits[group].max() <= CONTEXT  # a row's padding, too, has a place in the cache
        longest = np.sort(waits[group])
        for n in range(1, len(group)):  # what each one that joined cost the others
            assert (longest[n] - longest[n - 1]) * n <= WASTE


def test_scores_stay_small(monkeypatch) -> None:
    waits = np.full(6, 100)
    assert len(groups(waits, np.zeros(6, int), CONFIG)) == 1
    monkeypatch.setattr(filling, "LARGEST_SCORES", 2 * 100 * 100 * CONFIG.heads)
    assert [len(group) for group in groups(waits, np.zeros(6, int), CONFIG)] == [2, 2, 2]
