"""A corpus that streams: the same documents as by brute force, the same batches after a kill, nothing held out among them,
bounded memory, waiting that is told, and failures that reach the user."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from sprout.common.compute import Compute
from sprout.common.errors import Interrupted, UserError
from sprout.common.hashing import split_of, stable_hash
from sprout.data import Resident, Stream, batch_rows, get_batch, open_corpus, pack, shards
from sprout.data import stream as streaming
from sprout.data.shards import Corpus
from sprout.data.stream import START, Position, windows
from sprout.journal import Journal
from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig
from sprout.train import LoopConfig, make_gradients, train
from tests.corpora import quiet, text, write_corpus

SIZE = 4000  # characters of a window
ROWS, CONTEXT = 7, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("corpus")
    write_corpus(to)
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
    curve = train(model, make_gradients(model, compute), source, config, folder, "test", compute, lambda s: None, journal)
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


@pytest.mark.slow
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
    """40 MB in two shards, of which three windows of 250,000 characters are in memory, some 2 MB each."""
    for name in "ab":
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            for i in range(10_000):
                file.write(json.dumps({"text": f"{name} {i} " + "the rain sings of seven hats. " * 66}) + "\n")
    process = psutil.Process()
    stream = Stream(open_corpus([str(tmp_path)], quiet()), tokenizer, 256, 64, 1, size=250_000)
    stream.batch(0)
    first, peak = process.memory_info().rss, 0
    for step in range(1, 550):
        stream.batch(step)
        peak = max(peak, process.memory_info().rss)
    read = stream.index.positions[-1]
    stream.close()
    assert read.block >= 2 or read.epoch
    assert peak - first < 30e6, f"{(peak - first) / 1e6:.0f} MB"


@pytest.mark.parametrize("name", ["a.parquet", "deep/b.jsonl", "c.jsonl.gz", "d.jsonl.zst", "e.arrow"])
def test_a_shard_that_vanishes_stops_the_run(name, folder, tokenizer, tmp_path):
    """Skipped, it would change the batches of a run that goes on when it is there again."""
    path = tmp_path / Path(name).name
    path.write_bytes((folder / name).read_bytes())
    stream = make(open_corpus([str(path)], quiet()), tokenizer)
    path.unlink()
    with pytest.raises(UserError, match="No such file"):
        stream.batch(0)
    stream.close()
    assert not [t for t in threading.enumerate() if "_work" in t.name]


def test_ctrl_c_while_a_step_waits_saves_and_leaves_no_thread(corpus, tokenizer, tmp_path):
    slow = make(Slow(corpus.blocks, 1, quiet()), tokenizer)
    journal = tmp_path / "live.jsonl"

    def interrupt() -> None:
        """Once steps are taken: a Ctrl-C before would end the tests themselves, on a busy machine."""
        while not (journal.exists() and '"event": "step"' in journal.read_text()):
            time.sleep(0.02)
        time.sleep(0.5)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(Interrupted, match="run the same command to go on"):
        run(slow, tokenizer, tmp_path, 10_000, Journal(journal))
    thread.join()
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


def test_a_corpus_without_a_document_to_train_on_is_refused_and_does_not_loop(tokenizer, tmp_path):
    held_out = next(text(i) for i in range(1000) if split_of(text(i)) == "validation")
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": held_out}) + "\n" + json.dumps({"text": "  "}) + "\n")
    stream = make(open_corpus([str(tmp_path)], quiet()), tokenizer)
    with pytest.raises(UserError, match=r"nothing to train on.*held out"):
        stream.batch(0)
    stream.close()


def test_windows_are_of_the_size_that_is_written(corpus):
    assert streaming.WINDOW == 8_000_000
    sizes = [sum(map(len, texts)) for texts, _ in itertools.islice(windows(corpus, 5, START, SIZE), 5)]
    assert all(SIZE <= n < SIZE + 1000 for n in sizes[:2])


@pytest.mark.slow
def test_a_run_killed_while_it_streams_ends_with_the_same_weights(folder, tmp_path):
    """SIGKILL at moments of pretraining; the same command goes on, to the same bytes."""
    options = ["--text", str(folder), "--tokens", "300000", "--depth", "1", "--vocab-size", "400", "--context", "64", "--batch-tokens", "512",
               "--eval-problems", "1", "--compile", "off", "--threads", "1", "--with-world", "--world.people", "10", "--world.strangers", "60"]  # fmt: skip
    env = {**os.environ, "SPROUT_SAVE_SECONDS": "0.05"}

    def start(run, **more):
        return subprocess.Popen([sys.executable, "-m", "sprout", "pretrain", "--run", str(run), *options], env=env,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)  # fmt: skip

    whole = start(tmp_path / "whole")
    said, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0 and "the text streams" in said, said[-2000:]
    for wait in (0.2, 0.5, 0.9):
        process = start(tmp_path / "killed")
        folders = lambda: list((tmp_path / "killed" / "checkpoints").glob("pretrain-*/step_*"))  # noqa: E731
        known = len(folders())
        while len(folders()) <= min(known, 1) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(wait)
        process.kill()
        process.communicate()
    last = start(tmp_path / "killed")
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0 and ("going on from step" in said or "done before" in said), said[-2000:]
    ours, theirs = ((tmp_path / x / "stages" / "pretrain" / "model.safetensors").read_bytes() for x in ("whole", "killed"))
    assert ours == theirs
