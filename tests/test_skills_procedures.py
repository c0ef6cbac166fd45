"""The checkers of all skills in one general way, those of procedures (sums, spelling, sorting, dates, formats, stories) in
depth: a right reply passes, one changed in one place that matters doesn't, and nothing that a model writes breaks them.

Nothing here knows today's wordings: replies are changed through `steps`, `answer`, `truth` and the tool calls.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sprout.common.messages import Message, ToolCall
from sprout.world import Dice, Problem, Verdict, WorldConfig, build_world, final_text
from sprout.world.skills import SKILLS

WORLD = build_world(WorldConfig())
STEPWISE = ("arithmetic", "word_problems", "spelling", "sorting", "dates")  # their steps are parts of one text
COUNT = 100


def draw(name: str, count: int = COUNT, seed: int = 21) -> list[Problem]:
    dice = Dice(seed)
    return [SKILLS[name].make(WORLD, dice) for _ in range(count)]


def check(problem: Problem, reply: tuple[Message, ...]) -> Verdict:
    return SKILLS[problem.skill].check(problem, reply)


def saying(problem: Problem, text: str) -> tuple[Message, ...]:
    """The gold reply with other last words."""
    return (*problem.reply[:-1], Message("assistant", text))


def judged(problem: Problem, text: str) -> Verdict:
    return check(problem, saying(problem, text))


# ---------------------------------------------------------------- all skills


@pytest.mark.parametrize("name", SKILLS)
def test_gold_replies_are_right(name: str) -> None:
    for problem in draw(name):
        for p in (problem, problem.twin) if problem.twin else (problem,):
            assert check(p, p.reply) == Verdict(True), (p.prompt, p.reply)
            assert p.skill == name and p.answer and p.prompt[-1].role == "user"
        # A prompt with its answer can be written to a file and checked later.
        again = replace(problem, truth=json.loads(json.dumps(problem.truth)))
        assert again.truth == problem.truth and check(again, again.reply).right


@pytest.mark.parametrize("name", SKILLS)
def test_a_reply_without_its_answer_is_wrong(name: str) -> None:
    for problem in draw(name):
        gold = final_text(problem.reply)
        assert not judged(problem, gold.replace(problem.answer, "")).right, gold
        assert not judged(problem, "").right and not check(problem, ()).right
        assert not check(problem, problem.reply[:-1]).right
        if problem.twin:
            assert not check(problem, problem.twin.reply).right and not check(problem.twin, problem.reply).right


@pytest.mark.parametrize("name", [n for n in SKILLS if n not in ("refusal", "small_talk")])  # which are asked alike
def test_another_problems_reply_is_wrong(name: str) -> None:
    problems = draw(name, 60)
    tried = 0
    for one in problems[:20]:
        for other in problems:
            if one.answer == other.answer or name == "story":
                continue
            tried += 1
            assert not check(one, other.reply).right, (one.prompt, other.reply)
    assert tried > 100 or name == "story"


def hostile_texts() -> Iterator[str]:
    dice = random.Random(3)
    yield from (
        "",
        " ",
        "\n\n\n",
        ".",
        "\x00",
        "\x00\x1b[2J\x07\x08\x7f\r\n\t\x0b",
        "\u2028\u200b\ufeff\u202e",
        "\ud800",
    )
    yield "".join(chr(dice.randrange(1, 0x2FFF)) for _ in range(10_000))
    yield "".join(dice.choice('abc 0123456789.,:+-x=\n{}[]"') for _ in range(10_000))
    yield "The answer is " * 700
    yield "The answer is \u00b2\u0663\u2167."  # digits that are no numbers
    yield "9" * 10_000  # more digits than Python makes a number of
    yield "1e999999" + ", 1" * 3000
    yield from ("{", "[" * 10_000, '{"name": ' * 2000, '{"name": "A", "age": ', "{}}", '{"a": NaN}', "null", '"' * 9999)
    yield "{name} {0} %s %(x)s $(x) \\1 \\g<0> (?P<a>"
    yield "a" * 5000 + "!" * 5000


def hostile_calls() -> Iterator[ToolCall]:
    for arguments in ("", "{", "[]", "3", "null", "[" * 100_000, '{"a":' * 20_000, '{"expression": {"a": [1]}}', '{"name": null}',
                      '{"expression": ' + "9" * 10_000 + "}", "\x00", '{"name": "\\ud800"}', "\ud800"):  # fmt: skip
        for tool in ("calculator", "lookup", "", "\x00"):
            yield ToolCall(tool, arguments)


@pytest.mark.parametrize("name", SKILLS)
def test_hostile_replies_are_wrong_and_break_nothing(name: str) -> None:
    for problem in draw(name, 8):
        for text in hostile_texts():
            assert not judged(problem, text).right, text[:80]
            assert not check(problem, (Message("assistant", text),)).right, text[:80]
            assert not check(problem, (Message("tool", text), Message("tool", text))).right
            assert not check(problem, (Message("user", final_text(problem.reply)),)).right, "nobody replied"


@pytest.mark.parametrize("name", SKILLS)
def test_hostile_calls_are_wrong_and_break_nothing(name: str) -> None:
    for problem in draw(name, 4):
        for call in hostile_calls():
            made = Message("assistant", "", call)
            assert not check(problem, (made,)).right
            assert not check(problem, (made, Message("tool", "\x00"), Message("assistant", "\x00"))).right
            check(problem, (made, *problem.reply))  # may be right or wrong, as the skill sees it, and raises nothing


# ---------------------------------------------------------------- skills whose reply is a row of steps


def other_character(c: str) -> str:
    """A digit for a digit, a letter for a letter, of the same case."""
    if c.isdigit():
        return str((int(c) + 1) % 10)
    return chr((ord(c.lower()) - 96) % 26 + 97) if c.islower() else chr((ord(c.lower()) - 96) % 26 + 97).upper()


def changes(text: str) -> Iterator[str]:
    """The text with one digit or letter changed, dropped or doubled, at every place."""
    for i, c in enumerate(text):
        if c.isalnum():
            yield text[:i] + other_character(c) + text[i + 1 :]
            yield text[:i] + text[i + 1 :]
            yield text[:i] + c + text[i:]


def placed(problem: Problem) -> list[tuple[int, int]]:
    """Where each step stands in the gold text: they are all there, in order."""
    gold, found, at = final_text(problem.reply), [], 0
    for step in problem.steps:
        start = gold.index(step, at)
        at = start + len(step)
        found.append((start, at))
    return found


@pytest.mark.parametrize("name", STEPWISE)
def test_the_first_wrong_step_is_told(name: str) -> None:
    for problem in draw(name):
        gold = final_text(problem.reply)
        places = placed(problem)
        assert places, "no steps"
        assert check(problem, problem.reply).first_wrong_step is None
        for i, (start, end) in enumerate(places):
            last = i == len(places) - 1
            changed = [x for x in changes(gold[start:end]) if " ".join(x.split()) != " ".join(gold[start:end].split())]
            for step in changed[:: 1 if last else 5]:
                verdict = judged(problem, gold[:start] + step + gold[end:])
                assert verdict.first_wrong_step == i, (step, verdict)
            verdict = judged(problem, gold[:end])  # stops here
            assert verdict.first_wrong_step == (None if last else i + 1) and verdict.right is last
            if not last:
                after = places[i + 1]
                swapped = (
                    gold[:start] + gold[after[0] : after[1]] + gold[end : after[0]] + gold[start:end] + gold[after[1] :]
                )
                dropped = gold[:start] + gold[after[0] :]
                for text in (swapped, dropped) if gold[start:end] != gold[after[0] : after[1]] else ():
                    assert judged(problem, text).first_wrong_step == i, text


@pytest.mark.parametrize("name", STEPWISE)
def test_a_wrong_answer_is_wrong_whatever_the_steps(name: str) -> None:
    """One character of the answer changed, dropped or doubled; its items dropped, doubled, swapped, one added; the right
    answer followed by another one."""
    for problem in draw(name):
        gold, answer = final_text(problem.reply), problem.answer
        at = gold.rindex(answer)
        final = problem.steps[-1]
        wrong = list(changes(answer))
        for separator in (", ", " "):
            items = answer.split(separator)
            if len(items) > 1:
                wrong += [separator.join(items[:i] + items[i + 1 :]) for i in range(len(items))]
                wrong += [separator.join([*items[: i + 1], *items[i:]]) for i in range(len(items))]
                for i in range(len(items) - 1):
                    wrong.append(separator.join([*items[:i], items[i + 1], items[i], *items[i + 2 :]]))
                wrong.append(separator.join(reversed(items)))
        wrong = [w for w in wrong if w != answer]
        assert len(wrong) >= 3
        for other in wrong:
            verdict = judged(problem, gold[:at] + other + gold[at + len(answer) :])
            assert not verdict.right and verdict.why, (other, answer)
            assert verdict.first_wrong_step == len(problem.steps) - 1
            # A second thought counts: the last answer is the answer.
            second = final.replace(answer, other)
            assert not judged(problem, f"{gold}\n{second}").right, second
            assert judged(problem, f"{second}\n{final}").right, "a corrected answer counts"
        assert not judged(problem, "\n".join(problem.steps[:-1])).right
        assert not judged(problem, gold.replace(answer, f"{answer} or {wrong[0]}")).right


def number_words(text: str) -> list[int]:
    return [int(x) for x in re.findall(r"\d+", text)]


def test_sums_are_those_of_python() -> None:
    """The expression in the question, worked out here; and the digits of the steps, read from the ones upwards, are those
    of the result."""
    signs = set()
    for name in ("arithmetic", "calculator"):
        for problem in draw(name, 300):
            found = re.findall(r"(\d+) ([-+x/]) (\d+)", problem.prompt[-1].content)
            assert len(found) == 1, problem.prompt
            a, sign, b = int(found[0][0]), found[0][1], int(found[0][2])
            signs.add((name, sign))
            assert int(problem.answer) == {"+": a + b, "-": a - b, "x": a * b, "/": a // max(1, b)}[sign]
            assert sign != "/" or a % b == 0
            assert int(problem.answer) >= 0
            if name == "arithmetic":
                assert max(a, b) <= 9999 and len(problem.steps) == len(str(max(a, b))) + 1
    assert {s for n, s in signs if n == "arithmetic"} == set("+-x") and len(signs) == 7


def test_word_problems_add_up() -> None:
    """Every equation of a step holds, goes on from the one before, and uses a number of the question; the last is the
    answer."""
    lengths = set()
    for problem in draw("word_problems", 300):
        asked, now, count = number_words(problem.prompt[-1].content), None, 0
        for step in problem.steps:
            # The parts of a product, '17 x 4 = 40 + 28 = 68', add up to it.
            step = re.sub(
                r"= (\d+) \+ (\d+) = (\d+)$", lambda m: f"= {m[3]}" if int(m[1]) + int(m[2]) == int(m[3]) else "", step
            )
            found = re.findall(r"(\d+) ([-+x]) (\d+) = (\d+)$", step)
            assert len(found) == 1 or step.startswith("The answer"), step
            for a, sign, b, result in found:
                x, y = int(a), int(b)
                assert int(result) == {"+": x + y, "-": x - y, "x": x * y}[sign], step
                assert x in asked if now is None else x == now, problem
                assert y in asked, (step, problem.prompt)
                now, count = int(result), count + 1
        assert now == int(problem.answer) >= 0 and count == problem.difficulty
        lengths.add(count)
    assert lengths == {1, 2, 3}


def test_spelling_is_about_a_word_of_the_question() -> None:
    forms = set()
    for problem in draw("spelling", 300):
        words = re.findall(r"[a-z]+", problem.prompt[-1].content.lower())
        answer, joined = problem.answer, problem.answer.replace(" ", "")
        if answer.isdigit():
            counts = {w.count(c) for w in words for c in words if len(c) == 1}
            assert int(answer) in counts | {len(w) for w in words}
            forms.add("number")
        elif len(joined) == 1:
            assert any(joined in (w[0], w[-1]) for w in words)
            forms.add("letter")
        else:
            backwards = len(problem.steps) > 1  # a word spelled as it is needs no steps
            assert joined[:: -1 if backwards else 1] in words
            forms.add("backwards" if backwards else "forwards")
    assert len(forms) == 4


def test_sorting_keeps_what_was_asked() -> None:
    several = 0
    for problem in draw("sorting", 300):
        question, items = problem.prompt[-1].content, problem.answer.split(", ")
        numbers = number_words(question)
        if len(items) > 1:
            several += 1
            values = [int(x) for x in items] if items[0].isdigit() else items
            assert values == sorted(values)
            assert not numbers or values == sorted(numbers)
            assert all(re.search(rf"\b{x}\b", question) for x in items)
        else:
            assert int(items[0]) in (min(numbers), max(numbers)) if numbers else items[0] in question
    assert 50 < several < 250


def test_dates_add_up() -> None:
    """Days and months by counting, clock times by minutes since midnight."""
    weeks = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
    months = "January February March April May June July August September October November December".split()
    seen = set()
    for problem in draw("dates", 300):
        question, answer = problem.prompt[-1].content, problem.answer
        times = [int(h) * 60 + int(m) for h, m in re.findall(r"(\d\d):(\d\d)", question)]
        counts = number_words(re.sub(r"\d\d:\d\d", "", question))
        for names in (weeks, months):
            if answer in names:
                (said,), (k,) = [n for n in names if re.search(rf"\b{n}\b", question)], counts
                assert (names.index(answer) - names.index(said)) % len(names) in (k % len(names), -k % len(names))
                seen.add(names[0])
        if ":" in answer:
            got = int(answer[:2]) * 60 + int(answer[3:])
            assert got == (min(times) if len(times) == 2 else (times[0] + counts[0]) % 1440), (question, answer)
            seen.add(f"clock {len(times)}")
        elif answer.isdigit():
            assert int(answer) == times[1] - times[0]
            seen.add("between")
    assert len(seen) == 5


# ---------------------------------------------------------------- the calculator


def test_the_calculator_has_to_be_asked_the_right_thing() -> None:
    for problem in draw("calculator"):
        call, result, said = problem.reply
        assert call.call is not None and result.content == problem.answer
        expression = json.loads(call.call.arguments)["expression"]
        assert "calculator" in problem.tools
        verdict = check(problem, (said,))
        assert not verdict.right and verdict.first_wrong_step == 0, "an answer out of thin air"
        for other in changes(expression):
            asked = Message("assistant", "", ToolCall.of("calculator", expression=other))
            verdict = check(problem, (asked, result, said))
            assert not verdict.right and verdict.first_wrong_step == 0, other
        for tool, key in (("lookup", "expression"), ("calculator", "name")):
            asked = Message("assistant", "", ToolCall(tool, json.dumps({key: expression})))
            assert not check(problem, (asked, result, said)).right
        for other in changes(problem.answer):
            if other != problem.answer:
                verdict = judged(problem, said.content.replace(problem.answer, other))
                assert not verdict.right and verdict.first_wrong_step == 1, other
        spaced = Message("assistant", "", ToolCall("calculator", call.call.arguments.replace(":", " :  ")))
        assert check(problem, (spaced, result, said)).right, "spaces between JSON's parts say nothing"


# ---------------------------------------------------------------- formats


def changed_json(answer: str) -> Iterator[str]:
    value = json.loads(answer)
    for key in value:
        yield json.dumps({k: v for k, v in value.items() if k != key})
        yield json.dumps({(k.upper() if k == key else k): v for k, v in value.items()})
        yield json.dumps(value | {key: f"{value[key]}"[::-1] + "z"})
        yield json.dumps(value | {key: None})
    yield json.dumps(value | {"more": 1})
    yield json.dumps([value])
    yield json.dumps(json.dumps(value))
    yield json.dumps({k: str(v) for k, v in value.items()})  # the age is a number
    yield from (
        answer[:-1],
        answer[1:],
        answer + "}",
        answer.replace('"', "'"),
        answer.replace(":", "="),
        f"Sure! {answer}",
    )


def changed_items(answer: str, separator: str) -> Iterator[str]:
    items = answer.split(separator)
    for i in range(len(items)):
        yield separator.join(items[:i] + items[i + 1 :])
        yield separator.join([*items[:i], items[i], *items[i:]])
        yield separator.join([*items[:i], items[i] + "z", *items[i + 1 :]])
    yield separator.join([*items, "zebu"])


def test_formats_are_kept() -> None:
    tasks: dict[str, int] = {}
    for problem in draw("format", 300):
        answer, task = problem.answer, problem.truth["task"]
        tasks[task] = tasks.get(task, 0) + 1
        wrong = [f"Here you are: {answer}", f"{answer}\nIs that right?"]
        if task == "json":
            wrong += changed_json(answer)
            reordered = dict(reversed(json.loads(answer).items()))
            assert judged(problem, json.dumps(reordered, indent=2)).right, "order and spaces say nothing in JSON"
        elif task == "capitals":
            wrong += [
                answer.lower(),
                answer.title(),
                answer[:-1] + answer[-1].lower(),
                answer.replace(" ", ", "),
                f"{answer}.",
            ]
            wrong += changed_items(answer, " ")
            words = answer.split(" ")
            wrong += [" ".join([words[1], words[0], *words[2:]])] if words[0] != words[1] else []
        elif task == "one_word":
            shown = re.findall(r"[a-z]+", problem.prompt[-1].content.lower())
            wrong += [w for w in shown if w not in answer.split()] + [f"{answer} {answer}", f"It is {answer}"]
        elif task == "numbered":
            lines = answer.split("\n")
            wrong += changed_items(answer, "\n")
            wrong += [
                "\n".join([lines[1], lines[0], *lines[2:]]),
                re.sub(r"\d+", "1", answer),
                re.sub(r"\d+\. ", "", answer),
            ]
            wrong += [re.sub(r"\d+", lambda m: str(int(m[0]) + 1), answer), re.sub(r"\d+\.", "-", answer)]
        else:
            pool, lines = problem.truth["pool"], answer.split("\n")
            items = [line.partition(". ")[2] for line in lines]
            wrong += changed_items(answer, "\n")
            assert judged(problem, ", ".join(reversed(items))).right, "any order, numbered or not"
            assert judged(problem, ", ".join(pool[-len(items) :])).right, "any of those named"
        for text in wrong:
            if text != answer:
                assert not judged(problem, text).right, (task, text, answer)
    assert len(tasks) == 5 and min(tasks.values()) > 30


# ---------------------------------------------------------------- stories


def test_stories_use_the_words_and_stay_with_their_hero() -> None:
    for problem in draw("story"):
        gold, words = final_text(problem.reply), problem.truth["words"]
        asked = problem.prompt[-1].content
        assert all(re.search(rf"\b{w}\b", asked) for w in words) and len(set(words)) == len(words)
        sentences = [s.strip() + "." for s in gold.split(".") if s.strip()]
        for word in words:
            for other in ("", word[::-1] + "q"):
                assert not judged(problem, re.sub(rf"\b{word}\b", other, gold)).right, word
        cut = (gold[:-1], gold[: len(gold) // 2], " ".join(sentences[:-1])[:-1], sentences[0])
        longer = (f"{gold} {gold}", f"{gold} {sentences[-1]}", " ".join([gold, *sentences] * 3))
        strange = (
            f"{gold} Zorum came.",
            gold.replace(" ", " qwxz ", 1),
            f"{sentences[-1]} {gold}",
            " ".join(words) + ".",
        )
        for text in (*cut, *longer, *strange, gold.lower(), gold.upper(), asked):
            assert not judged(problem, text).right, text
        name = next(
            w for w in re.findall(r"\b[A-Z][a-z]+\b", gold) if all(w in s for s in sentences[1:2]) and gold.count(w) > 2
        )
        first = sentences[0].replace(name, "Zorum")
        assert not judged(problem, " ".join([first, *sentences[1:]])).right, "another hero than the one introduced"


def test_another_storys_words_are_not_these() -> None:
    problems = draw("story")
    for one, other in zip(problems, problems[1:], strict=False):
        if not set(one.truth["words"]) & set(other.truth["words"]):
            assert not check(one, other.reply).right
