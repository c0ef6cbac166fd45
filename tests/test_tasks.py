"""The scorers of public benchmarks against brute force, on a tiny random model, made-up files and, where SPROUT_DATA is
set, the real ones."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from sprout.common.errors import UserError
from sprout.engine import Engine, toolbox_for
from sprout.evals import tasks
from sprout.evals.tasks import CORE, FILES, TABLE_NAMES, evaluate_task, evaluate_tasks, pair_losses, read_items, table
from sprout.model import GPT
from sprout.model.config import GPTConfig
from sprout.tokenizer import Tokenizer

WORDS = "the cat sat on a mat and then it ran over seven green hills to see who was there".split()
Pairs = Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    """Random weights everywhere, large enough that the logits are far from even."""
    gpt = GPT(GPTConfig(tokenizer.vocab_size, 48, 2, 32, 4, 2, 8, 64), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in gpt.parameters():
            p.normal_(0, 0.3, generator=generator)
    return gpt


def text(dice: random.Random, low: int, high: int) -> str:
    return " ".join(dice.choice(WORDS) for _ in range(dice.randint(low, high)))


@torch.no_grad()
def by_hand(model: GPT, tokenizer: Tokenizer, context: str, continuation: str) -> tuple[float, bool]:
    """Mean nats a token of the continuation and whether each token is the likeliest: one forward pass for each token, on
    nothing but what stands before it."""
    before = [tokenizer.specials["<|endoftext|>"], *tokenizer.encode(context)]
    behind = tokenizer.encode(continuation)
    nats, likeliest = 0.0, True
    for i, token in enumerate(behind):
        # One row is computed on at most `context` tokens, and those are the same for all tokens of the continuation.
        start = max(0, len(before) + len(behind) - (model.config.context + 1))
        prefix = [*before, *behind[:i]][start:]
        logits = model.logits(model(torch.tensor([prefix])))[0, -1].double()
        nats -= float(logits[token] - logits.logsumexp(0))
        likeliest = likeliest and int(logits.argmax()) == token
    return nats / len(behind), likeliest


def test_losses_are_those_of_one_token_at_a_time(model: GPT, tokenizer: Tokenizer) -> None:
    """In batches of rows of different lengths, padded, whatever their order."""
    dice = random.Random(1)
    pairs = [(text(dice, 0, 12), " " + text(dice, 1, 5)) for _ in range(40)]
    losses, exact, cropped = pair_losses(model, tokenizer, pairs, tokens=90)
    assert cropped == 0
    for pair, loss, hit in zip(pairs, losses, exact, strict=True):
        want, likeliest = by_hand(model, tokenizer, *pair)
        assert loss == pytest.approx(want, abs=2e-4) and hit == likeliest, pair
    assert len({round(x, 3) for x in losses}) > 30


def test_what_the_model_would_say_is_exact(model: GPT, tokenizer: Tokenizer) -> None:
    """A continuation taken greedily is exact; with another word in it, it isn't."""
    ids = [tokenizer.specials["<|endoftext|>"], *tokenizer.encode("the cat")]
    said: list[int] = []
    for _ in range(12):
        said.append(int(model.logits(model(torch.tensor([ids + said])))[0, -1].argmax()))
        spoken = tokenizer.decode(said)
        if tokenizer.encode(spoken) != said or "\ufffd" in spoken:
            said.pop()  # these ids are not how the tokenizer writes their text
            break
    if not said:
        pytest.skip("the random model's first token is not text by itself")
    spoken = tokenizer.decode(said)
    _, exact, _ = pair_losses(
        model, tokenizer, [("the cat", spoken), ("the cat", spoken + " and"), ("the cat", " mat")]
    )
    assert exact[0] and not exact[2]
    assert exact[1] == by_hand(model, tokenizer, "the cat", spoken + " and")[1]


def test_a_prompt_that_is_too_long_loses_its_beginning(model: GPT, tokenizer: Tokenizer) -> None:
    dice = random.Random(2)
    long, short = text(dice, 120, 120), text(dice, 3, 3)
    pairs = [(long, " the mat"), (short, " the mat"), ("", " " + long)]
    losses, _, cropped = pair_losses(model, tokenizer, pairs)
    assert cropped == 2
    for pair, loss in list(zip(pairs, losses, strict=True))[:2]:
        assert loss == pytest.approx(by_hand(model, tokenizer, *pair)[0], abs=2e-4)
    assert losses[2] == losses[2], "a continuation longer than the context is scored on its end"


