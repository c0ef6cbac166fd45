"""The tokenizer: text to token ids and back."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import regex

from sprout.common.errors import UserError
from sprout.common.hashing import stable_hash
from sprout.tokenizer import native
from sprout.tokenizer.bpe import Pair, encode_word, train_merges

# How text is cut into words; llama.cpp and Hugging Face know this pattern as `qwen2`. Digits stand alone.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|call|>", "<|end|>")
CACHE_WORDS = 1 << 18  # words remembered; past that the cache starts anew


class Tokenizer:
    """Byte-level BPE. Special tokens are no part of `encode`: text that looks like one stays text."""

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[Pair],
        specials: Sequence[str] = SPECIALS,
        pattern: str = PATTERN,
        use_native: bool = True,
    ) -> None:
        """`tokens[i]` is what id i spells, `merges` pairs of ids, the first learned first; specials take the last ids.
        Our own pattern is encoded by the C core, where there is one and unless `use_native` says no; the ids are the same."""
        self.tokens = list(tokens)
        self.merges = list(merges)
        self.pattern = pattern
        ids = {token: i for i, token in enumerate(self.tokens)}
        self.byte_ids = [ids[bytes([b])] for b in range(256)]
        self.ranks = {p: (r, ids[self.tokens[p[0]] + self.tokens[p[1]]]) for r, p in enumerate(self.merges)}
        self.specials = {name: len(self.tokens) + i for i, name in enumerate(specials)}
        self.vocab_size = len(self.tokens) + len(self.specials)
        self._split = regex.compile(pattern).findall
        self._cache: dict[str, list[int]] = {}
        self._core = native.core(self.tokens, self.merges, self.ranks) if use_native and pattern == PATTERN else None
        self._special_bytes = {i: name.encode() for name, i in self.specials.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: what it was made from; the C core is made there anew."""
        return Tokenizer, (self.tokens, self.merges, tuple(self.specials), self.pattern)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, use_native: bool = True, threads: int = 1) -> Tokenizer:
        """Learn from texts; vocab_size counts bytes, merges and specials; the C core counts words on `threads` threads.
        Raises UserError for an impossible size."""
        merges = vocab_size - 256 - len(SPECIALS)
        if merges < 0:
            raise UserError(
                f"vocab_size is {vocab_size}; expected at least {256 + len(SPECIALS)} (bytes and specials)."
            )
        if use_native and native.ABSENT == "":
            learned = native.train_merges(texts, merges, threads)
        else:
            counts: Counter[str] = Counter()
            split = regex.compile(PATTERN).findall
            for text in texts:
                counts.update(split(text))
            learned = train_merges({word.encode(): n for word, n in counts.items()}, merges)
        tokens = [bytes([b]) for b in range(256)]
        for a, b in learned:
            tokens.append(tokens[a] + tokens[b])
        return cls(tokens, learned, use_native=use_native)

    @classmethod
    def from_ranks(cls, ranks: Mapping[bytes, int], specials: Sequence[str], pattern: str) -> Tokenizer:
        """From a vocabulary that lists tokens in the order learned, without naming their halves (as tiktoken's files
        do): the halves of a token are what the earlier merges leave of it."""
        tokens = sorted(ranks, key=lambda t: ranks[t])
        known: dict[Pair, tuple[int, int]] = {}
        merges = []
        for token in tokens:
            if len(token) > 1:
                halves = encode_word([ranks[bytes([b])] for b in token], known)
                if len(halves) != 2:
                    raise UserError(
                        f"token {token!r} can't be made from earlier ones; expected ranks of byte pair encoding."
                    )
                known[halves[0], halves[1]] = (ranks[token], ranks[token])
                merges.append((halves[0], halves[1]))
        return cls(tokens, merges, specials, pattern)

    @property
    def fingerprint(self) -> str:
        """The same for tokenizers that give the same ids."""
        return f"{stable_hash(self.pattern, self.tokens, self.merges, sorted(self.specials)):016x}"

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text."""
        if self._core is not None:
            try:
                return self._core.encode(text)
            except UnicodeEncodeError:  # half a surrogate pair, which the code below reads as '?'
                pass
        cache, out = self._cache, []
        for word in self._split(text):
            ids = cache.get(word)
            if ids is None:
                ids = encode_word([self.byte_ids[b] for b in word.encode("utf-8", "replace")], self.ranks)
                if len(cache) >= CACHE_WORDS:
                    cache.clear()
                if len(word) <= 64:
                    cache[word] = ids
            out += ids
        return out

    def encode_array(self, text: str) -> np.ndarray:
        """Ids of ordinary text, (T,) uint32: without a Python number for each, which long texts are faster for."""
        if self._core is not None:
            try:
                return np.frombuffer(self._core.encode_bytes(text)[0], np.uint32)
            except UnicodeEncodeError:
                pass
        return np.array(self.encode(text), np.uint32)

    def encode_many(self, texts: Sequence[str], threads: int = 1) -> list[np.ndarray]:
        """Ids of every text, (T,) uint32 each. With the C core `threads` threads work at the same time."""
        if self._core is not None:
            try:
                return native.encode_many(self._core, texts, threads)
            except UnicodeEncodeError:
                pass
        return [self.encode_array(text) for text in texts]

    def decode_bytes(self, ids: Iterable[int] | np.ndarray) -> bytes:
        """The bytes that ids spell; a special token spells its name."""
        if self._core is not None and isinstance(ids, (list, np.ndarray)):
            try:
                return self._core.decode(ids if isinstance(ids, list) else np.ascontiguousarray(ids, np.uint32))
            except IndexError:  # there are special tokens among them
                pass
        n, tokens = len(self.tokens), self.tokens
        return b"".join(tokens[i] if 0 <= i < n else self._special_bytes[i] for i in map(int, ids))

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text that ids spell; bytes that are no UTF-8 become U+FFFD."""
        if self._core is not None and isinstance(ids, (list, np.ndarray)):
            try:
                return self._core.decode_text(ids if isinstance(ids, list) else np.ascontiguousarray(ids, np.uint32))
            except IndexError:
                pass
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def stream(self) -> StreamDecoder:
        """A decoder for one reply that arrives id by id."""
        return StreamDecoder(self)

    def token_bytes(self) -> np.ndarray:
        """How many bytes each id spells, (V,) int64; 0 for specials."""
        return np.array([len(t) for t in self.tokens] + [0] * len(self.specials))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which Hugging Face loads as they are."""
        from sprout.tokenizer.huggingface import save

        save(self, folder)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read what `save` wrote; raises UserError for a missing or foreign file."""
        from sprout.tokenizer.huggingface import load

        return load(folder)


class StreamDecoder:
    """Turns ids into text piece by piece without ever splitting a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that became complete with this id, possibly none."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def flush(self) -> str:
        """What is left at the end: an unfinished character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)
