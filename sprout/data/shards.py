"""A corpus that need not fit into memory: shards, and the blocks of which they are made.

A shard is a file, or one of the files of a data set on the hub. A block is a part of it that can be read without what
stands before: a row group of .parquet, a stretch of .txt, .md or .jsonl; a compressed file, an .arrow file and a shard of
the hub are one block each. What is looked at before any work begins: that every shard is there and can be opened, its
schema or footer, its first bytes. What is found damaged later is skipped from there to the end of its block, counted and
said, or with `strict` stops the run.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sprout.common.errors import UserError
from sprout.common.hashing import split_of, stable_hash
from sprout.data.local import (
    LONGEST_LINE,
    SHOWN,
    TEXT_KINDS,
    Border,
    check_hub_name,
    files,
    hub_rows,
    hub_texts,
    json_values,
    pieces,
    row_texts,
    text_column,
    usable,
)
from sprout.data.local import parquet_rows as rows_of_parquet

COMPRESSED = (".gz", ".zst")
# What only a stream reads; the rest can be read whole as well.
STREAM_ONLY = (".arrow", *(kind + c for kind in (".txt", ".md", ".jsonl") for c in COMPRESSED))
SHARD_KINDS = (*TEXT_KINDS, *STREAM_ONLY)
GROWS = {".parquet": 3, ".gz": 3, ".zst": 3}  # times its size, when unpacked (measured on novels)
BLOCK = 8 << 20  # bytes of a stretch of text
PART = 1 << 20  # bytes of text that are cut into documents at once
PEEK = 1 << 16  # bytes at both ends of a shard that its fingerprint is made of


@dataclass(frozen=True, slots=True)
class Block:
    """`start` to `stop` of a shard: bytes, or the number of a row group or of the hub's shard; -1 is the end."""

    shard: str
    kind: str
    start: int = 0
    stop: int = -1


@dataclass(frozen=True, slots=True)
class Corpus:
    """The blocks of all shards, in the order of their names, and a fingerprint: of names, sizes, and both ends of them."""

    blocks: tuple[Block, ...]
    fingerprint: int
    border: Border

    def documents(self, block: int, border: Border | None = None) -> Iterator[str]:
        """The documents of a block, the same ones in the same order every time."""
        return documents(self.blocks[block], border or self.border)


def text_bytes(names: Sequence[str]) -> tuple[int, bool]:
    """How many bytes the files of these names take unpacked, and whether some of them can only be streamed."""
    found = [p for n in names if Path(n).exists() for p in files(n, SHARD_KINDS)]
    size = sum(p.stat().st_size * GROWS.get(p.suffix.lower(), 1) for p in found)
    return size, any(p.name.lower().endswith(STREAM_ONLY) for p in found)


def open_corpus(names: Sequence[str], border: Border) -> Corpus:
    """Look at every shard behind the names: files, folders, data sets of the hub. Raises UserError where there is none,
    for one that is named by itself and can't be opened and, with `strict`, for any."""
    blocks: list[Block] = []
    ends: list[object] = []
    for name in names:
        if not Path(name).exists():
            check_hub_name(name, border)
            shards = hub_rows(name).num_shards
            blocks += [Block(name, "hub", i, i + 1) for i in range(shards)]
            ends += [name, shards]
            continue
        for path in files(name, SHARD_KINDS):
            try:
                blocks += blocks_of(path)
                ends += [path.relative_to(name) if path != Path(name) else path.name, *both_ends(path)]
            except (UserError, *DAMAGE) as error:
                if border.strict or path == Path(name):
                    raise for_people(path, error) from error
                if border.count("unreadable_file") <= SHOWN:
                    border.say(f"skipped a shard: {for_people(path, error)}")
    if not blocks:
        raise UserError(f"no text could be read from {', '.join(names)} ({border.dropped or 'nothing found'}); check the files.")
    return Corpus(tuple(blocks), stable_hash(*ends), border)


def kind_of(path: Path) -> str:
    """The kind of file, that of what is compressed included: .jsonl for x.jsonl.gz."""
    return path.suffixes[-2].lower() if path.suffix.lower() in COMPRESSED else path.suffix.lower()


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a file, once it is known that it can be opened."""
    kind, shard = kind_of(path), str(path)
    if kind == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            text_column(path, file.schema_arrow)
            return [Block(shard, kind, g, g + 1) for g in range(file.metadata.num_row_groups)]
    if kind == ".arrow":
        next(arrow_rows(path), None)
        return [Block(shard, kind)]
    with unpacked(path) as file:
        if b"\0" in file.read(8192):
            raise UserError(f"{path} looks like a binary file (it holds zero bytes); expected UTF-8 text.")
    if path.suffix.lower() in COMPRESSED:
        return [Block(shard, kind)]
    size = path.stat().st_size
    return [Block(shard, kind, at, min(at + BLOCK, size)) for at in range(0, size, BLOCK)]


def both_ends(path: Path) -> tuple[int, str]:
    """Size of a file and a hash of its first and last bytes: a parquet file's last ones say what is in all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(PEEK)
        file.seek(max(0, size - PEEK))
        return size, hashlib.blake2b(first + file.read(PEEK), digest_size=8).hexdigest()


