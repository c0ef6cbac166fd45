"""The measurement of decoding: that it runs, agrees, and names who is absent."""

from __future__ import annotations

import pytest

from sprout.bench import decoding
from sprout.model import GPTConfig

SMALL = GPTConfig(400, 64, 2, 32, 2, 1, 16, 48)


@pytest.mark.slow
def test_contenders_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setitem(decoding.CONTENDERS, "nobody", lambda trial: decoding.wanted("no_such_package"))
    rows = decoding.measure("tiny", 2, 8, 1, ("sprout", "sprout in PyTorch", "Hugging Face generate", "nanochat", "nobody"), SMALL)
    by = {row["contender"]: row for row in rows}
    assert by["Hugging Face generate"]["note"] == "8 of 8 tokens as ours"
    assert by["nobody"]["tokens_per_second"] is None and "no_such_package is not installed" in by["nobody"]["note"]
    assert all(row["tokens_per_second"] > 0 and row["ratio"] > 0 for row in rows if row["contender"] != "nobody")
    assert by["sprout"]["ratio"] == 1 and set(by) >= {"limit", "nanochat"}


def test_the_made_up_tokenizer_spells() -> None:
    tokenizer = decoding.made_up_tokenizer(600)
    assert tokenizer.vocab_size == 600 and tokenizer.decode(tokenizer.encode("a fox")) == "a fox"
