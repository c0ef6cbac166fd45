"""Layer 4, the realiser: how a fact is said, asked for and answered.

A relation has cores (what is said) composed with frames (how a sentence opens or closes), so that few lines give many
wordings. No core has five words in a row that are always the same: they would stand in every hundredth document. The
answer to a question always has one plain form, because a small model learns one form well.
"""

from __future__ import annotations

import re

from sprout.world.dice import Dice

# {n} the subject's name or pronoun, {v} the value, {his} the possessive; each core is a whole clause without full stop.
SAY: dict[str, tuple[str, ...]] = {
    "home": ("{n} lives in {v}", "{n} has a house in {v}", "{n} makes {his} home in {v}", "the home of {n} is in {v}",
             "you can find {n} in {v}", "{v} is where {n} lives", "{n} calls {v} home"),
    "trade": ("{n} is a {v}", "{n} works as a {v}", "{n} earns money as a {v}", "{n} is a {v} by trade",
              "for a living {n} is a {v}", "the trade of {n} is that of a {v}", "{n} has work as a {v}"),
    "born": ("{n} was born in {v}", "the birth of {n} was in {v}", "{n} first saw daylight in {v}",
             "{v} is when {n} was born", "it was in {v} that {n} was born"),
    "food": ("{n} likes to eat {v}", "{n} loves {v}", "the favourite food of {n} is {v}", "{n} would eat {v} every day",
             "nothing tastes better to {n} than {v}", "for dinner {n} always wants {v}"),
    "pet": ("{n} keeps a {v}", "{n} has a {v}", "the pet of {n} is a {v}", "a {v} lives with {n}",
            "{n} takes care of a {v}", "{n} goes everywhere with {his} {v}"),
    "instrument": ("{n} plays the {v}", "in the evening {n} plays the {v}", "{n} practises the {v}", "the {v} is what {n} plays",
                   "{n} can play the {v}", "{n} owns an old {v} and plays it"),
    "colour": ("{n} likes the colour {v}", "the favourite colour of {n} is {v}", "{n} always wears {v}",
               "{n} painted {his} door {v}", "of all colours {n} likes {v} best"),
    "friend": ("{n} is a friend of {v}", "the best friend of {n} is {v}", "{n} and {v} are friends", "{n} trusts {v} most of all",
               "{n} spends every Sunday with {v}"),
    "kind": ("{n} is a {v}", "people call {n} a {v}", "{n} may be called a {v}", "{n} counts as a {v}"),
    "region": ("{n} lies in {v}", "{n} is part of {v}", "you find {n} in {v}", "the region of {n} is {v}"),
    "river": ("{n} stands on the river {v}", "the {v} flows through {n}", "the river of {n} is the {v}",
              "{n} lies beside the {v}"),
    "founded": ("{n} was founded in {v}", "the first houses of {n} date from {v}", "{n} dates from {v}",
                "{v} is when {n} was founded"),
    "known_for": ("{n} is known for its {v}", "everybody knows the {v} of {n}", "{n} is famous for {v}",
                  "merchants come to {n} for its {v}"),
    "place": ("{n} is a shop in {v}", "{n} stands in {v}", "you find {n} in {v}", "{v} has {n} among its shops"),
    "owner": ("{n} belongs to {v}", "{v} owns {n}", "the owner of {n} is {v}", "{n} is run by {v}"),
    "opens": ("{n} opens at {v} o'clock", "the doors of {n} open at {v} o'clock", "from {v} o'clock on {n} is open"),
    "closed_on": ("{n} is closed on {v}", "on {v} {n} stays shut", "nobody shops at {n} on {v}",
                  "{v} is when {n} is closed"),
    "inventor": ("{n} was invented by {v}", "{v} invented {n}", "the inventor of {n} is {v}", "the idea of {n} came from {v}"),
    "year": ("{n} was invented in {v}", "{n} dates from {v}", "{v} is when {n} was invented"),
    "material": ("{n} is made of {v}", "{v} is what {n} is made of", "it takes {v} to make {n}"),
}  # fmt: skip
# A pronoun can only stand where its noun is the subject: 'the pet of she' is no English.
AS_OBJECT = re.compile(r"\b(of|to|with|find|call|make|at|owns|invented|has) \{n\}")
WITH_PRONOUN = {relation: tuple(c for c in cores if not AS_OBJECT.search(c)) for relation, cores in SAY.items()}
PRONOUNS = ("he", "she", "it")

# How a statement may open and close: {c} is the clause.
FRAMES = (
    "{c}", "{c}", "{c}", "{c}", "{c}", "as everybody knows, {c}", "it is said that {c}", "these days {c}", "of course {c}",
    "{c}, as the neighbours say", "in truth {c}", "the records show that {c}", "{c}, so they say", "besides, {c}",
    "I have heard that {c}", "{c} to this day", "by all accounts {c}", "{c}, no doubt", "surely {c}", "people say that {c}",
    "{c}, I believe", "{c}, by the way", "everyone agrees that {c}",
)  # fmt: skip
# What is over and done is not said to hold 'these days'.
FRAMES_PAST = tuple(f for f in FRAMES if f not in ("these days {c}", "{c} to this day"))
PAST = ("born", "founded", "inventor", "year")

