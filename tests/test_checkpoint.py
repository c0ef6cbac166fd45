"""Checkpoints: whole or absent, torn ones passed over, a full disk survived."""

import errno

import pytest
import torch

from sprout.common.errors import UserError
from sprout.train import Checkpoint, load_latest, save_checkpoint
from sprout.train import checkpoint as module


def make(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((3,), float(step))}, {"m": torch.zeros(2)}, {"curve": [], "seconds": 1.0})


def test_the_newest_two_are_kept_and_loaded(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, make(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000002", "step_00000003"]
    found = load_latest(tmp_path)
    assert found is not None and found.step == 3 and found.weights["w"][0] == 3


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_torn_one_is_passed_over_with_a_message(tmp_path, file, damage):
    save_checkpoint(tmp_path, make(1))
    path = save_checkpoint(tmp_path, make(2)) / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else bytes([content[0] ^ 255]) + content[1:])
    said: list[str] = []
    found = load_latest(tmp_path, said.append)
    assert found is not None and found.step == 1 and "step_00000002" in said[0]


def test_a_full_disk_leaves_the_last_one_intact(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, make(1))

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write_synced", full)
    with pytest.raises(UserError, match="No space left"):
        save_checkpoint(tmp_path, make(2))
    found = load_latest(tmp_path)
    assert found is not None and found.step == 1
