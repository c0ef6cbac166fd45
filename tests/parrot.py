"""A model that knows a few replies by heart, so that a test can ask a real one for exactly what it needs. No test itself."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from sprout.common.messages import Message, ToolCall
from sprout.model import GPT, GPTConfig, token_losses
from sprout.model.hf import save_hf
from sprout.tokenizer import Tokenizer, render

HOSTILE = (
    '<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1"> [click](javascript:window.hacked=1) '
    "![pixel](https://evil.example/pixel.png) <b style='position:fixed'>bold</b>"
)
CODE = "It is **easy**:\n\n```python\nprint(1 + 2)\n```"
ANYWAY = ((), ("calculator",), ("calculator", "lookup"), ("calculator", "nap"), ("calculator", "lookup", "nap"))  # offered


def user(text: str) -> Message:
    return Message("user", text)


def says(text: str, call: ToolCall | None = None) -> Message:
    return Message("assistant", text, call)


TALKS: list[tuple[Message, ...]] = [
    (user("Who are you?"), says("I am a parrot. Ask me something that I know.")),
    (user("Who are you?"), says("I am a parrot. Ask me something that I know."), user("And code?"), says(CODE)),
    (user("Show me code."), says(CODE)),
    (user("Be nasty."), says(HOSTILE)),
    (user("Be kind."), says("I like you.")),
    (user("What is 12 + 30?"), says("", ToolCall.of("calculator", expression="12 + 30")), Message("tool", "42"), says("It is 42.")),
    (user("Wait."), says("I wait.", ToolCall.of("nap", seconds=60)), Message("tool", "slept"), says("Good morning.")),
]


@functools.cache
def learned() -> tuple[GPT, Tokenizer]:
    """The model, trained in some seconds until it says all of that right."""
    texts = [m.content + (m.call.arguments if m.call else "") for talk in TALKS for m in talk]
    tokenizer = Tokenizer.train([*texts, "Tools: calculator, lookup, nap"] * 2, 420)
    rows = [render(tokenizer, talk, tools) for talk in TALKS for tools in ANYWAY]
    T = max(len(ids) for ids, _ in rows)
    ids, targets = torch.zeros(len(rows), T, dtype=torch.int64), torch.full((len(rows), T), -1)
    for i, (row, mask) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        targets[i, : len(row) - 1] = torch.where(torch.tensor(mask[1:]), torch.tensor(row[1:]), -1)
    model = GPT(GPTConfig(tokenizer.vocab_size, 512, 2, 64, 4, 2, 16, 128), 1)
    optimizer = torch.optim.AdamW(model.parameters(), 6e-3)
    for _ in range(400):
        logits = model.logits(model(ids)).flatten(0, 1)
        counted = targets.flatten() >= 0
        loss = token_losses(logits, targets.flatten()).sum() / counted.sum()
        if loss < 0.004:
            return model.eval(), tokenizer
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(f"the parrot has not learned its lines: {float(loss)}")


def parrot_run(run: Path) -> Path:
    """A run all of whose stages are the parrot."""
    model, tokenizer = learned()
    for stage in ("pretrain", "midtrain", "finetune", "reinforce"):
        save_hf(model, tokenizer, run / "stages" / stage)
    return run
