"""A corpus that streams: the same documents as by brute force, the same batches after a kill, nothing held out among them,
bounded memory, waiting that is told, and failures that reach the user."""

import gzip
import itertools
import json
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.compute import Compute
from sprout.common.errors import Interrupted, UserError
from sprout.common.hashing import split_of, stable_hash
from sprout.data import Border, Stream, batch_rows, get_batch, open_corpus, pack, sample, shards
from sprout.data import stream as streaming
from sprout.data.shards import Block, Corpus, lines
from sprout.data.stream import START, Position, windows
from sprout.journal import Journal
from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig
from sprout.recipe.config import GrowConfig
from sprout.recipe.sources import read_local, streams
from sprout.train import LoopConfig, make_loss, train

SIZE = 4000  # characters of a window
ROWS, CONTEXT = 7, 48


def quiet(strict: bool = False) -> Border:
    return Border(strict, lambda sentence: None)


def text(i: int) -> str:
    """Document i, which no other resembles."""
    dice = random.Random(i)
    return f"document {i}: " + " ".join(dice.choice(("the", "rain", "sings", "älter", "of", "seven", "hats")) for _ in range(dice.randrange(60)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 documents as shards of six kinds; 50 of each."""
    import pyarrow
    import pyarrow.parquet
    from pyarrow import ipc

    to = tmp_path_factory.mktemp("corpus")
    parts = [[text(i) for i in range(k * 50, k * 50 + 50)] for k in range(6)]
    jsonl = [b"".join(json.dumps({"text": x}).encode() + b"\n" for x in part) for part in parts]
    pyarrow.parquet.write_table(pyarrow.table({"text": parts[0]}), to / "a.parquet", row_group_size=12)
    (to / "deep").mkdir()
    (to / "deep" / "b.jsonl").write_bytes(jsonl[1])
    (to / "c.jsonl.gz").write_bytes(gzip.compress(jsonl[2]))
    with pyarrow.output_stream(str(to / "d.jsonl.zst"), compression="zstd") as out:
        out.write(jsonl[3])
    for name, part, write in (("e", parts[4], ipc.new_stream), ("f", parts[5], ipc.new_file)):
        table = pyarrow.table({"id": list(range(50)), "text": part})
        with write(str(to / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
    return to


@pytest.fixture
def corpus(folder, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", 1000)
    return open_corpus([str(folder)], quiet())


def make(corpus: Corpus, tokenizer, index=None, **more) -> Stream:
    return Stream(corpus, tokenizer, CONTEXT, ROWS, 5, index, size=SIZE, **more)


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, x), getattr(b, x)) for x in ("ids", "targets", "segments"))


# ---------------------------------------------------------------- which documents, in which order


def test_an_epoch_has_every_document_once_and_none_held_out(corpus):
    assert {b.kind for b in corpus.blocks} == {".parquet", ".jsonl", ".arrow"} and len(corpus.blocks) > 10
    expected = Counter(text(i) for i in range(300) if split_of(text(i)) != "validation")
    assert 200 < len(expected) < 300
    found, orders = Counter(), {}
    for texts, after in windows(corpus, 5, START, SIZE):
        epoch = after.epoch - (after == Position(after.epoch, 0, 0))
        if epoch == 2:
            break
        found.update(texts)
        orders.setdefault(epoch, []).extend(texts)
    assert found == expected + expected and orders[0] != orders[1]


def test_batches_are_those_of_the_same_documents_by_brute_force(corpus, tokenizer):
    """Every block read whole, its documents cut into windows, shuffled, packed and shuffled once more, all in memory."""
    end = tokenizer.specials["<|endoftext|>"]
    rows, at, parts = [], START, []
    for epoch in range(2):
        for place, block in enumerate(np.random.default_rng([5, epoch]).permutation(len(corpus.blocks)).tolist()):
            documents = list(corpus.documents(block))
            for number, document in enumerate(documents, 1):
                if split_of(document) == "validation":
                    continue
                parts.append(document)
                if sum(map(len, parts)) >= SIZE:
                    rows.append((at, parts))
                    at, parts = Position(epoch, place, number), []
        rows.append((at, parts))
        at, parts = Position(epoch + 1, 0, 0), []
    arrays = []
    for at, parts in rows:
        seed = stable_hash(5, *at)
        random.Random(seed).shuffle(parts)
        packed = pack([([end, *tokenizer.encode(x), end], None) for x in parts], CONTEXT, end)
        order = np.random.default_rng(seed).permutation(len(packed))
        arrays.append(replace(packed, tokens=packed.tokens[order], segments=packed.segments[order], counted=packed.counted[order]))
    whole = replace(arrays[0], **{x: np.concatenate([getattr(a, x) for a in arrays]) for x in ("tokens", "segments", "counted")})
    stream = make(corpus, tokenizer)
    for step in range(len(whole) // ROWS):
        mine = np.arange(step * ROWS, step * ROWS + ROWS)
        assert same(stream.batch(step), get_batch(whole, mine))
    assert step > 40 and stream.index.positions[-1].epoch == 2
    three = [make(corpus, tokenizer) for _ in range(3)]  # three processes share a batch
    for step in range(12):
        batches = [s.batch(step, rank, 3) for rank, s in enumerate(three)]
        for rank, batch in enumerate(batches):
            assert same(batch, get_batch(whole, np.arange(step * ROWS, step * ROWS + ROWS)[rank::3]))
    for s in (stream, *three):
        s.close()


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


def test_another_seed_gives_another_order(corpus):
    one, same_one, other = (next(windows(corpus, seed, START, SIZE))[0] for seed in (5, 5, 6))
    assert one == same_one != other


def test_documents_of_another_source_are_mixed_in_turn_by_turn(corpus, tokenizer):
    stream = make(corpus, tokenizer, mix=lambda seed: (f"from elsewhere {seed} {i}" for i in itertools.count()))
    said = tokenizer.decode(stream.batch(0).ids.flatten().tolist())
    stream.close()
    assert "elsewhere" in said and "document" in said


# ---------------------------------------------------------------- going on


def test_who_goes_on_gets_the_batches_and_reads_nothing_before_them(corpus, tokenizer, tmp_path, monkeypatch):
    whole = make(corpus, tokenizer)
    expected = [whole.batch(step) for step in range(40)]
    whole.close()
    index = tmp_path / "run" / "stream.jsonl"
    first = make(corpus, tokenizer, index)
    assert all(same(first.batch(step), expected[step]) for step in range(25))
    first.close()
    written = index.read_bytes()
    index.write_bytes(written[:-3])  # killed within a line
    opened = []
    monkeypatch.setattr(Corpus, "documents", lambda self, block, border=None: opened.append(block) or shards.documents(self.blocks[block], self.border))
    again = make(corpus, tokenizer, index)
    assert same(again.batch(25), expected[25])
    again.close()
    place = again.index.positions[again.index.window_of(25 * ROWS)].block
    order = np.random.default_rng([5, 0]).permutation(len(corpus.blocks)).tolist()
    assert place > 2 and opened and opened[0] == order[place]
    assert all(same(b, expected[step]) for step, b in ((s, again.batch(s)) for s in (26, 27, 39, 3, 39)))  # and back
    again.close()
    reader = make(corpus, tokenizer, index, write=False)
    before = index.read_bytes()
    assert before.startswith(written[:40]) and same(reader.batch(30), expected[30])
    reader.close()
    assert index.read_bytes() == before
    for damage in (b"", b"nonsense\n", b'{"key": "of another corpus"}\n[3, 0, 1, 0]\n'):
        index.write_bytes(damage)
        anew = make(corpus, tokenizer, index)
        assert same(anew.batch(25), expected[25])
        anew.close()


def tiny(tokenizer) -> GPT:
    return GPT(GPTConfig(tokenizer.vocab_size, CONTEXT, 1, 16, 2, 1, 8, 32), seed=3)


def run(source, tokenizer, folder, steps, journal=None):
    model = tiny(tokenizer)
    config = LoopConfig(steps, ROWS, ROWS, 1, 0, 1, OptimConfig(), save_seconds=0.0, log_every=1)
    compute = Compute("cpu", torch.float32, False, 1, ())
    curve = train(model, make_loss(model, compute), source, config, folder, "test", compute, lambda s: None, journal)
    return [p["loss"] for p in curve], model


class Stop(Exception):
    pass


def test_training_that_stops_anywhere_goes_on_with_the_batches_it_would_have_had(corpus, tokenizer, tmp_path):
    losses, model = run(make(corpus, tokenizer), tokenizer, tmp_path / "a", 12)

    class Dies(Stream):
        def batch(self, step, *more):
            if step == 7:
                raise Stop
            return super().batch(step, *more)

    with pytest.raises(Stop):
        run(Dies(corpus, tokenizer, CONTEXT, ROWS, 5, tmp_path / "b" / "stream.jsonl", size=SIZE), tokenizer, tmp_path / "b", 12)
    again, other = run(make(corpus, tokenizer, tmp_path / "b" / "stream.jsonl"), tokenizer, tmp_path / "b", 12)
    assert again == losses and len(losses) == 12
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert not [t for t in threading.enumerate() if "_work" in t.name]


def test_rows_in_memory_come_as_they_always_did(tokenizer, tmp_path):
    packed = pack([(list(range(1, 40 + i)), None) for i in range(60)], CONTEXT, 0)
    from sprout.data import Resident

    for step in (0, 3, 11):
        for rank in range(2):
            expected = get_batch(packed, batch_rows(len(packed), ROWS, step, 9)[rank::2])
            assert same(Resident(packed, ROWS, 9).batch(step, rank, 2), expected)


# ---------------------------------------------------------------- waiting, memory, failures


class Slow(Corpus):
    def documents(self, block, border=None):
        for document in Corpus.documents(self, block, border):
            time.sleep(0.03)
            yield document


def test_a_slow_source_makes_steps_wait_and_that_is_told(corpus, tokenizer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sprout.journal.STEP_SECONDS", 0.0)
    slow = make(Slow(corpus.blocks, 1, quiet()), tokenizer)
    began = time.perf_counter()
    run(slow, tokenizer, tmp_path, 16, Journal(tmp_path / "live.jsonl"))
    seconds = time.perf_counter() - began
    assert 0.3 < slow.waited + slow.first_wait < seconds and slow.waited > 0.2
    steps = [json.loads(x) for x in (tmp_path / "live.jsonl").read_text().splitlines() if '"step"' in x]
    assert [s["waited"] for s in steps if "waited" in s][-1] == pytest.approx(slow.waited, abs=1e-4)
    assert re.search(r"waited \d+\.\d s for text", capsys.readouterr().err)


def test_memory_stays_bounded(tokenizer, tmp_path):
    """80 MB in two shards, read whole they take more than that; the windows of 250,000 characters are some 2 MB each."""
    for name in "ab":
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            for i in range(20_000):
                file.write(json.dumps({"text": f"{name} {i} " + "the rain sings of seven hats. " * 66}) + "\n")
    process = psutil.Process()
    stream = Stream(open_corpus([str(tmp_path)], quiet()), tokenizer, 256, 64, 1, size=250_000)
    stream.batch(0)
    first, peak = process.memory_info().rss, 0
    for step in range(1, 1100):
        stream.batch(step)
        peak = max(peak, process.memory_info().rss)
    read = stream.index.positions[-1]
    stream.close()
    assert read.block >= 3 or read.epoch
    assert peak - first < 30e6, f"{(peak - first) / 1e6:.0f} MB"


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
    stream = make(open_corpus([str(tmp_path)], quiet(strict=True)), tokenizer)
    with pytest.raises(UserError, match=re.escape(name)):
        for step in range(60):
            stream.batch(step)
    with pytest.raises(UserError, match=re.escape(name)):  # nor does it hang afterwards
        stream.batch(60)
    stream.close()


def test_a_shard_that_vanishes_stops_the_run(folder, tokenizer, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": text(i)}) + "\n" for i in range(50)))
    stream = make(open_corpus([str(path)], quiet()), tokenizer)
    path.unlink()
    with pytest.raises(UserError, match=r"x.jsonl can't be read.*No such file"):
        stream.batch(0)
    stream.close()
    assert not [t for t in threading.enumerate() if "_work" in t.name]


def test_ctrl_c_while_a_step_waits_saves_and_leaves_no_thread(corpus, tokenizer, tmp_path):
    slow = make(Slow(corpus.blocks, 1, quiet()), tokenizer)
    timer = threading.Timer(1.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(Interrupted, match="run the same command to go on"):
        run(slow, tokenizer, tmp_path, 10_000)
    timer.join()
    assert list(tmp_path.glob("step_*")) and not [t for t in threading.enumerate() if "_work" in t.name]


def test_closing_ends_the_thread_whatever_it_does(corpus, tokenizer):
    for steps in (0, 1, 5):
        stream = make(corpus, tokenizer)
        for step in range(steps):
            stream.batch(step)
        began = time.perf_counter()
        stream.close()
        stream.close()
        assert time.perf_counter() - began < 2 and not [t for t in threading.enumerate() if "_work" in t.name]


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


def test_a_corpus_without_a_document_to_train_on_is_refused_and_does_not_loop(tokenizer, tmp_path):
    held_out = next(text(i) for i in range(1000) if split_of(text(i)) == "validation")
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": held_out}) + "\n" + json.dumps({"text": "  "}) + "\n")
    stream = make(open_corpus([str(tmp_path)], quiet()), tokenizer)
    with pytest.raises(UserError, match=r"nothing to train on.*held out"):
        stream.batch(0)
    stream.close()


# ---------------------------------------------------------------- the recipe


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


def test_windows_are_of_the_size_that_is_written(corpus):
    assert streaming.WINDOW == 8_000_000
    sizes = [sum(map(len, texts)) for texts, _ in itertools.islice(windows(corpus, 5, START, SIZE), 5)]
    assert all(SIZE <= n < SIZE + 1000 for n in sizes[:2])
