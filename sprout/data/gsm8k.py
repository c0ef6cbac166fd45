"""GSM8K (arXiv 2110.14168) from local files, as problems like those of the world."""

from __future__ import annotations

import re
from pathlib import Path

from sprout.common.errors import UserError
from sprout.common.hashing import split_of
from sprout.common.messages import Message
from sprout.data.local import Border, json_lines
from sprout.world import Problem, Reply, Verdict, final_text


def load_gsm8k(folder: Path) -> dict[str, list[Problem]]:
    """Problems by split: test.jsonl is 'test'; train.jsonl is 'train' and, by a hash of the question, 'validation'.

    Raises UserError for the first line that is not as it should be: a benchmark without some of its lines is another."""
    found: dict[str, list[Problem]] = {"train": [], "validation": [], "test": []}
    for name in ("train", "test"):
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise UserError(f"{path} is missing; GSM8K needs train.jsonl and test.jsonl.")
        for where, row in json_lines(path, Border(strict=True)):
            try:
                problem = gsm8k_problem(row["question"], row["answer"])
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(f'{where}: expected {{"question", "answer"}}, got {str(row)[:60]!r}') from error
            split = "test" if name == "test" else "train" if split_of(problem.key) == "train" else "validation"
            found[split].append(problem)
        if not found[name]:
            raise UserError(f'{path} holds too few problems; expected lines of {{"question", "answer"}}.')
    return found


def gsm8k_problem(question: str, answer: str) -> Problem:
    """One row: the calculator's marks << >> are taken out, '#### 24' becomes 'The answer is 24.'"""
    worked, _, number = re.sub(r"<<[^>]*>>", "", answer).rpartition("####")
    value = plain_number(number)
    reply = (Message("assistant", f"{worked.strip()}\nThe answer is {value}."),)
    return Problem("gsm8k", f"gsm8k:{question}", (Message("user", question),), reply, value)


def plain_number(text: str) -> str:
    """'$1,200.0 ' as '1200'."""
    text = re.sub(r"[,$%\s]", "", text).rstrip(".")
    return text[: -len(text.split(".")[1]) - 1] if re.fullmatch(r"-?\d+\.0+", text) else text


def check_gsm8k(problem: Problem, reply: Reply) -> Verdict:
    """Right if the last number of the reply is the answer."""
    numbers = re.findall(r"-?\$?\d[\d,]*(?:\.\d+)?", final_text(reply))
    right = bool(numbers) and plain_number(numbers[-1]) == problem.answer
    return Verdict(right, "" if right else f"expected {problem.answer}")
