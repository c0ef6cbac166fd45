"""Text and conversations from the user's own files, checked at the border.

Every line that can't be used is skipped and counted, or with `strict` stops with file, line and what was expected. The
split of a document or conversation is decided by a hash of its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sprout.common.errors import UserError
from sprout.common.hashing import split_of
from sprout.common.messages import Message

TEXT_KINDS = (".txt", ".md", ".jsonl", ".parquet")
CHAT_KINDS = (".jsonl", ".json")
LONGEST_LINE = 10_000_000  # characters; a longer line is no document
HUB_DOCUMENTS = 20_000  # documents taken from a data set of the hub


def _skip(dropped: dict[str, int], rule: str, strict: bool, where: str, expected: str) -> None:
    if strict:
        raise UserError(
            f"{where}: {rule.replace('_', ' ')}; expected {expected}. Mend it, or leave out --strict to skip and count it."
        )
    dropped[rule] = dropped.get(rule, 0) + 1


def _files(name: str, kinds: Sequence[str]) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in kinds and p.is_file())
        if not found:
            raise UserError(f"the folder {path} holds no {', '.join(kinds)} file; give another one.")
        return found
    if path.suffix.lower() not in kinds:
        raise UserError(f"{path} is no {', '.join(kinds)} file; convert it or give another one.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; expected text.")
    return [path]


def read_utf8(path: Path) -> str:
    """A file's text. Raises UserError for a binary or for bytes that are no UTF-8, with their place."""
    raw = path.read_bytes()
    if b"\0" in raw[:8192]:
        raise UserError(f"{path} looks like a binary file (it holds zero bytes); expected UTF-8 text.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8."
        ) from error


def local_texts(names: Sequence[str], dropped: dict[str, int], strict: bool = False) -> Iterator[tuple[str, str]]:
    """(split, text) of all documents behind the names: files, folders, or a data set's name on the hub."""
    for name in names:
        if not Path(name).exists():
            if "/" in name and not name.startswith((".", "/", "~")) and name.count("/") == 1 and not Path(name).suffix:
                texts = _hub(name)
            else:
                raise UserError(
                    f"there is no file or folder {name}; check the path (a hub data set is written owner/name)."
                )
        else:
            texts = (t for path in _files(name, TEXT_KINDS) for t in _texts_of(path, dropped, strict))
        for text in texts:
            if text.strip():
                yield split_of(text), text
            else:
                _skip(dropped, "empty_document", strict, name, "some text")


def _texts_of(path: Path, dropped: dict[str, int], strict: bool) -> Iterator[str]:
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix == ".jsonl":
        for where, row in _json_lines(path, dropped, strict):
            if isinstance(row, dict) and isinstance(row.get("text"), str):
                yield row["text"]
            else:
                _skip(dropped, "no_text_field", strict, where, 'an object with a "text" field')
    else:
        yield from pieces(read_utf8(path))


def pieces(text: str, size: int = 2000) -> Iterator[str]:
    """A long text cut between paragraphs into documents of about `size` characters, so that a single file has parts in
    every split."""
    part: list[str] = []
    length = 0
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        if length + len(paragraph) > size and part:
            yield "\n\n".join(part)
            part, length = [], 0
        part.append(paragraph)
        length += len(paragraph)
    if part:
        yield "\n\n".join(part)


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is no parquet file: {error}") from error
    names = file.schema_arrow.names
    column = (
        "text"
        if "text" in names
        else next((n for n in names if str(file.schema_arrow.field(n).type) in ("string", "large_string")), None)
    )
    if column is None:
        raise UserError(f"{path} has no text column, only {', '.join(names)}; expected one named text.")
    for batch in file.iter_batches(columns=[column]):
        yield from (t for t in batch.column(0).to_pylist() if t)


