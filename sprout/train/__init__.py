"""One loop for every stage, and checkpoints that survive a kill. Read `loop.py`, then `checkpoint.py`;
`native.py`, `native.c` and `step.h` are the loop's gradients once more, in C."""

from sprout.train.checkpoint import Checkpoint, load_latest, save_checkpoint
from sprout.train.loop import Gradients, Interrupted, LoopConfig, make_gradients, train

__all__ = [
    "Checkpoint",
    "Gradients",
    "Interrupted",
    "LoopConfig",
    "load_latest",
    "make_gradients",
    "save_checkpoint",
    "train",
]
