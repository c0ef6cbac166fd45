"""Text from the built-in world, as much as asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sprout.common.hashing import split_of, stable_hash
from sprout.common.messages import Message
from sprout.data.packing import Item
from sprout.tokenizer import Tokenizer, render
from sprout.world import Dice, Problem, World
from sprout.world.documents import write_document
from sprout.world.documents.common import tell
from sprout.world.skills import SKILLS, sample
from sprout.world.skills.common import told_entity


def world_texts(world: World, seed: int, split: str = "train") -> Iterator[str]:
    """Endless documents of a split; which split a document belongs to is decided by its own text."""
    dice = Dice(stable_hash("documents", world.config.seed, seed, split))
    while True:
        text = write_document(world, dice).text
        if split_of(text) == split:
            yield text


def world_problems(world: World, seed: int, split: str = "train", skills: Sequence[str] = ()) -> Iterator[Problem]:
    """Endless problems of a split, the skills in their shares."""
    dice = Dice(stable_hash("problems", world.config.seed, seed, split))
    names = list(skills or SKILLS)
    shares = [SKILLS[name].share for name in names]
    while True:
        yield sample(dice.weighted(names, shares), world, dice, split)


def world_retellings(world: World, seed: int) -> Iterator[tuple[Message, ...]]:
    """Endless conversations in which somebody asks what is known of a told person, place, shop or invention, and hears
    some of it, in the wordings of the documents. Without them finetuning forgets what reading taught."""
    dice = Dice(stable_hash("retellings", world.config.seed, seed))
    while True:
        entity = told_entity(world, dice)
        sentences, _ = tell(entity, dice, dice.integer(2, 4), frames=False)
        asked = dice.pick(
            ("Tell me about {n}.", "What do you know about {n}?", "Who or what is {n}?", "Say something about {n}.")
        )
        yield Message("user", asked.format(n=entity.name)), Message("assistant", " ".join(sentences))


def document_items(texts: Iterator[str], tokenizer: Tokenizer, tokens: int) -> Iterator[Item]:
    """Documents as ids until there are `tokens` of them."""
    start, made = tokenizer.specials["<|endoftext|>"], 0
    while made < tokens and (text := next(texts, None)) is not None:
        ids = [start, *tokenizer.encode(text), start]
        made += len(ids)
        yield ids, None


def conversation_items(talks: Iterator[tuple[Message, ...]], tokenizer: Tokenizer, tokens: int) -> Iterator[Item]:
    """Conversations as ids and loss mask, until there are `tokens` of them; the tools called are those that are named."""
    made = 0
    while made < tokens and (messages := next(talks, None)) is not None:
        ids, mask = render(tokenizer, messages, sorted({m.call.name for m in messages if m.call}))
        made += len(ids)
        yield ids, mask


def problem_items(problems: Iterator[Problem], tokenizer: Tokenizer, tokens: int, longest: int) -> Iterator[Item]:
    """Problems as conversations, ids and loss mask, until there are `tokens` of them. Some conversations go on to a
    second and third problem, as people change the subject, where that leaves them shorter than `longest` tokens."""
    dice, made = Dice(stable_hash("subjects", longest)), 0
    # Conversations that may go on, by the tools that are at hand in them.
    open_ones: dict[tuple[str, ...], tuple[tuple[Message, ...], int]] = {}
    while made < tokens and (problem := next(problems, None)) is not None:
        before, more = open_ones.pop(problem.tools, ((), dice.weighted((0, 1, 2), (6, 3, 1))))
        messages = (*before, *problem.prompt, *problem.reply)
        ids, mask = render(tokenizer, messages, problem.tools)
        if before and len(ids) > longest:
            yield (one := render(tokenizer, before, problem.tools))
            made += len(one[0])
            messages, more = (*problem.prompt, *problem.reply), 0
            ids, mask = render(tokenizer, messages, problem.tools)
        if more:
            open_ones[problem.tools] = (messages, more - 1)
            continue
        # What the prompt's own assistant turns say is right as well, and learned too.
        made += len(ids)
        yield ids, mask
