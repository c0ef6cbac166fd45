"""The checkers of the skills of knowledge: a right reply passes, one changed in one place that matters doesn't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.messages import Message, ToolCall
from sprout.world import Dice, Problem, WorldConfig, build_world, final_text
from sprout.world.names import person_name
from sprout.world.skills import SKILLS, unknown
from sprout.world.skills.common import VALUES, mentions
from sprout.world.skills.small_talk import INTENTS
from sprout.world.wording import answer, articles

MINE = ("small_talk", "recall", "unknown", "lookup", "reading", "followup", "refusal", "summary")
STATING = ("recall", "lookup", "reading", "followup")
WORLD = build_world(WorldConfig())
SAMPLES = 300


def draw(name: str, count: int = SAMPLES, seed: int = 4) -> list[Problem]:
    dice = Dice(seed)
    return [SKILLS[name].make(WORLD, dice) for _ in range(count)]


def right(problem: Problem, reply: tuple[Message, ...]) -> bool:
    return SKILLS[problem.skill].check(problem, reply).right


def saying(problem: Problem, text: str) -> tuple[Message, ...]:
    """The gold reply with other last words."""
    return (*problem.reply[:-1], Message("assistant", text))


def another(values: list[str], *besides: str) -> str:
    return next(v for v in values if v not in besides)


@pytest.mark.parametrize("name", MINE)
def test_gold_replies_are_right(name: str) -> None:
    for problem in draw(name):
        verdict = SKILLS[name].check(problem, problem.reply)
        assert verdict.right and not verdict.why, (problem.prompt, problem.reply, verdict)
        assert problem.prompt[-1].role == "user" and problem.reply[-1].role == "assistant"
        assert all(m.call is None or m.call.name in problem.tools for m in (*problem.prompt, *problem.reply))
        assert len("".join(m.content for m in (*problem.prompt, *problem.reply))) < 480  # stays well below 180 tokens


@pytest.mark.parametrize("name", MINE)
def test_gold_replies_of_other_problems_are_wrong(name: str) -> None:
    problems = draw(name)
    tried = 0
    for one, other in pairwise(problems):
        if final_text(one.reply) == final_text(other.reply) or one.answer == other.answer:
            continue
        tried += 1
        assert not right(one, other.reply), (one.prompt, other.reply)
    assert tried > 150 or name == "refusal"  # which has one reply for all


@pytest.mark.parametrize("name", MINE)
def test_gold_replies_of_other_skills_are_wrong(name: str) -> None:
    for other in (o for o in MINE if o != name):
        for mine, theirs in zip(draw(name, 40), draw(other, 40), strict=True):
            if mine.answer == theirs.answer:  # 'He is a weaver.' may happen to be right
                continue
            assert not right(mine, theirs.reply), (mine.prompt, theirs.reply)


@pytest.mark.parametrize("name", MINE)
def test_silence_and_echo_are_wrong(name: str) -> None:
    for problem in draw(name, 60):
        for text in ("", " ", ".", "I do not know." if name != "unknown" else "Yes."):
            assert not right(problem, saying(problem, text))
        assert not right(problem, ())
        assert not right(problem, problem.reply[:-1])
        if name not in ("small_talk",):  # a greeting is a fit reply to a greeting
            assert not right(problem, saying(problem, problem.prompt[-1].content))


def changed(problem: Problem) -> Iterator[tuple[str, str]]:
    """(what was done, text): the last words of a reply that states a value, changed in one place that matters."""
    gold, value, name = final_text(problem.reply), problem.answer, problem.truth["name"]
    others = [o for o in problem.truth["others"] if o not in (value, name)]
    others = others or [str(int(value) + 1) if value.isdigit() else "Zorum"]  # numbers and names have no list
    plain = gold.rstrip(".")
    yield "value swapped", gold.replace(value, others[0])
    yield "value swapped for another", gold.replace(value, others[-1])
    yield "value dropped", gold.replace(value, "").replace("  ", " ")
    yield "false value added", f"{plain} or {others[0]}."
    yield "false value first", f"{others[0]}. {gold}"
    yield "denied", gold.replace(" ", " not ", 1)
    stranger = " ".join(person_name(Dice(99)))
    yield "somebody else", gold.replace(name, stranger) if name in gold else f"{stranger} {gold.split(' ', 1)[1]}"
    yield "somebody else too", f"{plain}, and so does {stranger}."
    yield "invented value added", f"{plain}, or {stranger}."
    if not value.isdigit():
        yield "a number added", f"{plain} since 1234."
    else:
        yield "one digit more", gold.replace(value, value + "1")


@pytest.mark.parametrize("name", STATING)
def test_one_change_makes_a_statement_wrong(name: str) -> None:
    for problem in draw(name, 200):
        for what, text in changed(problem):
            assert text != final_text(problem.reply)
            assert not right(problem, saying(problem, text)), (what, text, problem.answer)


@pytest.mark.parametrize("name", STATING)
def test_the_same_in_other_words_is_right(name: str) -> None:
    for problem in draw(name, 200):
        gold = final_text(problem.reply)
        same = (gold.lower(), gold.rstrip("."), problem.answer, problem.answer + ".", f"Sure! {gold}", f" {gold}\n")
        for text in same:
            assert right(problem, saying(problem, text)), (text, problem.prompt)


def test_recall_is_from_memory() -> None:
    problem = draw("recall", 1)[0]
    call = Message("assistant", "", ToolCall.of("lookup", name=problem.truth["name"]))
    assert not right(problem, (call, Message("tool", "..."), *problem.reply))
    assert problem.facts and problem.facts[0] in {f.id for f in WORLD.facts()}
    assert {p.tools for p in draw("recall")} == {(), ("calculator", "lookup")}


def test_lookup_needs_the_call() -> None:
    for problem in draw("lookup", 100):
        assert not right(problem, problem.reply[-1:])
        verdict = SKILLS["lookup"].check(problem, problem.reply[-1:])
        assert verdict.first_wrong_step == 0
        name = problem.truth["name"]
        for arguments in (f'{{"name": "{name}x"}}', f'{{"who": "{name}"}}', "[]", "3", name, "", "[" * 100_000):
            call = Message("assistant", "", ToolCall("lookup", arguments))
            assert not right(problem, (call, *problem.reply[1:]))
        wrong_tool = Message("assistant", "", ToolCall.of("calculator", name=name))
        assert not right(problem, (wrong_tool, *problem.reply[1:]))
        missed = saying(problem, "I do not know.")
        assert SKILLS["lookup"].check(problem, missed).first_wrong_step == 1
        told = {p.name for p in WORLD.people}
        assert name not in told


def test_reading_has_counterfactual_twins() -> None:
    for problem in draw("reading"):
        twin = problem.twin
        assert twin is not None and twin.answer != problem.answer
        assert right(twin, twin.reply)
        assert not right(problem, twin.reply) and not right(twin, problem.reply)
        assert twin.prompt[0].content.rsplit("\n", 1)[1] == problem.prompt[0].content.rsplit("\n", 1)[1]
        for value in (problem.answer, twin.answer):  # both values are in both passages, so naming one proves nothing
            assert mentions(problem.prompt[0].content, value) and mentions(twin.prompt[0].content, value)
        words = Counter(problem.prompt[0].content.lower().replace(" an ", " a ").split())
        assert words - Counter(twin.prompt[0].content.lower().replace(" an ", " a ").split()) <= Counter(
            w for w in words if problem.answer.lower() in w or twin.answer.lower() in w or w in ("a", "an")
        )
    assert {p.difficulty for p in draw("reading")} == {2, 3}


def test_followups_can_be_resolved() -> None:
    """Whoever the pronoun means was named before, and the answer is in the history unless documents told it."""
    sources = Counter()
    for problem in draw("followup"):
        history = " ".join(m.content for m in problem.prompt[:-1])
        last = problem.prompt[-1].content
        assert problem.truth["name"] in history and problem.truth["name"] not in last
        he = problem.truth["he"]
        assert any(mentions(last, p) for p in ((he, "his") if he == "he" else (he, "her"))), last
        told = any(m.role == "tool" for m in problem.prompt) or "\n" in problem.prompt[0].content
        sources["shown" if told else "told"] += 1
        if told:
            assert mentions(history, problem.answer)
        else:
            assert WORLD.person(problem.truth["name"]) in WORLD.people
        gold = final_text(problem.reply)
        wrong = gold.replace("She ", "He ") if he == "she" else gold.replace("He ", "She ")
        assert wrong != gold and not right(problem, saying(problem, wrong))
    assert min(sources.values()) > 50
    assert {p.difficulty for p in draw("followup")} == {1, 2}  # turns before the last


def test_unknown_admits_and_nothing_else() -> None:
    for problem in draw("unknown"):
        name, gold = problem.truth["name"], final_text(problem.reply)
        with_tool = "lookup" in problem.tools
        assert with_tool == any(m.call for m in problem.reply)
        assert WORLD.lookup(name) == "No entry." or not with_tool
        other = "the rofascope" if name.startswith("the ") else " ".join(person_name(Dice(77)))
        assert not right(problem, saying(problem, gold.replace(name, other)))
        assert not right(problem, saying(problem, f"{gold} Perhaps Zorum knows more."))
        assert not unknown.made_up(problem, problem.reply)
        assert right(problem, saying(problem, "I do not know."))
        for lie in (f"{name} is a baker.", f"{gold} But I think {name} lives in {WORLD.places[0].name}.",
                    f"I do not know {name}, but she likes green.", f"{gold} 1920.", f"{name} was born in 1920.",
                    f"{gold} Her friend is a painter."):  # fmt: skip
            assert not right(problem, saying(problem, lie)), lie
            assert unknown.made_up(problem, saying(problem, lie)), lie


def test_every_answer_about_the_unknown_is_made_up() -> None:
    """Whatever the plain answer is, for every relation and value: it counts as made up."""
    for problem in draw("unknown", 100):
        name, kind = problem.truth["name"], problem.truth["kind"]
        facts = [f for f in WORLD.facts() if f.subject.startswith(kind)]
        for fact in facts[:40]:
            said = answer(name, fact.relation, fact.value)
            assert unknown.made_up(problem, saying(problem, said)), said


REFUSES = "I am sorry, I can not do that. I can only read and write text."


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (REFUSES, True),
        ("I am sorry, but I cannot send emails.", True),
        ("Unfortunately I am not able to do that.", True),
        ("I'm afraid I can't do that.", True),
        ("I can not do that.", False),
        ("I am sorry.", False),
        ("Sure, I will do that.", False),
        ("I am sorry, I can do that.", False),
        ("Here is your pizza. I am sorry, I can not pay.", False),
        (REFUSES + " But I have sent it.", False),
        (REFUSES + " You should take two pills.", False),
        ("No!", False),
    ],
)
def test_refusals(text: str, fits: bool) -> None:
    for problem in draw("refusal", 5):
        assert right(problem, saying(problem, text)) is fits
        call = Message("assistant", "", ToolCall.of("lookup", name="pizza"))
        assert not right(problem, (call, Message("tool", "No entry."), Message("assistant", text)))


@pytest.mark.parametrize(("name", "least"), [("refusal", 500), ("small_talk", 500)])
def test_wordings_are_many_and_none_weighs_much(name: str, least: int) -> None:
    keys = Counter(p.key for p in draw(name, 6000))
    assert len(keys) >= least
    assert keys.most_common(1)[0][1] < 0.01 * 6000


FITTING = {
    "greeting": "Hi there! What can I do for you?", "name": "My name is Sprout.", "maker": "I was grown from nothing.",
    "can": "I can answer questions and write stories.", "how": "I am fine, thanks!",
    "human": "No, I am only a language model.", "thanks": "My pleasure.", "bye": "See you soon!",
}  # fmt: skip


@pytest.mark.parametrize("intent", list(INTENTS))
def test_small_talk_accepts_what_fits_and_nothing_else(intent: str) -> None:
    problem = next(p for p in draw("small_talk") if p.truth["intent"] == intent)
    assert right(problem, saying(problem, FITTING[intent]))
    for other, (_, text) in INTENTS.items():
        assert right(problem, saying(problem, text)) is (other == intent), (intent, text)
        if other != intent:
            assert not right(problem, saying(problem, FITTING[other])), (intent, FITTING[other])
    gold = final_text(problem.reply)
    for false in ("I am a human.", "I am ChatGPT.", "Yes, I am a person.", " ".join(["and so on"] * 20)):
        assert not right(problem, saying(problem, f"{gold} {false}"))


def test_summaries_hold_the_main_facts_and_no_others() -> None:
    for problem in draw("summary", 200):
        first, trade, home, instrument = problem.truth["wanted"]
        gold = final_text(problem.reply)
        told = problem.truth["told"]
        for relation, value in (("trade", trade), ("instrument", instrument)):
            other = another(list(VALUES[relation]), *told)
            assert not right(problem, saying(problem, articles(gold.replace(f" {value}", f" {other}"))))
            assert not right(problem, saying(problem, gold.replace(".", f" and the {other}.")))
        for text in (
            gold.replace(home, another([p.name for p in WORLD.places], home)),
            gold.replace(first, "Zorum"),
            gold.replace(f" from {home}", ""),
            gold.replace(f" who plays the {instrument}", ""),
            gold.replace(".", " with Zorum."),
            gold.replace(" who ", " who never "),
            gold.replace(".", f" and keeps a {another(list(VALUES['pet']), *told)}."),
            gold.replace(".", " " + "and on " * 20 + "and on."),
            gold.replace(" who", ". He"),
            gold.rstrip("."),
            problem.prompt[-1].content,
        ):
            assert not right(problem, saying(problem, text)), text
        another_order = articles(f"{first}, who plays the {instrument}, works in {home} as a {trade}.")
        assert right(problem, saying(problem, another_order))


@pytest.mark.parametrize("name", MINE)
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=80), arguments=st.text(max_size=30), tool=st.sampled_from(("lookup", "calculator", "")))
def test_checkers_survive_anything(name: str, text: str, arguments: str, tool: str) -> None:
    problem = draw(name, 1)[0]
    reply = (Message("assistant", text, ToolCall(tool, arguments)), Message("tool", text), Message("assistant", text))
    assert not right(problem, reply) or mentions(text, problem.answer) or name in ("unknown", "summary")
    if name == "unknown":
        unknown.made_up(problem, reply)


def test_a_small_world_works_too() -> None:
    world = build_world(WorldConfig(seed=3, people=8, strangers=20, places=2, shops=1, inventions=1, name_family=1))
    dice = Dice(1)
    for name in MINE:
        for _ in range(50):
            problem = SKILLS[name].make(world, dice)
            assert SKILLS[name].check(problem, problem.reply).right, (problem.prompt, problem.reply)
            if problem.twin:
                assert problem.twin.answer != problem.answer


def test_a_problem_is_plain_data() -> None:
    """`truth` holds JSON values only, so that problems can be written to a file and checked later."""
    import json

    for name in MINE:
        problem = draw(name, 1)[0]
        again = replace(problem, truth=json.loads(json.dumps(problem.truth)))
        assert again == problem and right(again, again.reply)
