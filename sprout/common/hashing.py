"""Stable hashes: the same on every machine and in every run, unlike Python's own `hash`."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "validation", "test")


def stable_hash(*parts: object) -> int:
    """A 64-bit hash of the parts' text."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def split_of(key: str) -> str:
    """Which split a problem or document belongs to, by its content: 80 % train, 10 % validation, 10 % test."""
    bucket = stable_hash("split", key) % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"
