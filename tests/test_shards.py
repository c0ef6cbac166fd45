"""Shards and blocks: every document once wherever blocks end, damage, what is refused before any work, and the recipe's
choice between a stream and memory."""

import gzip
import itertools
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.errors import UserError
from sprout.common.hashing import split_of
from sprout.data import Border, Stream, open_corpus, sample, shards
from sprout.data.shards import Block, lines
from sprout.recipe.config import GrowConfig
from sprout.recipe.sources import read_local, streams
from tests.corpora import quiet, text, write_corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("corpus")
    write_corpus(to)
    return to


@settings(deadline=None, max_examples=150)
@given(st.lists(st.text("ab \n\rü", max_size=9)), st.integers(1, 20), st.booleans())
def test_every_line_is_in_one_block_wherever_blocks_end(tmp_path_factory, words, block, ends):
    path = tmp_path_factory.mktemp("lines") / "x.txt"
    raw = "\n".join(words).encode() + b"\n" * ends
    path.write_bytes(raw)
    blocks = [Block(str(path), ".txt", at, min(at + block, len(raw))) for at in range(0, len(raw), block)]
    assert [line for b in blocks for _, line in lines(b, 10**6, whole=True)] == raw.splitlines(keepends=True) or b"\r" in raw
    assert b"".join(line for b in blocks for _, line in lines(b, 3, whole=False)) == raw  # in parts: nothing is lost
    assert [line for b in blocks for _, line in lines(b, 3, whole=True)] == [x[:4] for x in re.findall(rb"[^\n]*\n|[^\n]+$", raw)]


def test_prose_is_cut_into_documents_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", 5000)
    monkeypatch.setattr(shards, "PART", 1500)
    written = "\n\n".join(text(i) for i in range(200)) + "\n" + "ö" * 9000 + " end\n"  # a line longer than part and block
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbf" + written.encode())
    corpus = open_corpus([str(tmp_path / "x.txt")], quiet(strict=True))
    found = [x for i in range(len(corpus.blocks)) for x in corpus.documents(i)]
    assert "".join("".join(found).split()) == "".join(written.split())
    assert len(corpus.blocks) > 4 and max(map(len, found)) <= 4000


@pytest.mark.parametrize("name", ["a.parquet", "c.jsonl.gz", "e.arrow"])
def test_a_shard_damaged_in_the_middle_is_skipped_from_there_and_counted_or_stops(name, folder, tokenizer, tmp_path):
    raw = (folder / name).read_bytes()
    if name == "c.jsonl.gz":  # long enough that the damage isn't seen at the border
        raw = gzip.compress(b"".join(json.dumps({"text": text(i)}).encode() + b"\n" for i in range(300)))
    middle = len(raw) // 4 if name == "a.parquet" else len(raw) // 2
    damaged = raw[:middle] if name != "a.parquet" else raw[:middle] + b"\xff" * 60 + raw[middle + 60 :]
    (tmp_path / name).write_bytes(damaged)
    (tmp_path / "sound.jsonl").write_text("".join(json.dumps({"text": text(i)}) + "\n" for i in range(100)))
    said = []
    corpus = open_corpus([str(tmp_path)], Border(False, said.append))
    found = set(itertools.chain.from_iterable(corpus.documents(i) for i in range(len(corpus.blocks))))
    assert corpus.border.dropped == {"damaged_block": 1} and len(said) == 1 and name in said[0], said
    assert {text(i) for i in range(100)} <= found | {text(i) for i in range(50)} and found <= {text(i) for i in range(300)}
    stream = Stream(open_corpus([str(tmp_path)], quiet(strict=True)), tokenizer, 48, 7, 5, size=4000)
    with pytest.raises(UserError, match=re.escape(name)):
        for step in range(60):
            stream.batch(step)
    with pytest.raises(UserError, match=re.escape(name)):  # nor does it hang afterwards
        stream.batch(60)
    stream.close()


def test_what_can_be_seen_before_is_refused_before(folder, tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2]}), tmp_path / "numbers.parquet")
    (tmp_path / "torn.parquet").write_bytes((folder / "a.parquet").read_bytes()[:-20])
    (tmp_path / "no.jsonl.gz").write_bytes(b"this was never packed")
    (tmp_path / "binary.txt").write_bytes(b"\0" * 100)
    for name, message in (("numbers.parquet", "no column of strings"), ("torn.parquet", "can't be read, or is damaged"),
                          ("no.jsonl.gz", "can't be read, or is damaged"), ("binary.txt", "binary file")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            open_corpus([str(tmp_path / name)], quiet())
    with pytest.raises(UserError, match="no text could be read"):
        open_corpus([str(tmp_path)], quiet())
    (tmp_path / "sound.txt").write_text("once upon a time")
    border = quiet()
    assert len(open_corpus([str(tmp_path)], border).blocks) == 1 and border.dropped == {"unreadable_file": 4}
    with pytest.raises(UserError):
        open_corpus([str(tmp_path)], quiet(strict=True))
    with pytest.raises(UserError, match="no file or folder"):
        open_corpus([str(tmp_path / "absent")], quiet())


def test_what_streams_is_decided_by_wish_size_kind_and_how_the_run_began(folder, tmp_path, monkeypatch):
    def config(**more) -> GrowConfig:
        return GrowConfig(run=tmp_path / "run", text=(str(folder),), **more)

    assert streams(config()) and not streams(config(stream="off")) and not streams(GrowConfig(run=tmp_path / "run"))
    plain = replace(config(), text=(str(folder / "deep"),))
    assert not streams(plain) and streams(replace(plain, stream="on"))
    monkeypatch.setattr("sprout.recipe.sources.STREAM_ABOVE", 100)
    assert streams(plain)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "grow.json").write_text("{}")
    assert not streams(plain)
    (tmp_path / "run" / "grow.json").write_text('{"streamed": "True"}')
    assert streams(plain)
    for wrong in ({"stream": "yes"}, {"stream": "on", "text": ()}):
        with pytest.raises(UserError, match="stream"):
            replace(config(), **wrong)


def test_the_sample_is_a_picture_of_the_whole_and_its_splits_those_of_the_stream(folder, tmp_path):
    local = read_local(GrowConfig(run=tmp_path / "run", text=(str(folder),), stream="on"), lambda s: None)
    train, held_out = (set(local["texts"][x]) for x in ("train", "validation"))
    assert train | held_out == {text(i) for i in range(300)} and all(split_of(x) == "validation" for x in held_out)
    few = {x for _, x in sample(local["corpus"], 3000, 1)}
    assert few < train | held_out
    again = read_local(GrowConfig(run=tmp_path / "run", text=(str(folder),), stream="on"), lambda s: None)
    assert again["fingerprint"] == local["fingerprint"]


def test_a_data_set_of_the_hub_is_read_shard_by_shard(folder, tokenizer, monkeypatch):
    """The library's own stream, of files here: the hub is the edge of the world."""
    import datasets

    load = datasets.load_dataset
    paths = [str(folder / "a.parquet"), str(folder / "b.parquet")]
    (folder / "b.parquet").write_bytes((folder / "a.parquet").read_bytes())
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **more: load("parquet", data_files=paths, **more))
    corpus = open_corpus(["some/thing"], quiet())
    assert corpus.blocks == (Block("some/thing", "hub", 0, 1), Block("some/thing", "hub", 1, 2))
    for block in (0, 1):
        assert list(corpus.documents(block)) == [text(i) for i in range(50)]
    (folder / "b.parquet").unlink()
