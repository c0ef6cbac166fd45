"""The C core against the Python code: id for id, merge for merge, whatever the text."""

from __future__ import annotations

import importlib.util
import itertools
import random
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sprout.tokenizer import Tokenizer, native
from sprout.tokenizer.bpe import train_merges
from sprout.tokenizer.tokenizer import PATTERN

pytestmark = pytest.mark.skipif(bool(native.ABSENT), reason=native.say())

# What the pattern treats specially, and characters of one to four bytes of every class.
PIECES = [
    "'", "s", "S", "ſ", "t", "re", "vE", "LL", "m", "d", " ", "  ", "\n", "\r\n", "\t", "\x1c", "\x85", "\xa0", "\u2028", "\u3000",
    "a", "Z", "é", "ß", "Ω", "я", "漢", "𝔄", "1", "7", "٣", "²", "ⅷ", "𝟗", "!", "-", "_", "€", "…", "\u0301", "🦊", "\x00", "\U0010ffff",
]  # fmt: skip
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
SAMPLE = "The fox's den isn't far; we'll go at 12:30.\n\n  It's 482 + 395!  Über Mira, naïve 漢字 и мир… 🦊🦊\t" * 3


@pytest.fixture(scope="module")
def pair() -> tuple[Tokenizer, Tokenizer]:
    fast = Tokenizer.train([SAMPLE], 420)
    return fast, Tokenizer(fast.tokens, fast.merges, use_native=False)


@settings(max_examples=600, deadline=None)
@given(texts)
@example("a" * 65)  # longer than what is remembered
@example("'ſ 'S 's'")
def test_ids(pair: tuple[Tokenizer, Tokenizer], text: str) -> None:
    fast, plain = pair
    assert fast._core is not None and plain._core is None
    want = plain.encode(text)
    assert fast.encode(text) == want == fast.encode_array(text).tolist() == plain.encode_array(text).tolist()
    assert fast.decode(np.array(want)) == fast.decode(want) == text


