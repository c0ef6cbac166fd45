"""One loop for every stage, and checkpoints that survive a kill. Read `loop.py`, then `checkpoint.py`."""

from sprout.train.checkpoint import Checkpoint, load_latest, save_checkpoint
from sprout.train.loop import Interrupted, LoopConfig, LossFunction, make_loss, train

__all__ = [
    "Checkpoint",
    "Interrupted",
    "LoopConfig",
    "LossFunction",
    "load_latest",
    "make_loss",
    "save_checkpoint",
    "train",
]
