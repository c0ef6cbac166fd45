"""What the test asks is not to be had from training text, nor by matching words."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from itertools import islice

import pytest

from sprout.data.world_feed import world_problems, world_texts
from sprout.world import Dice, Problem, World, WorldConfig, build_world
from sprout.world.skills import SKILLS, sample

# Questions that are put together from a few set phrases: one can stand inside a longer one.
OF_PHRASES = ("small_talk",)
# Skills in which few replies are right for everything: there, matching words is enough.
FEW_REPLIES = ("small_talk", "refusal")


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig())


@pytest.fixture(scope="module")
def training(world: World) -> str:
    """Documents (textbook, quiz, story, primer, dialogue and the rest) and conversations, as training gets them."""
    texts = list(islice(world_texts(world, 1), 12_000))
    texts += ["\n".join(m.content for m in (*p.prompt, *p.reply)) for p in islice(world_problems(world, 1), 12_000)]
    return "\n\n".join(texts)


def question(problem: Problem) -> str:
    return "\n".join(m.content for m in problem.prompt)


def stands_in(text: str, asked: str) -> bool:
    """Whether the question stands there as a whole. '6 x 9' in '6 x 9 = 54' is a step, and in '16 x 9' another sum."""
    ends = r"(?![\w =])" if re.fullmatch(r"[\d x+/*-]+", asked) else r"(?!\w)"
    return asked in text and re.search(rf"(?<!\w){re.escape(asked)}{ends}", text) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SKILLS if n not in OF_PHRASES])
def test_no_test_question_stands_in_training_text(name: str, world: World, training: str) -> None:
    dice = Dice(77)
    asked = {question(sample(name, world, dice, "test")) for _ in range(150)}
    leaked = [q for q in asked if stands_in(training, q)]
    assert not leaked, leaked[:5]


@pytest.mark.slow
def test_the_search_finds_what_is_there(world: World, training: str) -> None:
    """Questions of the training split do stand in training text: quizzes and textbooks ask them, and tests are found."""
    for problem in islice(world_problems(world, 1), 300):
        assert question(problem) in training
    assert stands_in("Q: 6 x 9", "6 x 9") and not stands_in("6 x 9 = 54, 16 x 9", "6 x 9")
    assert stands_in("Do it. What is 6?", "What is 6?") and not stands_in("What is 61?", "What is 6")


def features(problem: Problem) -> set[object]:
    """The words of the question and their pairs."""
    words = re.sub(r"[?.,!:]", " ", question(problem).lower()).split()
    return {*words, *zip(words, words[1:], strict=False)}


@pytest.mark.parametrize("name", [n if n == "recall" else pytest.param(n, marks=pytest.mark.slow) for n in SKILLS if n not in FEW_REPLIES])
def test_matching_words_does_not_answer(name: str, world: World) -> None:
    """The reply to the training question with the most alike words (rare ones weigh more), and the reply that naive
    Bayes gives over words and pairs of them, are hardly ever right."""
    dice = Dice(5)
    train = [sample(name, world, dice, "train") for _ in range(500)]
    test = [sample(name, world, dice, "test") for _ in range(100)]
    found = [features(p) for p in train]
    in_how_many = Counter(f for fs in found for f in fs)
    weight = {f: math.log(len(train) / n) for f, n in in_how_many.items()}
    length = [math.sqrt(sum(weight[f] ** 2 for f in fs)) or 1.0 for fs in found]
    bags: dict[str, Counter[object]] = defaultdict(Counter)
    example = {p.answer: p for p in train}
    often = Counter(p.answer for p in train)
    for problem, fs in zip(train, found, strict=True):
        bags[problem.answer].update(fs)
    size = {answer: sum(bag.values()) for answer, bag in bags.items()}

    def alike(fs: set[object], i: int) -> float:
        return sum(weight[f] ** 2 for f in fs & found[i]) / length[i]

    def likely(fs: set[object], answer: str) -> float:
        smooth = size[answer] + 0.1 * len(weight)
        return math.log(often[answer]) + sum(math.log((bags[answer][f] + 0.1) / smooth) for f in fs if f in weight)

    nearest = bag = 0
    for problem in test:
        fs = features(problem)
        close = max(range(len(train)), key=lambda i, fs=fs: alike(fs, i))  # type: ignore[misc]
        guess = max(often, key=lambda answer, fs=fs: likely(fs, answer))  # type: ignore[misc]
        nearest += SKILLS[name].check(problem, train[close].reply).right
        bag += SKILLS[name].check(problem, example[guess].reply).right
    assert nearest <= 25 and bag <= 25, f"right of 100: nearest neighbour {nearest}, bag of words {bag}"