@pytest.fixture(scope="module", params=["as it is here", "without vectors"])
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The C core; and as machines without SSE2 build it."""
    if request.param == "as it is here":
        return native._native
    compiler, folder = shutil.which("cc") or shutil.which("gcc"), Path(native.__file__).parent
    if not compiler:
        pytest.skip("no C compiler")
    file = tmp_path_factory.mktemp("core") / "_native.so"
    sources = [str(folder / name) for name in ("native.c", "learn.c")]
    include = sysconfig.get_paths()["include"]
    subprocess.run([compiler, "-O1", "-U__SSE2__", "-fPIC", "-shared", f"-I{include}", *sources, "-o", str(file)], check=True)
    spec = importlib.util.spec_from_file_location("_native", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_words_cut_many_at_once(core: ModuleType) -> None:
    """Texts longer than the 64 bytes in which words are looked for together, most of them plain, of few or many kinds of pieces."""
    rng, split = random.Random(4), regex.compile(PATTERN).findall
    plain = [*"'stmdVelra1!-,.\"_@[`{/:~zZA", "ll", "re", "word", " ", "  ", "\n", "\r", "\t", "\x7f"]
    for _ in range(4000):
        pieces = rng.choice([plain, rng.sample(plain, 5), rng.sample(plain, 5) + rng.sample(PIECES, 2), PIECES])
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 300)))
        trainer = core.Trainer(native.classes())
        trainer.feed(text)
        assert trainer.words() == Counter(word.encode() for word in split(text)), text


@settings(max_examples=40, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), st.integers(0, 60))
def test_merges(some: list[str], merges: int) -> None:
    counts = Counter(word for text in some for word in regex.findall(PATTERN, text))
    assert native.train_merges(some, merges) == train_merges({w.encode(): n for w, n in counts.items()}, merges)


def test_merges_with_many_ties_and_repeated_letters() -> None:
    rng = random.Random(1)
    for alphabet in ("a", "ab", "abc", "aé漢"):
        some = [" ".join("".join(rng.choices(alphabet, k=rng.randrange(1, 12))) for _ in range(300))]
        counts = Counter(regex.findall(PATTERN, some[0]))
        assert native.train_merges(some, 400) == train_merges({w.encode(): n for w, n in counts.items()}, 400)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), st.integers(0, 60), st.sampled_from([1, 2, 3, 7, 1000]))
def test_merges_do_not_depend_on_the_floor(some: list[str], merges: int, floor: int) -> None:
    """Pairs below it come into play when the others have run out."""
    counts = Counter(word for text in some for word in regex.findall(PATTERN, text))
    trainer, other = native._native.Trainer(native.classes()), native._native.Trainer(native.classes())
    trainer.feed(some[::2])
    other.feed(some[1::2])
    trainer.absorb(other)
    assert trainer.words() == {w.encode(): n for w, n in counts.items()}
    learned = np.frombuffer(trainer.learn(merges, floor), np.uint32).reshape(-1, 2).tolist()
    assert [tuple(p) for p in learned] == train_merges({w.encode(): n for w, n in counts.items()}, merges)
    with pytest.raises(TypeError):
        trainer.absorb(trainer)


def test_any_order_of_merges_and_words_of_every_length() -> None:
    """Vocabularies that hardly a text would give, and words of 1 to 70 bytes: some lengths are treated differently."""
    rng = random.Random(3)
    for letters in ("ab", "abc", "aé", "漢字"):
        tokens = [bytes([b]) for b in range(256)]
        of_letters = sorted({tokens.index(bytes([b])) for b in letters.encode()})
        merges: list[tuple[int, int]] = []
        while len(merges) < 60:
            pair = (rng.choice(of_letters), rng.choice(of_letters))
            if pair in merges or tokens[pair[0]] + tokens[pair[1]] in tokens:
                continue
            merges.append(pair)
            of_letters.append(len(tokens))
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
        fast, plain = Tokenizer(tokens, merges), Tokenizer(tokens, merges, use_native=False)
        for length in range(1, 71):
            for _ in range(12):
                text = "".join(rng.choices(letters, k=length))
                assert fast.encode(text) == plain.encode(text)
                assert fast.encode(text) == plain.encode(text)  # the second time it is remembered
                assert fast.encode(" " + text + "\0") == plain.encode(" " + text + "\0")


def test_many_texts_on_threads(pair: tuple[Tokenizer, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    fast, plain = pair
    rng = random.Random(2)
    some = [SAMPLE[rng.randrange(200) : rng.randrange(400)] for _ in range(700)]
    want = [plain.encode(text) for text in some]
    for threads, at_once in itertools.product((1, 3), (1, 5000, native.AT_ONCE)):  # each text by itself, some, all together
        monkeypatch.setattr(native, "AT_ONCE", at_once)
        assert [ids.tolist() for ids in fast.encode_many(some, threads)] == want
    taken: list[list[str]] = []

    class Told:
        def encode_bytes(self, group: list[str]) -> object:
            taken.append(group)
            return fast._core.encode_bytes(group)

    native.encode_many(Told(), some, 3)
    assert sorted(itertools.chain(*taken)) == sorted(some) and len(taken) >= 6  # each of the threads has something, and none long to wait
    assert [ids.tolist() for ids in plain.encode_many(some[:9], 2)] == want[:9]
    assert fast.encode_many([]) == [] and [i.tolist() for i in fast.encode_many(["", "a\ud800"])] == [[], plain.encode("a?")]
    assert native.train_merges(iter(some), 50, threads=3) == native.train_merges(some, 50)


def test_decoding_lists_arrays_and_specials(pair: tuple[Tokenizer, Tokenizer]) -> None:
    fast, plain = pair
    ids = fast.encode(SAMPLE)
    for some in (ids, ids[:7], [], [*ids[:5], fast.specials["<|end|>"], *ids[5:9]], [fast.encode("漢")[0]]):
        for form in (some, np.array(some, np.uint32), np.array(some, np.int64)):
            assert fast.decode(form) == plain.decode(some)
            assert fast.decode_bytes(form) == plain.decode_bytes(some)
    for wrong in ([-1], [1 << 40], [fast.vocab_size], ["a"]):
        with pytest.raises((KeyError, ValueError)):
            fast.decode(wrong)


def test_every_character(pair: tuple[Tokenizer, Tokenizer]) -> None:
    """Each code point behind and before a letter: its class decides where the word ends."""
    fast, plain = pair
    for start in range(0, 0x110000, 0x1000):
        if 0xD800 <= start < 0xE000:
            continue
        text = "".join(f"a{chr(c)}b {chr(c)}{chr(c)}" for c in range(start, start + 0x1000, 1 if start < 0x3000 else 37))
        assert fast.encode(text) == plain.encode(text), hex(start)


def test_real_text(data: Path) -> None:
    text = (data / "tokenizer" / "taylorswift.txt").read_text(encoding="utf-8")
    fast, plain = Tokenizer.train([text], 1500), Tokenizer.train([text], 1500, use_native=False)
    assert fast.merges == plain.merges
    assert fast.encode(text) == plain.encode(text)
    # With fewer words remembered than there are, too: every word is different here.
    many = " ".join(f"{i:x}{i * 7919:x}" for i in range(140_000))
    assert fast.encode(many)[:50_000] == plain.encode(many[:200_000])[:50_000]
    assert fast.decode(fast.encode_array(many)) == many


@pytest.mark.parametrize("letter", ["a", " ", "\n", "é", "!", "ab", "a ", "🦊", "'"])
def test_no_text_is_quadratic(pair: tuple[Tokenizer, Tokenizer], letter: str) -> None:
    text = letter * (1_000_000 // len(letter))
    began = time.process_time()  # whatever else the machine does
    ids = pair[0].encode_array(text)
    assert time.process_time() - began < 1.5  # 0.01 to 0.2 s alone; a quadratic way would take hours
    assert pair[0].decode(ids) == text


def test_half_a_surrogate_is_a_question_mark(pair: tuple[Tokenizer, Tokenizer]) -> None:
    assert pair[0].encode("a\ud800b") == pair[1].encode("a\ud800b") == pair[1].encode("a?b")


def test_threads_share_a_tokenizer(pair: tuple[Tokenizer, Tokenizer]) -> None:
    fast, plain = pair
    asked = [SAMPLE[i : i + 40 * (i + 1)] * (1 + 40 * (i % 3)) for i in range(24)]
    want = [plain.encode(text) for text in asked]
    got: dict[int, bool] = {}

    def work(k: int) -> None:
        got[k] = all(fast.encode(t) == w for t, w in zip(asked, want, strict=True) for _ in range(5))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert got == dict.fromkeys(range(6), True)


def test_bad_input_is_an_error_and_no_crash() -> None:
    table = native.classes()
    tokens = [bytes([b]) for b in range(256)]
    for wrong in ((table[:-1], tokens, b""), (table, tokens[:3], b""), (table, [1] * 256, b""), (table, tokens, b"\xff" * 12)):
        with pytest.raises(ValueError):
            native._native.Core(*wrong)
    core = native._native.Core(table, tokens, b"")
    with pytest.raises(TypeError):
        core.encode(b"bytes")
    with pytest.raises(IndexError):
        core.decode(np.array([256], np.uint32))
    trainer = native._native.Trainer(table)
    trainer.feed("a b")
    assert trainer.learn(5) == np.array([32, 98], np.uint32).tobytes()
    with pytest.raises(ValueError):
        trainer.learn(5)
    # What was never made, or is made again.
    core, trainer = native._native.Core, native._native.Trainer
    for use in (lambda: core.__new__(core).encode("a"), lambda: core.__new__(core).decode(b""), lambda: trainer.__new__(trainer).feed("a"),
                lambda: trainer(native.classes()).__init__(native.classes())):  # fmt: skip
        with pytest.raises((RuntimeError, TypeError), match="made"):
            use()


def test_without_the_core_the_python_code_does_it(tmp_path: Path) -> None:
    """As on a machine without a compiler: the same ids, and a reason."""
    code = (
        "import sys; sys.modules['sprout.tokenizer._native'] = None\n"
        "from sprout.tokenizer import Tokenizer, native\n"
        "t = Tokenizer.train(['ab ab abc'], 268)\n"
        "print(native.say()); print(t._core, t.encode('ab abc'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "a C compiler at set-up does" in out[0]
    assert out[1] == f"None {Tokenizer.train(['ab ab abc'], 268).encode('ab abc')}"
