"""Text from the user's own files, checked at the border; `chats.py` does the same for conversations.

The rules: what can't be used inside a file (a line, a row, a conversation), and a file that can't be read inside a folder,
is skipped, counted and said, or with `strict` stops the run; a file named by itself that can't be read always stops it.
The split of a document or conversation is decided by a hash of its content.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sprout.common.errors import UserError
from sprout.common.hashing import split_of

T = TypeVar("T")
Read = Callable[["Path", "Border"], Iterator[tuple[str, Any]]]  # a file to pairs of where and what

TEXT_KINDS = (".txt", ".md", ".jsonl", ".parquet")
CHAT_KINDS = (".jsonl", ".json")
LONGEST_LINE = 10_000_000  # bytes; a longer line is no document
LONGEST_DOCUMENT = 100_000  # characters; a longer row is a book, and cut like a text file
HUB_DOCUMENTS = 20_000  # documents taken from a data set of the hub
SHOWN = 3  # skipped things of a kind that are said one by one
PARQUET_GROWS = 3  # times its size, when a parquet file of text is unpacked (measured on novels)


@dataclass(frozen=True, slots=True)
class Border:
    """What is done with what can't be used: `skip` says where it is and what was expected, and counts it in `dropped`;
    with `strict` it raises UserError."""

    strict: bool = False
    say: Callable[[str], None] = print
    dropped: dict[str, int] = field(default_factory=dict)

    def skip(self, rule: str, where: str, expected: str) -> None:
        sentence = f"{where}: {rule.replace('_', ' ')}; expected {expected}"
        if self.strict:
            raise UserError(f"{sentence}. Mend the file.")
        count = self.count(rule)
        if count <= SHOWN:
            self.say(f"skipped {sentence}" + (" (more like this are only counted)" if count == SHOWN else ""))

    def quiet(self) -> Border:
        """One with the same rules that says and counts for itself, for what has been said."""
        return Border(self.strict, lambda sentence: None)

    def count(self, rule: str) -> int:
        """One more of a kind; how many that makes."""
        self.dropped[rule] = self.dropped.get(rule, 0) + 1
        return self.dropped[rule]


# ---------------------------------------------------------------- files


def files(name: str, kinds: Sequence[str]) -> list[Path]:
    """The file itself, or all files of these kinds in the folder and below. Raises UserError where there is none."""
    path = Path(name)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.name.lower().endswith(tuple(kinds)) and p.is_file())
        if not found:
            raise UserError(f"the folder {path} holds no {', '.join(kinds)} file; give another one.")
        return found
    if not path.name.lower().endswith(tuple(kinds)):
        raise UserError(f"{path} is no {', '.join(kinds)} file; convert it or give another one.")
    if not path.is_file():
        raise UserError(f"{path} is a device or a pipe; expected a file or a folder.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; expected text.")
    return [path]


def check_memory(texts: Sequence[str], chats: Sequence[str], free: int | None) -> None:
    """Raise UserError, before anything is read, where the files alone take more than `free` bytes of memory."""
    found = [p for names, kinds in ((texts, TEXT_KINDS), (chats, CHAT_KINDS)) for n in names if Path(n).exists() for p in files(n, kinds)]  # fmt: skip
    need = sum(p.stat().st_size * (PARQUET_GROWS if p.suffix.lower() == ".parquet" else 1) for p in found)
    if free is not None and need > free:
        raise UserError(
            f"the files of --text and --chat take at least {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; "
            "give fewer of them."
        )


def each_file(name: str, kinds: Sequence[str], border: Border, read: Read) -> Iterator[tuple[str, Any]]:
    """What `read` finds in the file, or in all files of the folder."""
    for path in files(name, kinds):
        try:
            yield from read(path, border)
        except UserError as error:
            if border.strict or path == Path(name):
                raise
            if border.count("unreadable_file") <= SHOWN:
                border.say(f"skipped a file: {error}")


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises UserError where the system refuses, and for a binary."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}.") from error
    if b"\0" in raw[:8192]:
        raise UserError(f"{path} looks like a binary file (it holds zero bytes); expected UTF-8 text.")
    return raw


def read_utf8(path: Path) -> str:
    """A file's text. Raises UserError for a binary or for bytes that are no UTF-8, with their place."""
    raw = read_bytes(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8."
        ) from error


def json_lines(path: Path, border: Border) -> Iterator[tuple[str, Any]]:
    """Where and what, for every line of the file that holds a JSON value."""
    lines = enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    return json_values(((f"{path} line {number}", line) for number, line in lines), border)