def sample(corpus: Corpus, characters: int, seed: int) -> list[tuple[str, str]]:
    """(split, text) of about `characters` from the beginnings of many blocks, as a picture of the whole."""
    quiet = corpus.border.quiet()
    share = max(characters // len(corpus.blocks), 100_000)
    found: list[tuple[str, str]] = []
    for block in random.Random(seed).sample(range(len(corpus.blocks)), len(corpus.blocks)):
        size = 0
        for text in corpus.documents(block, quiet):
            found.append((split_of(text), text))
            size += len(text)
            if size >= share:
                break
        characters -= size
        if characters <= 0:
            break
    return found


# ---------------------------------------------------------------- the documents of a block


def documents(block: Block, border: Border) -> Iterator[str]:
    """What can be used of a block. Raises UserError where the system can't read it (gone, no permission, a disk that
    fails) or the hub can't be reached: that may be otherwise tomorrow, and the batches would be others; and with `strict`
    for damage."""
    try:
        yield from usable(texts_of_block(block, border), border)
    except (UserError, *DAMAGE) as error:
        if border.strict or block.kind == "hub" or getattr(error.__cause__ or error, "errno", None) is not None:
            raise for_people(Path(block.shard), error) from error
        if border.count("damaged_block") <= SHOWN:
            border.say(f"skipped the rest of a block: {for_people(Path(block.shard), error)}")


def texts_of_block(block: Block, border: Border) -> Iterator[tuple[str, str]]:
    """The documents of a block with their places."""
    path = Path(block.shard)
    if block.kind == "hub":
        return hub_texts(block.shard, shard=block.start)
    if block.kind == ".parquet":
        return row_texts(rows_of_parquet(path, [block.start]), border)
    if block.kind == ".arrow":
        return row_texts(arrow_rows(path), border)
    if block.kind == ".jsonl":
        return row_texts(json_values(lines(block, LONGEST_LINE, whole=True), border), border)
    return prose(block)


def prose(block: Block) -> Iterator[tuple[str, str]]:
    """The text of a block, cut into documents between paragraphs, a part at a time. A part may end in blank lines."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    part: list[str] = []
    size = 0
    where = block.shard
    for where, line in lines(block, PART, whole=False):
        part.append(decoder.decode(line))
        size += len(line)
        if size >= PART:
            yield from ((where, text) for text in pieces("".join(part)) if text.strip())
            part, size = [], 0
    part.append(decoder.decode(b"", final=True))
    yield from ((where, text) for text in pieces("".join(part)) if text.strip())


def lines(block: Block, longest: int, whole: bool) -> Iterator[tuple[str, bytes]]:
    """The lines that begin in a block, with their places. Of a line of more than `longest` bytes comes, with `whole`, only
    the beginning, one byte too long; else all of it, in parts."""
    with unpacked(Path(block.shard)) as file:
        at, begins = block.start, True
        if at:  # the line that ends at or behind the start belongs to the block before
            file.seek(at - 1)
            at -= 1
            while (line := file.readline(PART)) and not line.endswith(b"\n"):
                at += len(line)
            at += len(line)
        while block.stop < 0 or at < block.stop or not begins:
            line = file.readline(longest + 1)
            if not line:
                return
            if begins or not whole:
                yield f"{block.shard} at byte {at}", line.removeprefix(codecs.BOM_UTF8) if at == 0 else line
            at, begins = at + len(line), line.endswith(b"\n")


def unpacked(path: Path) -> IO[bytes]:
    """The file, opened; what is compressed is unpacked while it is read."""
    kind = path.suffix.lower()
    if kind == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    if kind == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def arrow_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows' text of an .arrow file, a stream as `datasets` saves it or a file with a footer."""
    import pyarrow
    from pyarrow import ipc

    try:
        with pyarrow.OSFile(str(path)) as source:
            try:
                reader = ipc.open_stream(source)
                batches = iter(reader)
            except pyarrow.ArrowInvalid:
                source.seek(0)
                reader = ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            column = text_column(path, reader.schema)
            number = 0
            for batch in batches:
                for text in batch.column(column).to_pylist():
                    number += 1
                    yield f"{path} row {number}", {"text": text}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no arrow file, or a damaged one: {error}") from error


def for_people(path: Path, error: Exception) -> UserError:
    """What a reader raised, as a sentence."""
    if isinstance(error, UserError):
        return error
    return UserError(f"{path} can't be read, or is damaged: {getattr(error, 'strerror', None) or error}.")


# What readers raise for a file that is not what it should be; ValueError: ArrowInvalid and bytes that are no UTF-8.
DAMAGE = (OSError, EOFError, ValueError, zlib.error)
