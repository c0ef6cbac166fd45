"""Golden loss curves: for some depths of the dial, the losses of the first steps on a fixed toy language.

A change that should not change training (a faster attention, another order of the code) leaves them as they are; a wrong
learning rate, mask, rotation, packing or schedule does not. Where training is meant to change, write them anew and look
at the difference before you commit it:

    SPROUT_WRITE_GOLDEN=1 .venv/bin/python -m pytest tests/test_golden.py

The language is written here, as ids, so that neither the world's wording nor the tokenizer has a say.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch

from sprout.common.compute import Compute
from sprout.data import Item, Packed, pack
from sprout.model import GPT
from sprout.model.dial import dial
from sprout.optim import OptimConfig
from sprout.train import LoopConfig, make_loss, train

GOLDEN = Path(__file__).parent / "golden"
STEPS = {2: 25, 4: 25, 6: 12}  # by depth; a step at depth 6 takes a second on one core
VOCABULARY, CONTEXT, ROWS = 64, 64, 16
PAD, END, CALL, REPLY = 0, 1, 2, 3  # the other ids are words
TOLERANCE = 0.01  # relative; another CPU or torch moves the losses by about a hundredth of that


def language(seed: int = 5) -> list[Item]:
    """Documents (each word decides mostly what comes next, which is learned fast) and conversations (the reply says the
    words of the question again, and only the reply counts, END included)."""
    dice = random.Random(seed)
    words = list(range(4, VOCABULARY))
    follows = {word: dice.sample(words, 3) for word in words}
    items: list[Item] = []
    for _ in range(400):
        word, text = dice.choice(words), []
        for _ in range(dice.randint(5, 90)):
            text.append(word)
            word = follows[word][0] if dice.random() < 0.8 else dice.choice(follows[word])
        items.append(([*text, END], None))
    for _ in range(400):
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
    curve = train(model, make_loss(model, compute), data, config, folder, f"depth {depth}", compute, lambda _: None)
    return [point["loss"] for point in curve], sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("depth", STEPS)
def test_the_loss_goes_down_as_it_always_did(depth: int, packed: Packed, tmp_path: Path) -> None:
    got, parameters = losses(depth, packed, tmp_path)
    assert len(got) == STEPS[depth]
    assert sum(got[-3:]) / 3 < 0.75 * got[0], f"the loss hardly goes down: {got}"
    assert abs(got[0] - torch.tensor(float(VOCABULARY)).log()) < 0.2, "a new model should find all words equally likely"
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