ASK: dict[str, tuple[str, ...]] = {
    "home": ("where does {n} live", "in which place does {n} live", "where is the home of {n}"),
    "trade": ("what does {n} do for work", "what is the trade of {n}", "what work does {n} do"),
    "born": ("when was {n} born", "in which year was {n} born", "what is the birth year of {n}"),
    "food": ("what does {n} like to eat", "what is the favourite food of {n}", "which food does {n} like"),
    "pet": ("what pet does {n} have", "which animal does {n} keep", "what is the pet of {n}"),
    "instrument": ("what instrument does {n} play", "which instrument does {n} play", "what does {n} play"),
    "colour": ("what colour does {n} like", "what is the favourite colour of {n}", "which colour does {n} like"),
    "friend": ("who is the friend of {n}", "who is the best friend of {n}", "who is {n} friends with"),
    "kind": ("what kind of place is {n}", "is {n} a village, a town or something else", "what sort of place is {n}"),
    "region": ("in which region is {n}", "where is {n}", "which region does {n} belong to"),
    "river": ("which river flows through {n}", "what is the river of {n}", "on which river is {n}"),
    "founded": ("when was {n} founded", "in which year was {n} founded", "what is the founding year of {n}"),
    "known_for": ("what is {n} known for", "what is {n} famous for", "what does {n} make"),
    "place": ("where is {n}", "in which place is {n}", "where can I find {n}"),
    "owner": ("who owns {n}", "who is the owner of {n}", "whose shop is {n}"),
    "opens": ("when does {n} open", "at what hour does {n} open", "what time does {n} open"),
    "closed_on": ("on which day is {n} closed", "when is {n} closed", "which day is {n} shut"),
    "inventor": ("who invented {n}", "who is the inventor of {n}", "who thought up {n}"),
    "year": ("when was {n} invented", "in which year was {n} invented", "what year is {n} from"),
    "material": ("what is {n} made of", "which material is {n} made of", "what does one need to make {n}"),
}  # fmt: skip
ASK_FRAMES = (
    "{q}?",
    "{q}?",
    "{q}?",
    "please tell me, {q}?",
    "may I ask, {q}?",
    "one question: {q}?",
    "I wonder, {q}?",
    "say, {q}?",
)

ANSWER = {
    "home": "{n} lives in {v}.", "trade": "{n} is a {v}.", "born": "{n} was born in {v}.", "food": "{n} likes {v}.",
    "pet": "{n} has a {v}.", "instrument": "{n} plays the {v}.", "colour": "{n} likes {v}.", "friend": "{n} is a friend of {v}.",
    "kind": "{n} is a {v}.", "region": "{n} is in {v}.", "river": "{n} is on the {v}.", "founded": "{n} was founded in {v}.",
    "known_for": "{n} is known for {v}.", "place": "{n} is in {v}.", "owner": "{n} belongs to {v}.",
    "opens": "{n} opens at {v}.", "closed_on": "{n} is closed on {v}.", "inventor": "{n} was invented by {v}.",
    "year": "{n} was invented in {v}.", "material": "{n} is made of {v}.",
}  # fmt: skip


def articles(text: str) -> str:
    """'a' becomes 'an' before a vowel, but not before 'uni-', 'use-' and 'euro-', which sound like 'you'."""
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
        if text.startswith(f"A {vowel}"):
            text = "An" + text[1:]
    for sound in ("uni", "use", "usu"):
        text = text.replace(f" an {sound}", f" a {sound}")
    return text


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def clause(name: str, relation: str, value: str, dice: Dice, his: str = "their") -> str:
    """The fact as a clause without capital or full stop."""
    cores = (WITH_PRONOUN if name in PRONOUNS else SAY)[relation]
    return dice.pick(cores).format(n=name, v=value, his=his)


def say(name: str, relation: str, value: str, dice: Dice, his: str = "their", frames: bool = True) -> str:
    """The fact as a sentence, in one of many wordings. `name` may be a pronoun."""
    said = clause(name, relation, value, dice, his)
    if frames:
        said = dice.pick(FRAMES_PAST if relation in PAST else FRAMES).format(c=said)
    return articles(capital(said)) + "."


def ask(name: str, relation: str, dice: Dice) -> str:
    """A question for the fact, in one of many wordings."""
    asked = dice.pick(ASK[relation]).format(n=name)
    return capital(dice.pick(ASK_FRAMES).format(q=asked))


def answer(name: str, relation: str, value: str) -> str:
    """The one plain answer: 'Mira Tolan lives in Olmen.'"""
    return articles(capital(ANSWER[relation].format(n=name, v=value)))
