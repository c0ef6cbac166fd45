"""Public benchmarks from a folder of local files, scored the standard way.

Three forms, as in the CORE metric of DCLM (arXiv 2406.11794): multiple choice (the continuation with the lowest mean loss
a token), schema (the same continuation behind two contexts), language modelling (every token of the continuation is the
likeliest); and generation with an exact number for GSM8K. MMLU is multiple choice over the letters, five shots from dev.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sprout.common.errors import UserError
from sprout.common.processes import gathered, on_first, world
from sprout.data.gsm8k import check_gsm8k, load_gsm8k
from sprout.data.local import read_utf8
from sprout.engine import Engine, Prompt, Sampling, generate_shared
from sprout.evals.intervals import wilson
from sprout.model import GPT
from sprout.model.loss import judged
from sprout.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Item:
    """One question: pairs of (context, continuation), and which pair is right. `mode` is how it is scored: 'choice'
    compares the pairs' continuations, 'exact' asks whether the only one is what the model would say."""

    pairs: tuple[tuple[str, str], ...]
    gold: int
    mode: str = "choice"

    def __post_init__(self) -> None:
        if not isinstance(self.gold, int) or not 0 <= self.gold < len(self.pairs):
            raise ValueError(f"the right answer is {self.gold!r}, of {len(self.pairs)}")


def _choices(row: dict[str, Any]) -> Item:
    return Item(tuple((row["query"].rstrip(), " " + c.strip()) for c in row["choices"]), row["gold"])


def _schema(row: dict[str, Any]) -> Item:
    return Item(tuple((c.rstrip(), " " + row["continuation"].strip()) for c in row["context_options"]), row["gold"])


def _exact(row: dict[str, Any]) -> Item:
    return Item(((row["context"].rstrip(), " " + row["continuation"].strip()),), 0, "exact")


def _hellaswag(row: dict[str, Any]) -> Item:
    return Item(tuple((row["ctx"].rstrip(), " " + e.strip()) for e in row["endings"]), int(row["label"]))


def _mmlu(row: dict[str, Any]) -> Item:
    listed = "\n".join(f"{letter}. {c}" for letter, c in zip("ABCD", row["choices"], strict=True))
    return Item(
        tuple((f"{row['question'].strip()}\n{listed}\nAnswer:", f" {letter}") for letter in "ABCD"), int(row["answer"])
    )


ICL: dict[str, Callable[[dict[str, Any]], Item]] = {"winograd_wsc": _schema, "winogrande": _schema}
for _name in ("arc_challenge", "arc_easy", "boolq", "commonsense_qa", "copa", "openbook_qa", "piqa", "bigbench_conceptual_combinations",
              "bigbench_language_identification", "bigbench_misconceptions", "bigbench_novel_concepts", "bigbench_strange_stories",
              "bigbench_strategy_qa", "bigbench_understanding_fables"):  # fmt: skip
    ICL[_name] = _choices
for _name in ("bigbench_cs_algorithms", "bigbench_dyck_languages", "bigbench_operators", "bigbench_qa_wikidata", "bigbench_repeat_copy_logic",
              "lambada_openai", "simple_arithmetic_withspaces"):  # fmt: skip
    ICL[_name] = _exact

# The tasks of CORE that have another name in DCLM's table of shots and baselines.
TABLE_NAMES = {"winograd_wsc": "winograd", "hellaswag": "hellaswag", "mmlu": "mmlu_fewshot"}
FILES: dict[str, tuple[str, Callable[[dict[str, Any]], Item]]] = {
    **{name: (f"icl/{name}.jsonl", item) for name, item in ICL.items()},
    "hellaswag": ("hellaswag_val.jsonl", _hellaswag),
    "mmlu": ("mmlu/test.jsonl", _mmlu),
}
CORE = ("hellaswag", "bigbench_qa_wikidata", "arc_easy", "arc_challenge", "copa", "commonsense_qa", "piqa", "openbook_qa", "lambada_openai",
        "winograd_wsc", "winogrande", "bigbench_dyck_languages", "bigbench_cs_algorithms", "bigbench_operators", "bigbench_repeat_copy_logic",
        "boolq", "bigbench_language_identification")  # fmt: skip


