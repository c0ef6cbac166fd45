"""How good a model is at each skill, on problems that training never showed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sprout.common.hashing import stable_hash
from sprout.engine import Engine, Prompt, Sampling, generate_shared
from sprout.evals.intervals import wilson
from sprout.world import Dice, Problem, Verdict, World
from sprout.world.skills import SKILLS, sample, unknown


@dataclass(frozen=True, slots=True)
class Score:
    """`right` of `n`, as a rate with its 95 % interval."""

    n: int
    right: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, right: int, n: int) -> Score:
        low, high = wilson(right, n)
        return cls(n, right, right / n if n else 0.0, low, high)

    def __str__(self) -> str:
        return f"{self.rate:6.1%}  ({self.low:.1%} to {self.high:.1%}, n={self.n})"

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def problems_for(world: World, skills: Sequence[str], n: int, split: str, seed: int = 0) -> list[Problem]:
    """n problems of every skill from a split, always the same for the same world and seed, no key twice while there are
    others."""
    problems = []
    for name in skills:
        dice = Dice(stable_hash("eval", world.config.seed, seed, name, split))
        seen: set[object] = set()
        tries = 0
        while len(seen) < n or tries >= 4 * n:
            problem = sample(name, world, dice, split)
            tries += 1
            if problem.key in seen and tries < 4 * n:
                continue
            seen.add(problem.key if problem.key not in seen else (problem.key, tries))
            problems.append(problem)
            if len(seen) >= n:
                break
    return problems


@dataclass(frozen=True, slots=True)
class SkillResults:
    """Scores by skill, the rate of made-up answers among questions about what doesn't exist, and one wrong reply each."""

    scores: dict[str, Score]
    made_up: Score
    mistakes: dict[str, dict[str, str]]


def evaluate_skills(
    engine: Engine,
    problems: Sequence[Problem],
    max_tokens: int = 130,
    progress: Callable[[int], None] | None = None,
    check: Callable[[Problem, Sequence[Any]], Verdict] | None = None,
    temperature: float = 0.0,
) -> SkillResults:
    """Replies to all problems in one batch (the likeliest ones, or sampled at a temperature), judged by their skills'
    checkers. A problem with a counterfactual twin counts as right only if both are. Several processes share the work."""
    asked = [p for problem in problems for p in ((problem, problem.twin) if problem.twin else (problem,))]
    sampling = Sampling(temperature, max_tokens=max_tokens, seed=1)
    replies = generate_shared(engine, [Prompt(p.prompt, p.tools) for p in asked], sampling, progress)
    by_skill: dict[str, list[bool]] = {}
    invented: list[bool] = []
    mistakes: dict[str, dict[str, str]] = {}
    at = 0
    for problem in problems:
        right = True
        for p in (problem, problem.twin) if problem.twin else (problem,):
            reply = replies[at]
            at += 1
            verdict = (check or SKILLS[p.skill].check)(p, reply.messages)
            ended = reply.finish == "stop"
            right = right and verdict.right and ended
            if p.skill == unknown.NAME:
                invented.append(unknown.made_up(p, reply.messages))
            if not (verdict.right and ended) and p.skill not in mistakes:
                said = "\n".join(
                    m.content + (f" [{m.call.name} {m.call.arguments}]" if m.call else "") for m in reply.messages
                )
                mistakes[p.skill] = {"prompt": p.prompt[-1].content, "reply": said, "why": verdict.why or reply.finish}
        by_skill.setdefault(problem.skill, []).append(right)
    scores = {name: Score.of(sum(rights), len(rights)) for name, rights in by_skill.items()}
    return SkillResults(scores, Score.of(sum(invented), len(invented)), mistakes)
