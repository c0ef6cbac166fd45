"""Small talk and identity: greetings, thanks, who are you."""

from __future__ import annotations

from sprout.world.dice import Dice
from sprout.world.skills.common import assistant, some_tools, user
from sprout.world.state import World
from sprout.world.types import Problem, Reply, Verdict, final_text

NAME, SHARE = "small_talk", 0.7

OPEN = ("", "Hello. ", "Hi. ", "Hey. ", "Good morning. ", "Good evening. ", "Hi there. ", "Hello there. ", "Good day. ")
CLOSE = ("", " Thanks.", " Just curious.", " I would like to know.", " Tell me.", " Be honest.", " I am new here.", " My name is {n}.")
INTENTS = {
    "name": (("Who are you?", "What is your name?", "What are you called?", "And you are?", "What should I call you?"),
             "I am Sprout, a small language model."),
    "maker": (("Who made you?", "Where do you come from?", "Who built you?", "How did you come to be?", "Who trained you?"),
              "I was grown from nothing on a computer, by the code called Sprout."),
    "can": (("What can you do?", "How can you help me?", "What are you good at?", "What do you know?", "Can you help me?"),
            "I can answer questions, do sums, sort, spell and write little stories."),
    "how": (("How are you?", "How do you do?", "How is it going?", "Are you well?", "How are you today?"),
            "I am well, thank you. How can I help you?"),
    "human": (("Are you a human?", "Are you a person?", "Are you real?", "Do you have a body?", "Are you alive?"),
              "No, I am a language model. I read and write text."),
    "thanks": (("Thank you!", "Thanks a lot!", "That was helpful!", "Many thanks!", "You helped me a lot!"),
               "You are welcome!"),
    "bye": (("Goodbye!", "Bye!", "See you!", "I have to go now!", "Good night!"), "Goodbye! Come back soon."),
}  # fmt: skip


def make(world: World, dice: Dice) -> Problem:
    """One or two turns of small talk; the key is the wording, so that test wordings are unseen compositions."""
    intent = dice.pick(tuple(INTENTS))
    asked, reply = INTENTS[intent]
    person = dice.pick(world.strangers)
    text = dice.pick(OPEN) + dice.pick(asked) + dice.pick(CLOSE).format(n=person.first)
    prompt = [user(text)]
    if dice.chance(0.3):
        before = dice.pick(tuple(INTENTS))
        prompt = [user(dice.pick(INTENTS[before][0])), assistant(INTENTS[before][1]), *prompt]
    key = "small_talk:" + text.replace(person.first, "NAME")
    return Problem(NAME, key, tuple(prompt), (assistant(reply),), reply, some_tools(dice), truth={"intent": intent})


def check(problem: Problem, reply: Reply) -> Verdict:
    """Right if the reply is the one for this intent."""
    right = final_text(reply) == INTENTS[problem.truth["intent"]][1]
    return Verdict(right, "" if right else f"not a reply to {problem.truth['intent']}")
