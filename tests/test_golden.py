"""Golden loss curves: for some depths of the dial, the losses of the first steps on a fixed toy language.

A change that should not change training (a faster attention, another order of the code) leaves them as they are; a wrong
learning rate, mask, rotation, packing or schedule does not. Where training is meant to change, write them anew and look
at the difference before you commit it:

    SPROUT_WRITE_GOLDEN=1 .venv/bin/python -m pytest tests/test_golden.py

The language is written here, as ids, so that neither the world's wording nor the tokenizer has a say.
"""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path

import pytest
import torch

from sprout.common.compute import Compute
from sprout.data import Item, Packed, pack
from sprout.model import GPT
from sprout.model.dial import dial
from sprout.model.instinct import ECHO
from sprout.optim import OptimConfig
from sprout.train import LoopConfig, make_gradients, train

GOLDEN = Path(__file__).parent / "golden"
STEPS = {2: 60, 4: 40, 6: 12}  # by depth; a step at depth 6 takes a second on one core
VOCABULARY, CONTEXT, ROWS, DIALECTS = 64, 64, 16, 3
PAD, END, CALL, REPLY = 0, 1, 2, 3  # then the dialects; the other ids are words
# Relative. Learning rates changed by 0.01 % move no loss by more than 0.005 %, so rounding on another CPU does not count.
# Changed by 10 %, those of the matrices move some loss by 4 %, of the embedding by 0.2 %, of the head by 3 %; a mask that
# lets documents look at each other by 17 %, no rotary embedding by 1.6 % (all at depth 2).
TOLERANCE = 0.001


def language(seed: int = 5) -> list[Item]:
    """Documents in three dialects: the first id names the dialect, which says what word follows which, so that one has to
    look back to the start of one's own document. Conversations: the reply says the words of the question again, and only
    the reply counts, END included."""
    dice = random.Random(seed)
    words = list(range(4 + DIALECTS, VOCABULARY))
    follows = [dict(zip(words, dice.sample(words, len(words)), strict=True)) for _ in range(DIALECTS)]
    items: list[Item] = []
    for _ in range(500):
        dialect, word = dice.randrange(DIALECTS), dice.choice(words)
        text = [4 + dialect]
        for _ in range(dice.randint(5, 25)):
            text.append(word)
            word = follows[dialect][word]
        items.append(([*text, END], None))
    for _ in range(300):
        said = [dice.choice(words) for _ in range(dice.randint(2, 8))]
        question, reply = [CALL, *said, END], [REPLY, *said, END]
        mask = [False] * (len(question) + 1) + [True] * (len(reply) - 1)
        items.append(([*question, *reply], mask))
    dice.shuffle(items)
    return items


@pytest.fixture(scope="module")
def packed() -> Packed:
    return pack(language(), CONTEXT, PAD, END)


def losses(depth: int, data: Packed, folder: Path) -> tuple[list[float], int]:
    """The loss of every step, in float32 without compilation, and how many parameters the model has."""
    steps = STEPS[depth]
    d = dial(depth, VOCABULARY, CONTEXT, steps * ROWS * CONTEXT, ROWS * CONTEXT)
    optim = OptimConfig(d.matrix_lr, d.embed_lr, d.head_lr, d.weight_decay, dtype=torch.float32)
    config = LoopConfig(steps, ROWS, ROWS // 2, 3, steps // 3, 11, optim, save_seconds=1e9, log_every=1)
    compute = Compute("cpu", torch.float32, False, 1, ())
    model = GPT(d.shape, seed=7)
    curve = train(model, make_gradients(model, compute), data, config, folder, f"depth {depth}", compute, lambda _: None)
    return [point["loss"] for point in curve], sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("depth", [pytest.param(d, marks=pytest.mark.slow) if d > 2 else d for d in STEPS])
def test_the_loss_goes_down_as_it_always_did(depth: int, packed: Packed, tmp_path: Path) -> None:
    got, parameters = losses(depth, packed, tmp_path)
    assert len(got) == STEPS[depth]
    assert sum(got[-3:]) / 3 < 0.9 * got[0] and got[-1] < got[len(got) // 2], f"the loss hardly goes down: {got}"
    # All words equally likely, but for the instinct to say again what stands here (at most ECHO nats in a small vocabulary).
    assert -0.2 < got[0] - math.log(VOCABULARY) < ECHO, "a new model knows more or less than it should"
    path = GOLDEN / f"depth_{depth}.json"
    if os.environ.get("SPROUT_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(
            json.dumps({"parameters": parameters, "losses": [round(x, 5) for x in got]}, indent=1) + "\n",
            encoding="utf-8",
        )
        pytest.skip(f"written anew: {path.name}")
    golden = json.loads(path.read_text(encoding="utf-8"))
    how = "if that is meant, write it anew (the top of this file says how)"
    assert parameters == golden["parameters"], f"the dial gives another shape at depth {depth}; {how}"
    wrong = {
        step: (want, round(have, 5))
        for step, (want, have) in enumerate(zip(golden["losses"], got, strict=True), 1)
        if abs(have - want) > TOLERANCE * want
    }
    assert not wrong, f"other losses than before, {{step: (golden, now)}}: {wrong}; {how}"