def test_scoring_leaves_the_model_as_it_was(model: GPT, tokenizer: Tokenizer) -> None:
    """In float32, whatever the stream's type is while training."""
    want = pair_losses(model, tokenizer, [("the cat", " sat")])[0]
    model.dtype = torch.bfloat16
    got = pair_losses(model, tokenizer, [("the cat", " sat")])[0]
    dtype, model.dtype = model.dtype, torch.float32
    assert dtype == torch.bfloat16 and got == want


# ---------------------------------------------------------------- whole tasks, on files made up here


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_table(folder: Path, **rows: tuple[int, float]) -> None:
    """DCLM's table: shots and the chance level in per cent."""
    lines = ["Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline,Centered Metric?,Description"]
    lines += [f'{name},x,y,{shots},10,{chance},,"One, two"' for name, (shots, chance) in rows.items()]
    (folder / "icl").mkdir(parents=True, exist_ok=True)
    (folder / "icl" / "eval_meta_data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tasks, one of each form, of 30 items each."""
    dice = random.Random(5)
    choices = [
        {"query": f"{i} {text(dice, 2, 6)}", "choices": [text(dice, 1, 4) for _ in range(4)], "gold": dice.randrange(4)}
        for i in range(30)
    ]
    schemas = [
        {
            "context_options": [f"{i} {text(dice, 2, 5)}" for _ in range(2)],
            "continuation": text(dice, 1, 4),
            "gold": i % 2,
        }
        for i in range(30)
    ]
    exact = [{"context": f"{i} {text(dice, 2, 5)}", "continuation": text(dice, 1, 1)} for i in range(30)]
    for name, rows in (("arc_easy", choices), ("winograd_wsc", schemas), ("lambada_openai", exact)):
        write_lines(tmp_path / "icl" / f"{name}.jsonl", rows)
    return tmp_path


def right_by_hand(model: GPT, tokenizer: Tokenizer, folder: Path, name: str) -> float:
    """The share right without examples, from the rows of the file themselves."""
    right, rows = (
        0,
        [json.loads(x) for x in (folder / "icl" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()],
    )
    for row in rows:
        if "choices" in row:
            found = [by_hand(model, tokenizer, row["query"], " " + c)[0] for c in row["choices"]]
        elif "context_options" in row:
            found = [by_hand(model, tokenizer, c, " " + row["continuation"])[0] for c in row["context_options"]]
        else:
            right += by_hand(model, tokenizer, row["context"], " " + row["continuation"])[1]
            continue
        right += found.index(min(found)) == row["gold"]
    return right / len(rows)


@pytest.mark.parametrize(
    ("name", "in_table", "chance"),
    [("arc_easy", "arc_easy", 25), ("winograd_wsc", "winograd", 50), ("lambada_openai", "lambada_openai", 0)],
)
def test_a_task_is_scored_as_by_hand(
    name: str, in_table: str, chance: float, folder: Path, model: GPT, tokenizer: Tokenizer
) -> None:
    write_table(folder, **{in_table: (0, chance)})
    got = evaluate_task(model, tokenizer, folder, name, 0)
    want = right_by_hand(model, tokenizer, folder, name)
    assert got.n == 30 and got.score == pytest.approx(want)
    assert got.centred == pytest.approx((want - chance / 100) / (1 - chance / 100))
    assert name != "arc_easy" or 0 < want < 1


def scored(monkeypatch: pytest.MonkeyPatch, loss: Callable[[str, str], float]) -> list[tuple[str, str]]:
    """Replace the model by a rule; returns the list into which all that it is asked is put."""
    asked: list[tuple[str, str]] = []

    def rule(model: GPT, tokenizer: Tokenizer, pairs: Pairs, batch: int = 32) -> tuple[list[float], list[bool], int]:
        asked.extend(pairs)
        return [loss(*p) for p in pairs], [loss(*p) < 0.5 for p in pairs], 0

    monkeypatch.setattr(tasks, "pair_losses", rule)
    return asked


@pytest.mark.parametrize("name", ["arc_easy", "winograd_wsc", "lambada_openai"])
@pytest.mark.parametrize("knows", [True, False])
def test_whoever_knows_everything_gets_one(
    name: str, knows: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, model: GPT, tokenizer: Tokenizer
) -> None:
    """1 for all right and -chance / (1 - chance) for all wrong; for chance itself it would be 0."""
    write_table(folder, **{TABLE_NAMES.get(name, name): (3, 20)})
    gold = {(i.pairs[i.gold][0], i.pairs[i.gold][1]) for i in read_items(folder, name)}
    scored(monkeypatch, lambda context, said: 0.0 if ((context.rpartition("\n\n")[2], said) in gold) == knows else 1.0)
    got = evaluate_task(model, tokenizer, folder, name, 0)
    assert got.score == float(knows)
    assert got.centred == pytest.approx(1.0 if knows else -0.25)


@pytest.mark.parametrize("name", ["arc_easy", "winograd_wsc", "lambada_openai"])
def test_examples_are_right_and_never_the_question_itself(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, model: GPT, tokenizer: Tokenizer
) -> None:
    write_table(folder, **{TABLE_NAMES.get(name, name): (4, 0)})
    items = read_items(folder, name)
    golds = {"".join(i.pairs[i.gold]) for i in items}
    asked = scored(monkeypatch, lambda context, said: 0.0)
    evaluate_task(model, tokenizer, folder, name, 10)
    own = {context: "".join(i.pairs[i.gold]) for i in items for context, _ in i.pairs}
    sets = set()
    for context, _ in asked:
        *examples, question = context.split("\n\n")
        assert len(examples) == 4 == len(set(examples))
        assert set(examples) <= golds and own[question] not in examples
        sets.add(tuple(examples))
    assert len(sets) == 10, "every item has its own examples, the same for all of its choices"
    assert len(asked) == 10 * len(items[0].pairs)
    first = list(asked)
    asked.clear()
    evaluate_task(model, tokenizer, folder, name, 10)
    assert asked == first, "the same items and examples every time"


def test_mmlu_takes_its_examples_from_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: GPT, tokenizer: Tokenizer
) -> None:
    def rows(mark: str, count: int) -> list[dict]:
        return [{"question": f"{mark}{i}?", "choices": ["w", "x", "y", "z"], "answer": i % 4} for i in range(count)]

    write_lines(tmp_path / "mmlu/dev.jsonl", rows("dev", 8))
    write_lines(tmp_path / "mmlu/test.jsonl", rows("test", 6))
    write_table(tmp_path, mmlu_fewshot=(5, 25))
    asked = scored(monkeypatch, lambda context, said: 0.0 if said == " A" else 1.0)
    got = evaluate_task(model, tokenizer, tmp_path, "mmlu", 0)
    assert got.n == 6 and got.score == pytest.approx(2 / 6) and got.centred == pytest.approx((2 / 6 - 0.25) / 0.75)
    for context, _ in asked:
        *examples, question = context.split("\n\n")
        assert len(examples) == 5 and all(e.startswith("dev") for e in examples) and question.startswith("test")
        assert all(e.endswith(f"Answer: {'ABCD'[int(e[3]) % 4]}") for e in examples)
    assert [said for _, said in asked[:4]] == [" A", " B", " C", " D"]


def test_core_is_the_mean_of_the_centred_scores(folder: Path, model: GPT, tokenizer: Tokenizer) -> None:
    """Over those of its tasks that are there, and of no others."""
    write_table(folder, arc_easy=(0, 25), winograd=(0, 50), lambada_openai=(0, 0), bigbench_misconceptions=(0, 50))
    write_lines(folder / "icl/bigbench_misconceptions.jsonl", [{"query": "the cat", "choices": ["T", "F"], "gold": 0}])
    said: list[str] = []
    scores = evaluate_tasks(Engine(model, tokenizer, toolbox_for(None)), folder, say=said.append)
    assert set(scores) == {"arc_easy", "winograd_wsc", "lambada_openai", "bigbench_misconceptions", "CORE"}
    parts = [scores[n] for n in ("arc_easy", "winograd_wsc", "lambada_openai")]
    assert scores["CORE"].score == pytest.approx(sum(p.centred for p in parts) / 3) and scores["CORE"].n == 3
    assert any(re.match("winogrande +left out", s) for s in said)
    assert any(re.match(r"CORE +-?\d+\.\d% +\(mean centred score of 3 of its 22 tasks", s) for s in said)
    assert any(re.match(rf"arc_easy +{parts[0].score:.1%} +\({parts[0].low:.1%} to .*n={parts[0].n}; accuracy, 0 shots", s) for s in said)
    assert all(p.low is not None and p.high is not None and p.low <= p.score <= p.high for p in parts) and scores["CORE"].low is None
    for part, chance in zip(parts, (0.25, 0.5, 0.0), strict=True):
        assert part.centred == pytest.approx((part.score - chance) / (1 - chance))
    assert "bigbench_misconceptions" not in CORE and set(CORE) <= set(FILES)
    only = evaluate_tasks(Engine(model, tokenizer, toolbox_for(None)), folder, 5, ("winograd_wsc",), said.append)
    assert only["winograd_wsc"].n == 5 and set(only) == {"winograd_wsc", "CORE"}


def test_bad_files_are_named(folder: Path, model: GPT, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer, toolbox_for(None))
    with pytest.raises(UserError, match="there is no folder"):
        evaluate_tasks(engine, folder / "nowhere")
    with pytest.raises(UserError, match="unknown tasks chess"):
        evaluate_tasks(engine, folder, names=("chess",))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"query": "a"}',
        '{"query": 3, "choices": ["a", "b"], "gold": 0}',
        '{"query": "a", "choices": "bc", "gold": {}}',
        '{"query": "a", "choices": ["b", "c"], "gold": 2}',
    ],
)
def test_a_bad_line_is_named(line: str, tmp_path: Path, model: GPT, tokenizer: Tokenizer) -> None:
    path = tmp_path / "icl/arc_easy.jsonl"
    path.parent.mkdir()
    path.write_text('{"query": "a", "choices": ["b", "c"], "gold": 1}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"arc_easy\.jsonl line 2"):
        evaluate_tasks(Engine(model, tokenizer, toolbox_for(None)), tmp_path, names=("arc_easy",), say=lambda _: None)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x7f"])
def test_a_line_ends_only_at_its_newline(mark: str, tmp_path: Path) -> None:
    """JSON strings may hold characters that Python's `splitlines` takes for ends of lines; MMLU's do."""
    (tmp_path / "icl").mkdir()
    row = {"query": f"one{mark}two", "choices": ["b", "c"], "gold": 1}
    (tmp_path / "icl/arc_easy.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    items = read_items(tmp_path, "arc_easy")
    assert len(items) == 1 and items[0].pairs[0][0] == f"one{mark}two"


# ---------------------------------------------------------------- real files

REAL = sorted(FILES)


@pytest.fixture(scope="module")
def real(data: Path) -> Path:
    return data / "tasks"


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read(name: str, real: Path) -> None:
    if not (real / FILES[name][0]).is_file():
        pytest.skip(f"{FILES[name][0]} is not among the data")
    items = read_items(real, name)
    assert len(items) > 20
    for item in items:
        assert 0 <= item.gold < len(item.pairs)
        assert all(c == c.rstrip() and said.startswith(" ") and said.strip() for c, said in item.pairs)
        assert (item.mode == "exact") == (len(item.pairs) == 1)
    if items[0].mode == "choice" and name not in ("bigbench_novel_concepts", "bigbench_strange_stories"):
        assert len({i.gold for i in items}) > 1, "every right answer is the first one, as only in those two files"
    shots = table(real)
    if name in (*CORE, "mmlu"):
        assert TABLE_NAMES.get(name, name) in shots, "a task of CORE without its shots and chance level"
        number, chance = shots[TABLE_NAMES.get(name, name)]
        assert 0 <= number <= 10 and 0 <= chance < 0.7 and (chance > 0) == (items[0].mode == "choice")


@pytest.mark.parametrize("name", ["copa", "winogrande", "lambada_openai"])
def test_real_tasks_are_scored_as_by_hand(name: str, real: Path, model: GPT, tokenizer: Tokenizer) -> None:
    """Tasks without examples, a few items each; what is longer than this tiny context is cropped by both."""
    items = read_items(real, name)[:12]
    pairs = [p for item in items for p in item.pairs]
    losses, exact, _ = pair_losses(model, tokenizer, pairs)
    for pair, loss, hit in zip(pairs, losses, exact, strict=True):
        want, likeliest = by_hand(model, tokenizer, *pair)
        assert loss == pytest.approx(want, abs=2e-4) and hit == likeliest


def test_all_real_tasks_together(real: Path, model: GPT, tokenizer: Tokenizer) -> None:
    said: list[str] = []
    scores = evaluate_tasks(Engine(model, tokenizer, toolbox_for(None)), real, 2, say=said.append)
    present = [n for n in CORE if n in scores]
    assert len(present) >= 15 and "gsm8k" in scores and "mmlu" in scores
    assert scores["CORE"].centred == pytest.approx(sum(scores[n].centred for n in present) / len(present))
    for name in present:
        chance = table(real)[TABLE_NAMES.get(name, name)][1]
        assert (
            scores[name].centred == pytest.approx((scores[name].score - chance) / (1 - chance)) and scores[name].n == 2
        )