def _hub(name: str) -> Iterator[str]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split="train", streaming=True)
        for i, row in enumerate(rows):
            if i >= HUB_DOCUMENTS:
                return
            text = row.get("text") or next((v for v in row.values() if isinstance(v, str)), "")
            yield text
    except Exception as error:  # the library has no common class for 'not there' and 'no network'
        raise UserError(
            f"the data set {name} could not be read from the hub ({type(error).__name__}: {str(error)[:200]}). If you are offline, "
            "download its files elsewhere and give their folder to --text; if not, check the name (owner/name)."
        ) from error


def _json_lines(path: Path, dropped: dict[str, int], strict: bool) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        if len(line) > LONGEST_LINE:
            _skip(dropped, "line_too_long", strict, where, f"at most {LONGEST_LINE:,} characters")
            continue
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError):
            _skip(dropped, "malformed_json", strict, where, f"one JSON value a line, got {line[:60]!r}")


def local_conversations(
    names: Sequence[str], dropped: dict[str, int], strict: bool = False
) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """(split, messages) of all conversations in the files."""
    found = 0
    for name in names:
        if not Path(name).exists():
            raise UserError(
                f"there is no file or folder {name}; --chat expects .jsonl or .json files of conversations."
            )
        for path in _files(name, CHAT_KINDS):
            for where, row in _rows(path, dropped, strict):
                messages = conversation_of(row)
                if messages is None:
                    expected = '{"messages": [{"role", "content"}, ...]}'
                    _skip(dropped, "no_conversation", strict, where, expected)
                elif not alternates(messages):
                    _skip(
                        dropped,
                        "not_alternating",
                        strict,
                        where,
                        "an optional system message, then user and assistant in turn",
                    )
                else:
                    found += 1
                    yield split_of(str([m.to_dict() for m in messages])), messages
    if names and not found:
        raise UserError(
            f"no conversation could be read from {', '.join(names)} ({dropped or 'nothing found'}); see README for the formats."
        )


def _rows(path: Path, dropped: dict[str, int], strict: bool) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".jsonl":
        yield from _json_lines(path, dropped, strict)
        return
    try:
        rows = json.loads(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path} holds a {type(rows).__name__}; expected a list of conversations.")
    yield from ((f"{path} entry {i}", row) for i, row in enumerate(rows, 1))


def conversation_of(row: Any) -> tuple[Message, ...] | None:
    """A row in one of the usual forms as messages: {"messages"}, a bare list, ShareGPT's {"conversations"}, Alpaca's
    {"instruction", "input", "output"}, {"prompt", "response"}, {"question", "answer"}; None for anything else."""
    if isinstance(row, dict):
        if isinstance(row.get("conversations"), list):
            names = {"human": "user", "gpt": "assistant"}
            row = [
                {"role": names.get(str(m.get("from")), m.get("from")), "content": m.get("value")}
                for m in row["conversations"]
                if isinstance(m, dict)
            ]
        elif isinstance(row.get("messages"), list):
            row = row["messages"]
        else:
            for asked, said in (("instruction", "output"), ("prompt", "response"), ("question", "answer")):
                if isinstance(row.get(asked), str) and isinstance(row.get(said), str):
                    more = f"\n{row['input']}" if isinstance(row.get("input"), str) and row["input"] else ""
                    return Message("user", row[asked] + more), Message("assistant", row[said])
            return None
    if not isinstance(row, list) or not row:
        return None
    messages = []
    for m in row:
        if (
            not isinstance(m, dict)
            or not isinstance(m.get("content"), str)
            or m.get("role") not in ("system", "user", "assistant")
        ):
            return None
        # Tool calls of other formats are read as plain talk: their results are not in the conversation.
        messages.append(Message(m["role"], m["content"]))
    return tuple(messages)


def alternates(messages: Sequence[Message]) -> bool:
    """Whether user and assistant speak in turn, after an optional system message, and the assistant speaks at all."""
    roles = [m.role for m in messages]
    if roles[:1] == ["system"]:
        roles = roles[1:]
    return len(roles) >= 2 and all(role == ("user", "assistant")[i % 2] for i, role in enumerate(roles))
