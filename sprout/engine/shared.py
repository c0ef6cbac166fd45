"""Generation shared out over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sprout.common.processes import shared
from sprout.engine.engine import Engine
from sprout.engine.types import Completion, Prompt, Sampling


def generate_shared(
    engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, progress: Callable[[int], None] | None = None
) -> list[Completion]:
    """`engine.generate`, every process writing its part of the replies and all getting all of them; a collective. Prompt
    i has the seed + i, however many processes there are. `progress` hears of the own part."""
    pairs = [(prompt, replace(sampling, seed=sampling.seed + i)) for i, prompt in enumerate(prompts)]
    return shared(pairs, lambda part: engine.generate([p for p, _ in part], [s for _, s in part], progress))