def json_values(lines: Iterable[tuple[str, bytes]], border: Border) -> Iterator[tuple[str, Any]]:
    """Where and what, for every line that holds a JSON value."""
    for where, line in lines:
        if not line.strip():
            continue
        if len(line) > LONGEST_LINE:
            border.skip("line_too_long", where, f"at most {LONGEST_LINE:,} bytes")
            continue
        try:
            yield where, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            border.skip("not_UTF-8", where, f"UTF-8, got byte 0x{line[error.start]:02x}")
        except (ValueError, RecursionError):
            border.skip("malformed_JSON", where, f"one JSON value a line, got {line[:60].decode('utf-8', 'replace')!r}")


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: JSON can spell halves of characters that can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def train_and_validation(found: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Things by split; a test split is not set apart. Too few for both splits to have some: all are in both."""
    parts: dict[str, list[T]] = {"train": [], "validation": []}
    for split, thing in found:
        parts["validation" if split == "validation" else "train"].append(thing)
    if not parts["train"] or not parts["validation"]:
        everything = parts["train"] + parts["validation"]
        return {"train": everything, "validation": everything}
    return parts


# ---------------------------------------------------------------- text


def local_texts(names: Sequence[str], border: Border) -> Iterator[tuple[str, str]]:
    """(split, text) of all documents behind the names: files, folders, or a data set's name on the hub."""
    for name in names:
        if Path(name).exists():
            found = each_file(name, TEXT_KINDS, border, texts_of)
        else:
            check_hub_name(name, border)
            found = hub_texts(name, HUB_DOCUMENTS)
        yield from ((split_of(text), text) for text in usable(found, border))


def check_hub_name(name: str, border: Border) -> None:
    """Raise UserError for what is neither there nor may be a data set of the hub, and say that the hub is asked."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name[0] == "." or Path(name).suffix.lower() in TEXT_KINDS:
        raise UserError(f"there is no file or folder {name}; check the path (a hub data set is written owner/name).")
    border.say(f"there is no file or folder {name} here; asking the hub for a data set of that name")


def usable(found: Iterable[tuple[str, str]], border: Border) -> Iterator[str]:
    """The documents that hold text that can be written."""
    for where, text in found:
        if not text.strip():
            border.skip("empty_document", where, "some text")
        elif not is_unicode(text):
            border.skip("half_a_character", where, "whole ones: a \\ud800 to \\udfff by itself is none")
        else:
            yield text


def texts_of(path: Path, border: Border) -> Iterator[tuple[str, str]]:
    """The documents of a file, with their places."""
    kind = path.suffix.lower()
    if kind in (".txt", ".md"):
        return ((str(path), text) for text in pieces(read_utf8(path)))
    return row_texts(parquet_rows(path) if kind == ".parquet" else json_lines(path, border), border)


def row_texts(rows: Iterable[tuple[str, Any]], border: Border) -> Iterator[tuple[str, str]]:
    """The documents of rows, with their places."""
    for where, row in rows:
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str):
            border.skip("no_text", where, 'an object with a "text" field')
        elif len(text) > LONGEST_DOCUMENT:
            yield from ((where, piece) for piece in pieces(text))
        else:
            yield where, text


def pieces(text: str, size: int = 2000, borders: Sequence[str] = ("\n\n", "\n", " ")) -> Iterator[str]:
    """A long text cut into documents of about `size` characters, so that a single file has parts in every split: between
    paragraphs, and what is still too long between lines, words, and at last anywhere."""
    if not borders:
        yield from (text[i : i + size] for i in range(0, len(text), size))
        return
    part: list[str] = []
    length = 0
    for paragraph in text.replace("\r\n", "\n").split(borders[0]):
        if length + len(paragraph) > size and part:
            yield borders[0].join(part)
            part, length = [], 0
        if len(paragraph) > 2 * size:
            yield from pieces(paragraph, size, borders[1:])
        else:
            part.append(paragraph)
            length += len(paragraph)
    if part:
        yield borders[0].join(part)


def text_column(path: Path, schema: Any) -> str:
    """The column named text, or else the first that holds strings. Raises UserError where none does."""
    strings = [n for n in schema.names if str(schema.field(n).type) in ("string", "large_string", "string_view")]
    if not strings:
        raise UserError(f"{path} has no column of strings, only {', '.join(schema.names)}; expected one named text.")
    return "text" if "text" in strings else strings[0]


def parquet_rows(path: Path, groups: Sequence[int] | None = None) -> Iterator[tuple[str, Any]]:
    """The rows' text, of all row groups or of these, a batch in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        # With a buffer a row group isn't unpacked whole.
        with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20) as file:
            column = text_column(path, file.schema_arrow)
            number = sum(file.metadata.row_group(g).num_rows for g in range(min(groups))) if groups else 0
            for batch in file.iter_batches(batch_size=1024, row_groups=groups, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield f"{path} row {number}", {"text": text}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no parquet file, or a damaged one: {error}") from error


def hub_texts(name: str, most: int | None = None, shard: int | None = None) -> Iterator[tuple[str, str]]:
    """The documents of a data set on the hub, which comes in a stream: the first `most`, or those of one shard."""
    rows = hub_rows(name)
    try:
        if shard is not None:
            rows = rows.shard(num_shards=rows.num_shards, index=shard)
        for i, row in enumerate(itertools.islice(rows, most)):
            text = row.get("text") or next((v for v in row.values() if isinstance(v, str)), "")
            yield f"{name} row {i + 1}" + (f" of shard {shard}" if shard is not None else ""), text
    except Exception as error:  # the library has no common class for 'no network'
        raise no_hub(name, error) from error


def hub_rows(name: str) -> Any:
    """The data set's rows, an iterable of which nothing but the list of files is read yet."""
    import datasets

    try:
        return datasets.load_dataset(name, split="train", streaming=True)
    except Exception as error:  # nor for 'not there'
        raise no_hub(name, error) from error


def no_hub(name: str, error: Exception) -> UserError:
    return UserError(
        f"there is no file or folder {name}, and as a data set of the hub it could not be read ({type(error).__name__}: "
        f"{str(error)[:200]}). If you are offline, download its files elsewhere and give their folder to --text; if not, "
        "check the name (owner/name)."
    )
