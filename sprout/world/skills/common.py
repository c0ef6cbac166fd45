"""What several skills share: talking about entities, and judging what a reply asserts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from sprout.common.messages import Message, ToolCall
from sprout.world.dice import Dice
from sprout.world.lexicon import COLOURS, DISHES, INSTRUMENTS, MATERIALS, PETS, PLACE_KINDS, PRODUCTS, TRADES
from sprout.world.state import RELATIONS, Entity, World, kind_of
from sprout.world.types import Problem, Reply, Verdict, final_text

TOOLS = ("calculator", "lookup")
# Values that are plain words; all others are names or numbers, which `foreign` finds.
VALUES: dict[str, tuple[str, ...]] = {
    "trade": TRADES, "food": DISHES, "pet": PETS, "instrument": INSTRUMENTS, "colour": COLOURS, "kind": PLACE_KINDS,
    "known_for": PRODUCTS, "material": MATERIALS,
}  # fmt: skip
# Words that may stand with a capital letter at the start of a sentence without being a name.
OPENERS = frozenset(
    "a after all also an and answer as at because but by certainly for from good he hello her here hi his i if in it "
    "its my now of okay on one please she sorry sure that the their then there they this to unfortunately well yes "
    "you your".split()
)
PRONOUNS = ("he", "she", "it", "they")
NEGATIONS = frozenset("not no never nobody none nothing neither cannot can't don't doesn't isn't wasn't".split())
SMALL = frozenset("a an the in on at of is it's from by called".split())


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def call_lookup(world: World, name: str) -> tuple[Message, Message]:
    """The call of the almanac and what it says."""
    return Message("assistant", "", ToolCall.of("lookup", name=name)), Message("tool", world.lookup(name))


def looked_up(reply: Reply) -> list[str]:
    """The names that a reply looked up; '' for a call without a readable name."""
    return [_name_argument(m.call) for m in reply if m.call and m.call.name == "lookup"]


def _name_argument(call: ToolCall) -> str:
    try:
        return str(json.loads(call.arguments).get("name", ""))
    except (ValueError, AttributeError, RecursionError):  # nothing that a model writes may break a checker
        return ""


def dont_know(kind: str, name: str) -> str:
    """The one sentence for what one has never heard of."""
    return f"I do not know {'anyone' if kind == 'person' else 'anything'} called {name}."


def candidates(world: World, relation: str) -> tuple[str, ...]:
    """The values that a relation can have here, where they are words or names rather than numbers."""
    if relation in ("home", "place"):
        return tuple(p.name for p in world.places)
    if relation in ("friend", "owner", "inventor"):
        return tuple(p.name for p in world.people)
    return VALUES.get(relation, ())


def mentions(text: str, value: str) -> bool:
    """Whether the value stands in the text as whole words, case aside."""
    text, value = text.lower(), value.lower()
    return value in text and re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", text) is not None


def without(text: str, *values: str) -> str:
    """The text in lower case, with the values taken out where they stand as whole words."""
    text = text.lower()
    for value in values:
        text = re.sub(rf"(?<![\w-]){re.escape(value.lower())}(?![\w-])", " ", text)
    return text


def mentioned(text: str, values: Iterable[str]) -> str | None:
    """The first of the values that stands in the text; None if there is none."""
    return next((v for v in values if mentions(text, v)), None)


def foreign(text: str, allowed: str) -> str | None:
    """The first name or number of the text that isn't in `allowed`: any word with a capital letter (a sentence may
    begin with a common word) or made of digits. None if there is none."""
    known = set(re.findall(r"[\w'-]+", allowed))
    known |= {w[:1].upper() + w[1:] for w in known}
    start = True
    for word in re.findall(r"[\w'-]+|[.!?:\n]", text):
        if word in ".!?:\n":
            start = True
            continue
        opener = word == "I" or (start and word.lower() in OPENERS)
        if (word[0].isupper() or word[0].isdigit()) and word not in known and not opener:
            return word
        start = False
    return None


def states(reply: Reply, name: str, value: str, others: Sequence[str], he: str = "") -> Verdict:
    """Right if the final text states `value` of `name` and nothing else: no other value, name or number, no negation,
    nobody else as its subject. A pronoun may stand for the name (only `he`, where given), or the value stand alone."""
    text = final_text(reply)
    if not mentions(text, value):
        return Verdict(False, f"expected {value!r}")
    words = re.findall(r"[\w'-]+", text.lower())
    if negation := next((w for w in words if w in NEGATIONS), None):
        return Verdict(False, f"says {negation!r}")
    # A candidate inside the name or the right value ('Red' in 'the Red Owl') is no other value.
    wrong = mentioned(without(text, value, name), others) or foreign(text, f"{name} {value}")
    if wrong:
        return Verdict(False, f"says {wrong!r} besides {value!r}")
    subject = name.removeprefix("the ")
    allowed = (he,) if he else PRONOUNS
    named = mentions(text, subject) or mentions(text, subject.split()[0]) or any(p in words for p in allowed)
    alone = set(words) <= SMALL | set(re.findall(r"[\w'-]+", value.lower()))
    if not named and not alone:
        return Verdict(False, f"is not about {name!r}")
    return Verdict(True)


def no_call(reply: Reply) -> bool:
    """Whether the reply used no tool."""
    return all(m.call is None for m in reply)


def told_entity(world: World, dice: Dice) -> Entity:
    """Somebody or something that documents tell of; people most of the time."""
    groups: tuple[tuple[Entity, ...], ...] = (world.people, world.places, world.shops, world.inventions)
    return dice.pick(dice.weighted(groups, (5, 2, 2, 1)))


def relation_of(entity: Entity, dice: Dice) -> str:
    """One of the relations of an entity."""
    return dice.pick(RELATIONS[kind_of(entity)])


def some_tools(dice: Dice) -> tuple[str, ...]:
    """Half of all conversations have no tools, the others both."""
    return TOOLS if dice.chance(0.5) else ()


def exact(problem: Problem, reply: Reply) -> Verdict:
    """Right if the final text is the gold reply's, up to case and spaces."""
    got, want = " ".join(final_text(reply).lower().split()), " ".join(final_text(problem.reply).lower().split())
    return Verdict(got == want, "" if got == want else f"expected {want!r}")


def first_wrong(problem: Problem, reply: Reply) -> int | None:
    """The index of the first step (sentence) of the reply that isn't the gold step; None if all are right."""
    got = split_steps(final_text(reply))
    for i, step in enumerate(problem.steps):
        if i >= len(got) or got[i] != step:
            return i
    return None


def split_steps(text: str) -> tuple[str, ...]:
    """The steps of a reply: its lines, or its sentences where it has one line."""
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    return tuple(lines)


def answer_line(text: str) -> str:
    """What stands behind the last 'The answer is', without the full stop; empty if there is none."""
    return text.rpartition("The answer is ")[2].strip().rstrip(".") if "The answer is " in text else ""


def stepwise(problem: Problem, reply: Reply) -> Verdict:
    """Right if the final answer is; the first wrong step is told in any case."""
    got = answer_line(final_text(reply))
    right = got == problem.answer
    return Verdict(right, "" if right else f"expected {problem.answer!r}, got {got!r}", first_wrong(problem, reply))
