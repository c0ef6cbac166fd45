"""Tools of one's own, from a function to a reply that used it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Prompt, Sampling, load_tools, run_tool, tool_from
from sprout.tokenizer import Tokenizer
from tests.test_engine import WORDS, actor, call_ids, shape, text_ids

FILE = '''
from __future__ import annotations
from sprout.engine import tool_from

def repeat(text: str, times: int = 2) -> str:
    """Says a text again."""
    return text * times

def total(numbers: list) -> float:
    return sum(numbers)

TOOLS = [repeat, tool_from(total, slow=True)]
'''


def test_a_function_becomes_a_tool(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    box = load_tools(tmp_path / "mine.py")
    assert list(box) == ["repeat", "total"] and box["total"].slow and not box["repeat"].slow
    assert box["repeat"].description == "Says a text again."
    assert box["repeat"].parameters["required"] == ["text"]
    assert box["repeat"].parameters["properties"] == {"text": {"type": "string"}, "times": {"type": "integer"}}
    assert run_tool(box, ("repeat",), ToolCall.of("repeat", text="fox", times=3)) == "foxfoxfox"
    assert run_tool(box, ("repeat",), ToolCall.of("repeat", text=3)) == "Error: the argument text is not a string"
    assert run_tool(box, ("total",), ToolCall.of("total", numbers=[1, 2.5])) == "3.5"
    tokenizer = Tokenizer.train([WORDS] * 3, 300)
    lines = [call_ids(tokenizer, 'total {"numbers": [1, 2]}'), text_ids(tokenizer, "3")]
    engine = actor(tokenizer, shape(tokenizer), lines, box)
    (got,) = engine.generate([Prompt((Message("user", "?"),), ("total",))], Sampling())
    assert [m.content for m in got.messages] == ["", "3", "3"]


def test_what_cannot_be_a_tool_is_said(tmp_path: Path) -> None:
    for wrong in (lambda x: x, lambda *texts: ""):
        with pytest.raises(UserError, match="expected"):
            tool_from(wrong)

    def untyped(text) -> str:  # type: ignore[no-untyped-def]
        return text

    with pytest.raises(UserError, match="annotated with one of: str"):
        tool_from(untyped)
    for text in ("TOOLS = 3", "def f(:", "pass", "1 / 0"):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(UserError, match="TOOLS"):
            load_tools(tmp_path / "bad.py")
    with pytest.raises(UserError, match="there is no Python file"):
        load_tools(tmp_path / "none.py")
