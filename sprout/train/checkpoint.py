"""Checkpoints that are whole or absent.

A checkpoint is a folder `step_00000120` with `model.safetensors`, `optimizer.safetensors` and `meta.json`. It is
written under a temporary name, synced, and renamed; `meta.json` carries the hash of the others, so that a torn one is
recognised. Nothing is pickled. The loader's position is the step itself: batches are a function of seed and step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sprout.common.errors import UserError
from sprout.common.processes import add_up, from_first, is_first, tensors_from_first


def save_seconds() -> float:
    """Seconds between checkpoints: 60, or what SPROUT_SAVE_SECONDS says (the test that kills runs wants many)."""
    return float(os.environ.get("SPROUT_SAVE_SECONDS", "60"))


KEEP = 2  # the newest, and the one before it in case the newest is damaged later


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a stage needs to go on: weights, optimizer state, and plain facts (step, curve so far, RNG seeds)."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    meta: dict[str, Any]


def _write_synced(path: Path, content: bytes) -> str:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint under `folder` and drop all but the newest two. Raises UserError when the disk is full; the
    checkpoints that were there stay."""
    final = folder / f"step_{checkpoint.step:08d}"
    temporary = folder / f".tmp_{checkpoint.step:08d}_{os.getpid()}"
    for left_over in folder.glob(".tmp_*"):  # of a run that was killed; the room may be needed now
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        hashes = {
            "model.safetensors": _write_synced(temporary / "model.safetensors", save(_plain(checkpoint.weights))),
            "optimizer.safetensors": _write_synced(
                temporary / "optimizer.safetensors", save(_plain(checkpoint.optimizer))
            ),
        }
        meta = {"step": checkpoint.step, "sha256": hashes, **checkpoint.meta}
        _write_synced(temporary / "meta.json", json.dumps(meta).encode())
        _sync_folder(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"could not save a checkpoint in {folder}: {error.strerror or error}. The earlier checkpoint is intact; "
            "make room on the disk and run the same command again."
        ) from error
    for old in sorted(folder.glob("step_*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_latest(folder: Path, say: Callable[[str], None] = print) -> Checkpoint | None:
    """The newest checkpoint under `folder` that is whole; torn ones are passed over with a message. None if none is."""
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            meta = json.loads((path / "meta.json").read_bytes())
            content = {name: (path / name).read_bytes() for name in meta["sha256"]}
            for name, digest in meta["sha256"].items():
                if hashlib.sha256(content[name]).hexdigest() != digest:
                    raise ValueError(f"{name} is not what was written")
            weights, optimizer = load(content["model.safetensors"]), load(content["optimizer.safetensors"])
            return Checkpoint(meta["step"], weights, optimizer, meta)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            say(f"passing over the damaged checkpoint {path.name}: {error}")
    return None


def load_for_all(folder: Path, say: Callable[[str], None] = print) -> Checkpoint | None:
    """`load_latest` on the first process, which hands it to the others; a collective."""
    found = load_latest(folder, say) if is_first() else None
    facts = from_first((found.step, found.meta) if found else None)
    if facts is None:
        return None
    weights = tensors_from_first(found.weights if found else {})
    return Checkpoint(facts[0], weights, tensors_from_first(found.optimizer if found else {}), facts[1])


class Pause:
    """Whether to stop, because somebody `asked`, and whether it is time to save: all processes get the same answer after
    the same step, the first one's clock being the one that counts."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked = seconds, False
        self.saved()

    def saved(self) -> None:
        self.at = time.perf_counter()

    def now(self) -> tuple[bool, bool]:
        """(stop, save); a collective."""
        due = is_first() and time.perf_counter() - self.at > self.seconds
        stop, save = add_up(torch.tensor([float(self.asked), float(due)])).tolist()
        return stop > 0, save > 0


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
