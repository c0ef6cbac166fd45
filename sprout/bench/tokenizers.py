"""The tokenizer beside tiktoken, rustbpe, Hugging Face's tokenizers, fastokens and gigatoken: encoding, decoding, learning.

Every function takes the folder of test data and gives rows, dicts of `what`, `contender`, `text`, `value`, `unit`, `ratio`
(above 1: faster than `tiktoken`, for learning than `rustbpe`) and `note`; one with `value` None is a contender that isn't
there or can't do it, `note` says why. All have the same vocabulary (cl100k's, which was learned from none of these texts) and
the same pattern. Contenders take turns, the best of several rounds counts. One thread, unless a row says otherwise: set
RAYON_NUM_THREADS=1 before Python starts, for the peers that would take all processors.
"""

from __future__ import annotations

import base64
import gzip
import json
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sprout.tokenizer import Tokenizer, native
from sprout.tokenizer.tokenizer import PATTERN

Row = dict[str, Any]
Encode = Callable[[list[str]], Any]
Make = Callable[[], Encode]


# --------------------------------------------------------------------------------------------------------------- texts
def strings(value: object) -> Iterator[str]:
    """Every string of some length within what JSON holds."""
    if isinstance(value, str):
        if len(value) >= 16:
            yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)


def documents(path: Path) -> list[str]:
    """The texts of a file: a document a row of JSON lines or parquet, else one."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path, columns=["text"]).column("text").to_pylist()
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            return ["\n".join(strings(json.loads(line))) for line in lines]
    if path.suffix in (".json", ".gz"):
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return ["\n".join(strings(json.loads(raw)))]
    return [path.read_text(encoding="utf-8", errors="ignore")]


def languages(data: Path) -> list[str]:
    """FLORES: the same thousand sentences in every language, a document each language."""
    texts: dict[str, list[str]] = {}
    with (data / "text" / "flores200_dev.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts.setdefault(row["lang"], []).append(row["text"])
    return ["\n".join(sentences) for sentences in texts.values()]


def english(data: Path) -> list[str]:
    """33 novels, a document each chapter."""
    folder = data / "text" / "eltec_eng" / "data"
    return [text for file in sorted(folder.glob("*.parquet")) for text in documents(file)]


def code() -> list[str]:
    """The standard library of the Python that runs this, without its tests; a document each file."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in folder.rglob("*.py") if not {"test", "tests", "site-packages"} & set(p.parts))
    return [t for p in files if (t := p.read_text(encoding="utf-8", errors="ignore"))]


def cut(texts: list[str], size: int) -> list[str]:
    """The first texts that make up `size` characters."""
    out, total = [], 0
    for text in texts:
        if total >= size:
            break
        out.append(text)
        total += len(text)
    return out


