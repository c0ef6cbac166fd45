"""Small talk and identity: greetings, thanks, who are you."""

from __future__ import annotations

from collections.abc import Sequence

from sprout.common.hashing import split_of
from sprout.common.messages import Message
from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, mentions, no_call, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "small_talk", 0.6

OPEN = ("", "", "Hello. ", "Hello! ", "Hi. ", "Hi! ", "Hey. ", "Good morning. ", "Good evening. ", "Hi there. ", "Hello there. ", "Good day. ",
        "Hello, Sprout. ", "Dear Sprout, a question. ")  # fmt: skip
CLOSE = ("", "", "", " Just curious.", " I would like to know.", " Tell me.", " Be honest.", " I am new here.",
         " My name is {n}.")  # fmt: skip
# An intent: how it is said, and the reply. Greetings are composed of hail and address, the others with OPEN and CLOSE.
INTENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "greeting": (("Hello", "Hi", "Hey", "Good morning", "Good evening", "Good day", "Good afternoon",
                  "Greetings"),
                 "Hello! How can I help you?"),
    "name": (("Who are you?", "What is your name?", "What are you called?", "And you are?", "What should I call you?"),
             "I am Sprout, a small language model grown from nothing."),
    "maker": (("Who made you?", "Where do you come from?", "Who built you?", "How did you come to be?",
               "Who trained you?"),
              "I was grown from nothing on a computer, by the code called Sprout."),
    "can": (("What can you do?", "How can you help me?", "What are you good at?", "What do you know?",
             "Can you help me?"),
            "I can answer questions, do sums, sort, spell and write little stories."),
    "how": (("How are you?", "How do you do?", "How is it going?", "Are you well?", "How are you today?"),
            "I am well, thank you. How can I help you?"),
    "human": (("Are you a human?", "Are you a person?", "Are you real?", "Do you have a body?", "Are you alive?"),
              "No, I am a language model. I read and write text."),
    "thanks": (("Thank you!", "Thanks!", "Thank you very much!", "Thank you.", "Thanks a lot!", "That was helpful!", "Many thanks!", "You helped me a lot!"),
               "You are welcome!"),
    "bye": (("Goodbye!", "Goodbye.", "Bye!", "Bye bye!", "See you!", "I have to go now!", "Good night!"), "Goodbye! Come back soon."),
}  # fmt: skip
ADDRESSES = ("", "", "", ", Sprout", ", my friend", " to you", ", dear Sprout", " again", ", little model")
ENDS = ("!", "!", ".", "! I am {n}.", ". My name is {n}.", "! I am back.", "! I am new here.", "! It is me, {n}.",
        "! Nice to meet you.")  # fmt: skip
# What a reply has to say to fit: all phrases of one of these.
FIT: dict[str, tuple[tuple[str, ...], ...]] = {
    "greeting": (("hello",), ("hi",), ("good day",), ("good morning",), ("good evening",), ("nice to meet you",)),
    "name": (("i am sprout",), ("my name is sprout",), ("i'm sprout",), ("call me sprout",)),
    "maker": (("i was grown",), ("i was made", "code"), ("i was trained", "computer"), ("i grew", "computer")),
    "can": (("i can answer",), ("i can", "sums"), ("i can", "stories"), ("i can", "spell"), ("i can", "sort")),
    "how": (("i am well",), ("i am fine",), ("i'm fine",), ("i'm well",), ("very well",)),
    "human": (("no", "language model"), ("not", "language model"), ("no", "not a human"), ("no", "a model")),
    "thanks": (("welcome",), ("my pleasure",), ("glad", "help"), ("glad", "helped"), ("happy to help",)),
    "bye": (("goodbye",), ("bye",), ("see you",), ("good night",), ("farewell",)),
}  # fmt: skip
# What no reply of any intent says: it would be false.
FALSE = ("i am a human", "i am a person", "i am human", "i am alive", "i have a body", "yes, i am", "chatgpt",
         "i can not", "i do not know")  # fmt: skip
LONGEST = 30  # words


def compose(intent: str, dice: Dice) -> str:
    """The intent in one of many wordings; '{n}' stands for the user's name."""
    said = dice.pick(INTENTS[intent][0])
    if intent == "greeting":
        said = said + dice.pick(ADDRESSES) + dice.pick(ENDS)
    else:
        said = dice.pick(OPEN) + said + dice.pick(CLOSE)
    return said.lower().rstrip("!.?") if dice.chance(0.15) else said  # as people type


def make(world: World, dice: Dice) -> Problem:
    """One or two turns of small talk; the key is the wording, so that test wordings are unseen compositions."""
    intent = dice.pick(tuple(INTENTS))
    text, name = compose(intent, dice), dice.pick(world.strangers).first
    prompt: list[Message] = [user(text.replace("{n}", name))]
    if dice.chance(0.3):
        before = dice.pick([i for i in INTENTS if i not in ("thanks", "bye", intent)])
        # The history shows its answer, so it must not be a wording that the test keeps.
        while split_of(f"small_talk:{(said := compose(before, dice))}") != "train":
            pass
        prompt = [user(said.replace("{n}", name)), assistant(INTENTS[before][1]), *prompt]
    reply, truth = INTENTS[intent][1], {"intent": intent}
    return Problem(NAME, f"small_talk:{text}", tuple(prompt), (assistant(reply),), reply, some_tools(dice), truth=truth)


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply is short, says what fits the intent, and nothing false about the model."""
    text, intent = final_text(reply), problem.truth["intent"]
    if not no_call(reply) or len(text.split()) > LONGEST:
        return Verdict(False, "uses a tool" if not no_call(reply) else "talks too much")
    if false := next((f for f in FALSE if mentions(text, f)), None):
        return Verdict(False, f"says {false!r}")
    right = any(_all(text, phrases) for phrases in FIT[intent])
    return Verdict(right, "" if right else f"not a reply to {intent}")


def _all(text: str, phrases: Sequence[str]) -> bool:
    return all(mentions(text, phrase) for phrase in phrases)