def read_items(folder: Path, name: str) -> list[Item]:
    """All items of a task's file."""
    file, make = FILES[name]
    return _read(folder / file, make)


def _read(path: Path, make: Callable[[dict[str, Any]], Item]) -> list[Item]:
    items = []
    for number, line in enumerate(read_utf8(path).rstrip("\n").split("\n"), 1):
        try:
            items.append(make(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise UserError(
                f"{path} line {number} is not in the form of this task ({error!r}); see README for the files."
            ) from error
    return items


def table(folder: Path) -> dict[str, tuple[int, float]]:
    """Shots and chance level by task, from DCLM's eval_meta_data.csv; empty where it is missing."""
    path = folder / "icl" / "eval_meta_data.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {r["Eval Task"]: (int(r["#shots"]), float(r["Random baseline"]) / 100) for r in csv.DictReader(file)}


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Share right of n items, scaled so that chance is 0 (`centred`), and how many prompts lost their beginning to the
    context."""

    n: int
    score: float
    centred: float
    cropped: int
    metric: str
    low: float | None = None  # 95 % interval of the score; CORE, a mean of scores, has none
    high: float | None = None

    def __str__(self) -> str:
        interval = f"{self.low:.1%} to {self.high:.1%}, n={self.n}; " if self.low is not None else ""
        cropped = f"; {self.cropped} prompts cropped" if self.cropped else ""
        return f"{self.score:6.1%}  ({interval}{self.metric}{cropped})"


@torch.no_grad()
def pair_losses(
    model: GPT, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], tokens: int = 1 << 13
) -> tuple[list[float], list[bool], int]:
    """For each (context, continuation): the mean nats a token of the continuation, whether each of its tokens is the
    likeliest, and in all how many prompts were cropped from the left to the model's context. Rows of about one length go
    together, at most 32 and about `tokens` tokens. Several processes share the work."""
    rank, size = world()
    start = tokenizer.specials["<|endoftext|>"]
    rows, cropped = [], 0
    for context, continuation in pairs:
        before, behind = tokenizer.encode(context), tokenizer.encode(continuation)
        ids = [start, *before, *behind][-(model.config.context + 1) :]
        cropped += len(ids) < 1 + len(before) + len(behind)
        rows.append((ids, min(len(behind), len(ids) - 1)))
    losses, exact = [0.0] * len(rows), [False] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    parts: list[list[int]] = []
    for i in order:
        if not parts or len(parts[-1]) == 32 or (len(parts[-1]) + 1) * len(rows[i][0]) > tokens:
            parts.append([])
        parts[-1].append(i)
    dtype, model.dtype = model.dtype, torch.float32
    for part in parts[rank::size]:
        padded = torch.full((len(part), len(rows[part[-1]][0])), start)
        scored = torch.zeros(padded.shape, dtype=torch.bool)  # the continuations
        for r, i in enumerate(part):
            own, n = rows[i]
            padded[r, : len(own)] = torch.tensor(own)
            scored[r, len(own) - n : len(own)] = True
        padded, scored = padded.to(model.embed.device), scored.to(model.embed.device)
        logp, hit = judged(*model.head_product(model(padded[:, :-1])[scored[:, 1:]]), padded[scored])
        counts = [rows[i][1] for i in part]
        for i, of, hits in zip(part, logp.cpu().split(counts), hit.cpu().split(counts), strict=True):
            losses[i], exact[i] = -float(of.mean()), bool(hits.all())
    model.dtype = dtype
    for part_losses, part_exact in gathered((losses, exact)) if size > 1 else []:  # what is another's is 0 and False
        losses = [max(a, b) for a, b in zip(losses, part_losses, strict=True)]
        exact = [a or b for a, b in zip(exact, part_exact, strict=True)]
    return losses, exact, cropped


def evaluate_task(model: GPT, tokenizer: Tokenizer, folder: Path, name: str, limit: int, seed: int = 1337) -> TaskScore:
    """Score a task on up to `limit` of its items (0: all), its examples drawn from the other items (MMLU: from dev)."""
    items, known = on_first(lambda: (read_items(folder, name), table(folder)))
    shots, baseline = known.get(TABLE_NAMES.get(name, name), (0, 0.0))
    pool = on_first(lambda: _read(folder / "mmlu/dev.jsonl", _mmlu)) if name == "mmlu" else items
    chosen = list(range(len(items)))
    random.Random(seed).shuffle(chosen)
    chosen = chosen[: limit or None]
    pairs: list[tuple[str, str]] = []
    for i in chosen:
        others = random.Random(seed + i).sample(
            [j for j in range(len(pool)) if pool is not items or j != i], min(shots, len(pool) - 1)
        )
        examples = "".join("".join(pool[j].pairs[pool[j].gold]) + "\n\n" for j in others)
        pairs += [(examples + context, continuation) for context, continuation in items[i].pairs]
    losses, exact, cropped = pair_losses(model, tokenizer, pairs)
    right, at = 0, 0
    for i in chosen:
        count = len(items[i].pairs)
        if items[i].mode == "exact":
            right += exact[at]
        else:
            right += min(range(count), key=lambda k: losses[at + k]) == items[i].gold
        at += count
    score = right / max(1, len(chosen))
    metric = "exact match" if items and items[0].mode == "exact" else "accuracy"
    centred, low_high = (score - baseline) / (1 - baseline), wilson(right, len(chosen))
    return TaskScore(len(chosen), score, centred, cropped, f"{metric}, {shots} shots", *low_high)


def evaluate_gsm8k(engine: Engine, folder: Path, limit: int) -> TaskScore:
    """The share of GSM8K's test questions whose reply ends in the right number."""
    problems = on_first(lambda: load_gsm8k(folder / "gsm8k"))["test"][: limit or None]
    room = engine.model.config.context - 60
    able = [p for p in problems if len(engine.tokenizer.encode(p.prompt[-1].content)) < room]
    replies = generate_shared(engine, [Prompt(p.prompt) for p in able], Sampling(max_tokens=200))
    right = sum(check_gsm8k(p, r.messages).right for p, r in zip(able, replies, strict=True))
    score = right / max(1, len(problems))
    metric, low_high = "exact number; prompts too long count as wrong", wilson(right, len(problems))
    return TaskScore(len(problems), score, score, len(problems) - len(able), metric, *low_high)


def evaluate_tasks(
    engine: Engine, folder: Path, limit: int = 0, names: Sequence[str] = (), say: Callable[[str], None] = print
) -> dict[str, TaskScore]:
    """All tasks whose file is in the folder (or those named), and CORE over those of its tasks that are there.

    HumanEval needs a sandbox for the model's code and is left out, and said so."""
    if not on_first(folder.is_dir):
        raise UserError(f"there is no folder {folder}; expected benchmark files like gsm8k/test.jsonl and icl/*.jsonl.")
    unknown = [n for n in names if n not in FILES and n != "gsm8k"]
    if unknown:
        raise UserError(f"unknown tasks {', '.join(unknown)}; there are gsm8k, {', '.join(FILES)}.")
    scores: dict[str, TaskScore] = {}
    for name in names or ("gsm8k", *FILES):
        here = (folder / "gsm8k/test.jsonl") if name == "gsm8k" else folder / FILES[name][0]
        if not on_first(here.is_file):
            say(f"{name:32} left out, {here} is not there")
            continue
        scores[name] = (
            evaluate_gsm8k(engine, folder, limit)
            if name == "gsm8k"
            else evaluate_task(engine.model, engine.tokenizer, folder, name, limit)
        )
        say(f"{name:32} {scores[name]}")
    present = [n for n in CORE if n in scores]
    if present:
        mean = sum(scores[n].centred for n in present) / len(present)
        scores["CORE"] = TaskScore(len(present), mean, mean, 0, f"mean centred score of {len(present)} of its 22 tasks")
        say(f"{'CORE':32} {mean:6.1%}  ({scores['CORE'].metric}; 0 is chance)")
    if on_first((folder / "humaneval.jsonl").is_file):
        say(f"{'humaneval':32} left out, running a model's code needs a sandbox that is not built yet")
    return scores