def mixed(data: Path) -> list[str]:
    """A quarter each, by characters: languages (the same share of every one), English, chats, code."""
    some = 3_500_000
    tongues = languages(data)
    chats = [text for file in sorted((data / "chat").glob("*.jsonl")) for text in documents(file)]
    parts = [[t[: some // len(tongues)] for t in tongues], cut(english(data), some), cut(chats, some), cut(code(), some)]
    return [text for part in parts for text in part]


def everything(data: Path) -> list[str]:
    """All text of the folder, and the code: each once."""
    kinds = {".parquet", ".jsonl", ".json", ".txt", ".gz"}
    files = sorted(p for p in data.rglob("*") if p.suffix in kinds and "images" not in p.parts and "tokenizer" not in p.parts)
    texts = [text for p in files for text in documents(p) if text]
    return texts + code()


def megabytes(texts: list[str]) -> float:
    return sum(len(t.encode()) for t in texts) / 1e6


# ----------------------------------------------------------------------------------------------------------- contenders
def cl100k(data: Path) -> dict[bytes, int]:
    lines = (data / "tokenizer" / "cl100k_base.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def encoders(ours: Tokenizer, ranks: dict[bytes, int], folder: Path) -> dict[str, Make]:
    """Contender -> what makes it anew (its memory of words empty) and encodes texts, one after the other."""
    file = folder / "tokenizer.json"
    if not file.exists():
        ours.save(folder)

    def tiktoken() -> Encode:
        import tiktoken as t

        encode = t.Encoding("bench", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}).encode_ordinary
        return lambda texts: [encode(text) for text in texts]

    def tokenizers() -> Encode:
        from tokenizers import Tokenizer as T

        encode = T.from_file(str(file)).encode
        return lambda texts: [encode(text, add_special_tokens=False).ids for text in texts]

    def fastokens() -> Encode:
        import fastokens as f

        encode = f._native.Tokenizer.from_file(str(file)).encode_ordinary
        return lambda texts: [encode(text).ids for text in texts]

    def gigatoken() -> Encode:
        import gigatoken as g

        encode = g.Tokenizer(str(file)).encode
        return lambda texts: [encode(text) for text in texts]

    def arrays() -> Encode:
        encode = anew(ours).encode_array
        return lambda texts: [encode(text) for text in texts]

    def lists() -> Encode:
        encode = anew(ours).encode
        return lambda texts: [encode(text) for text in texts]

    return {"ours": arrays, "ours, as lists": lists, "tiktoken": tiktoken, "tokenizers": tokenizers,
            "fastokens": fastokens, "gigatoken": gigatoken}  # fmt: skip


def anew(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, which has seen no word yet."""
    return Tokenizer(tokenizer.tokens, tokenizer.merges, list(tokenizer.specials), tokenizer.pattern)


def row(what: str, contender: str, text: str, value: float | None, unit: str, ratio: float | None, note: str = "") -> Row:
    return {"what": what, "contender": contender, "text": text, "value": value, "unit": unit, "ratio": ratio, "note": note}


def race(
    what: str, text: str, makes: dict[str, Make], texts: list[str], rounds: int, peer: str, once: tuple[str, ...] = ()
) -> list[Row]:
    """MB/s of every contender, those in `once` in the first round only. Its ids are compared with the peer's; those that differ are counted in the note."""
    size = megabytes(texts)
    best: dict[str, float] = {}
    notes: dict[str, str] = {}
    want = [np.array(ids, np.uint32) for ids in makes[peer]()(texts)]
    for turn in range(rounds):
        for name, make in makes.items():
            if (name in notes and name not in best) or (turn and name in once):
                continue
            try:
                encode = make()
                began = time.perf_counter()
                got = encode(texts)
                took = time.perf_counter() - began
            except Exception as error:  # whatever another's code thinks of: it is reported
                notes[name] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            best[name] = min(took, best.get(name, took))
            if turn == 0:
                wrong = sum(not np.array_equal(g, w) for g, w in zip(got, want, strict=True))
                notes[name] = f"{wrong} of {len(want)} documents differ" if wrong else ""
            del got
    return [
        row(what, n, text, size / best[n] if n in best else None, "MB/s", best[peer] / best[n] if n in best else None, notes[n])
        for n in makes
    ]


# --------------------------------------------------------------------------------------------------------- measurements
KINDS: dict[str, Callable[[Path], list[str]]] = {"30 languages": languages, "English": english, "mixed": mixed}


def encoding(data: Path, rounds: int = 3, slow: bool = True, kinds: tuple[str, ...] = tuple(KINDS)) -> list[Row]:
    """Texts seen for the first time, on one thread. `slow` False leaves the slowest peer out."""
    ranks = cl100k(data)
    ours = Tokenizer.from_ranks(ranks, (), PATTERN)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        makes = encoders(ours, ranks, Path(folder))
        if not slow:
            del makes["tokenizers"]
        for kind in kinds:
            rows += race("encode", kind, makes, KINDS[kind](data), rounds, "tiktoken", once=("tokenizers",))
    return rows


def threads(data: Path, most: int = 2, rounds: int = 3) -> list[Row]:
    """Encoding mixed text with `encode_many` on 1, 2, ... threads; the ratio is to one thread."""
    ours = Tokenizer.from_ranks(cl100k(data), (), PATTERN)
    texts = mixed(data)

    def make(n: int) -> Encode:
        core = anew(ours)
        return lambda some: core.encode_many(some, n)

    makes: dict[str, Make] = {f"ours, {n} thread{'s'[: n - 1]}": (lambda n=n: make(n)) for n in range(1, most + 1)}  # type: ignore[misc]
    return race("encode", "mixed", makes, texts, rounds, "ours, 1 thread")


def extremes(data: Path) -> list[Row]:
    """Seconds for a million characters without an end of a word, in several ways; no peer: tiktoken 0.14 ends with a panic."""
    ours = Tokenizer.from_ranks(cl100k(data), (), PATTERN)
    rows = []
    for name in ("a", " ", "\n", "é", "漢", "🦊", "ab", "!"):
        text = name * (1_000_000 // len(name))
        encode = anew(ours).encode_array
        began = time.perf_counter()
        encode(text)
        rows.append(row("encode", "ours", f"1,000,000 characters {name!r}", time.perf_counter() - began, "s", None))
        learner = native._native.Trainer(native.classes())
        began = time.perf_counter()
        learner.feed(text)
        learner.learn(1000)
        rows.append(row("learn", "ours", f"1,000,000 characters {name!r}", time.perf_counter() - began, "s", None))
    return rows


def decoding(data: Path, rounds: int = 5) -> list[Row]:
    """Ids back to text, the same documents as above; ours takes an array, tiktoken a list, as they give them out."""
    import tiktoken

    ranks = cl100k(data)
    ours = Tokenizer.from_ranks(ranks, (), PATTERN)
    theirs = tiktoken.Encoding("bench", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    rows = []
    for name, kind in KINDS.items():
        texts = kind(data)
        arrays = [ours.encode_array(t) for t in texts]
        lists = [a.tolist() for a in arrays]
        ways: dict[str, Callable[[], list[str]]] = {
            "ours": lambda a=arrays: [ours.decode(x) for x in a],  # type: ignore[misc]
            "ours, from lists": lambda a=lists: [ours.decode(x) for x in a],  # type: ignore[misc]
            "tiktoken": lambda a=lists: [theirs.decode(x) for x in a],  # type: ignore[misc]
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(rounds):
            for way, decode in ways.items():
                began = time.perf_counter()
                got = decode()
                best[way] = min(best[way], time.perf_counter() - began)
                if got != texts:
                    raise AssertionError(f"{way} does not give the text back")
        size = megabytes(texts)
        rows += [row("decode", w, name, size / best[w], "MB/s", best["tiktoken"] / best[w]) for w in ways]
    return rows


def learning(
    data: Path, vocabulary: int = 32_768, rounds: int = 1, english_only: bool = False, threads: int = 1
) -> list[Row]:
    """Seconds to learn a vocabulary from texts in memory; `threads` is ours, rustbpe's are RAYON_NUM_THREADS. Which of two
    pairs that are equally common is learned first differs: so the note says how many tokens are the same."""
    texts = english(data) if english_only else everything(data)
    size = megabytes(texts)
    name = f"{'English' if english_only else 'everything'}, {size:.0f} MB"
    merges = vocabulary - 256

    def ours() -> dict[bytes, int]:
        tokens = [bytes([b]) for b in range(256)]
        for a, b in native.train_merges(texts, merges, threads):
            tokens.append(tokens[a] + tokens[b])
        return {t: i for i, t in enumerate(tokens)}

    def rustbpe() -> dict[bytes, int]:
        import rustbpe as r

        learner = r.Tokenizer()
        learner.train_from_iterator(iter(texts), vocabulary, pattern=PATTERN)
        return {bytes(t): i for t, i in learner.get_mergeable_ranks()}

    best: dict[str, float] = {}
    got: dict[str, dict[bytes, int]] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for contender, learn in (("ours", ours), ("rustbpe", rustbpe)):
            try:
                began = time.perf_counter()
                got[contender] = learn()
                best[contender] = min(time.perf_counter() - began, best.get(contender, float("inf")))
            except Exception as error:
                failed[contender] = f"{type(error).__name__}: {str(error)[:200]}"
    if "rustbpe" in failed:
        return [row("learn", "ours", name, best["ours"], "s", None), row("learn", "rustbpe", name, None, "s", None, failed["rustbpe"])]
    same = got["ours"] == got["rustbpe"]
    alike = len(got["ours"].keys() & got["rustbpe"].keys())
    note = "" if same else f"{alike} of {vocabulary} tokens are the same"
    return [row("learn", c, name, best[c], "s", best["rustbpe"] / best[c], note) for c in best]
