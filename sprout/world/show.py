"""What the world looks like, as text for people: samples of every document kind and skill, facts, and how varied it is.
Read `show`; the figures of variety are in `variety`."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import log2

from sprout.common.errors import UserError
from sprout.common.hashing import split_of, stable_hash
from sprout.common.messages import Message
from sprout.world.dice import Dice
from sprout.world.documents import KINDS, SHARES, write_document
from sprout.world.skills import SKILLS
from sprout.world.state import World, almanac_line
from sprout.world.types import Document, Problem

PARTS = ("all", "documents", "skills", "facts", "entropy")
PER_KIND = 200  # documents of a kind that the table of variety is measured on
IN_ALL = 12_000  # documents of the mix


def show(world: World, what: str = "all", count: int = 2) -> str:
    """`what` is 'all', 'documents', 'skills', 'facts', 'entropy', or the name of a document kind or a skill; `count`
    samples of each. Raises UserError for any other name."""
    if what not in PARTS and what not in KINDS and what not in SKILLS:
        names = ", ".join((*PARTS, *dict.fromkeys((*KINDS, *SKILLS))))
        raise UserError(f"the world has no {what!r} to show; choose one of {names}.")
    if count < 1:
        raise UserError(f"{count} samples can't be shown; ask for 1 or more.")
    parts = [summary(world)] if what == "all" else []
    if what in ("all", "facts"):
        parts.append(facts(world, count))
    parts.extend(documents(world, kind, count) for kind in KINDS if what in ("all", "documents", kind))
    parts.extend(problems(world, name, count) for name in SKILLS if what in ("all", "skills", name))
    if what in ("all", "entropy"):
        parts.append(entropy(world))
    return "\n\n".join(parts) + "\n"


def _heading(text: str) -> str:
    return f"{text}\n{'=' * len(text)}"


def summary(world: World) -> str:
    """What there is, in numbers."""
    told = world.facts()
    names = ("people", "strangers", "places", "shops", "inventions", "events")
    counts = ", ".join(f"{len(getattr(world, name))} {name}" for name in names)
    bits = sum(f.bits for f in told)
    return "\n".join((
        _heading(f"The world of seed {world.config.seed}"),
        f"{counts}.",
        f"{len(told)} facts are told, worth {bits:.0f} bits, each about {_tellings(world):.1f} times in 1,000 documents; what is known of",
        "strangers stands only in the almanac.",
        f"{len(KINDS)} kinds of documents, {len(SKILLS)} skills; {world.config.skill_share:.0%} of the documents practise skills.",
    ))  # fmt: skip


def _tellings(world: World) -> float:
    """How often a fact is told in a thousand documents, on average over facts, measured on two thousand."""
    dice = Dice(stable_hash("tellings", world.config.seed))
    return sum(len(write_document(world, dice).facts) for _ in range(2000)) / len(world.facts()) / 2


def facts(world: World, count: int) -> str:
    """`count` almanac lines of each sort, and events."""
    lines = [_heading("Facts")]
    for title in ("people", "strangers", "places", "shops", "inventions"):
        lines.append(f"\n{title}:")
        lines.extend(f"  {almanac_line(entity)}" for entity in getattr(world, title)[:count])
    lines.append("\nevents:")
    lines.extend(f"  {e.year}: {' '.join(filter(None, (e.text, e.cause)))}" for e in world.events[: 2 * count])
    return "\n".join(lines)


def documents(world: World, kind: str, count: int) -> str:
    """`count` documents of a kind, each with what its sidecar says."""
    dice, lines = Dice(stable_hash("show", kind)), [_heading(f"Document kind: {kind} (share {SHARES[kind]:g})")]
    for document in _write(world, kind, count, dice):
        about = [f"{document.bits:.0f} bits"]
        about += [f"tells {len(document.facts)} facts"] if document.facts else []
        about += [f"practises {', '.join(document.skills)}"] if document.skills else []
        lines.append(f"\n{document.text}\n  -- {'; '.join(about)}")
    return "\n".join(lines)


def _write(world: World, kind: str, count: int, dice: Dice) -> list[Document]:
    written = []
    for _ in range(count):
        before = dice.bits
        document = KINDS[kind](world, dice)
        bits = document.bits or dice.bits - before
        written.append(Document(kind, document.text, document.facts, document.skills, document.plan, bits))
    return written


def problems(world: World, name: str, count: int) -> str:
    """`count` conversations of a skill, with the key, the split, the answer and the verdict on the reply."""
    skill, dice = SKILLS[name], Dice(stable_hash("show", name))
    lines = [_heading(f"Skill: {name} (share {skill.share:g})")]
    for _ in range(count):
        problem = skill.make(world, dice)
        lines.append("\n" + conversation((*problem.prompt, *problem.reply), problem.tools))
        lines.append(f"  -- {problem.key} ({split_of(problem.key)}), {_verdict(problem)}")
        if problem.twin:
            lines.append("  -- and its twin:\n" + conversation((*problem.twin.prompt, *problem.twin.reply), ()))
            lines.append(f"  -- {_verdict(problem.twin)}")
    return "\n".join(lines)


def _verdict(problem: Problem) -> str:
    verdict = SKILLS[problem.skill].check(problem, problem.reply)
    answer = problem.answer if len(problem.answer) <= 40 else problem.answer[:37] + "..."
    return f"answer {answer!r}, " + ("checked" if verdict.right else f"WRONG: {verdict.why}")


def conversation(messages: Sequence[Message], tools: Sequence[str]) -> str:
    """Messages as a transcript."""
    lines = [f"(tools: {', '.join(tools)})"] if tools else []
    for m in messages:
        said = [m.content] if m.content or not m.call else []
        said += [f"[{m.call.name} {m.call.arguments}]"] if m.call else []
        lines.append(f"{m.role + ':':<10} " + " ".join(said).replace("\n", "\n" + " " * 11))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Variety:
    """How varied some documents are. Shares are from 0 to 1."""

    documents: int
    characters: int  # of all of them
    words: int  # different ones
    distinct_2: float  # different bigrams among all bigrams
    distinct_4: float
    entropy: float  # bits of the words' distribution
    compressed: float  # zlib's size to the size in bytes: low where wording repeats
    opening: float  # share of documents that begin with the commonest three words
    common_5: float  # share of documents that hold the 5-gram held by most
    nearest: float  # mean share of a document's 5-grams that its most similar other document holds as well
    bits: float  # of a document's choices on average: its entropy to who knows the world and its grammar
    bits_per_byte: float  # the same for a byte: who knew them would need no more
    plans: float  # bits of the distribution of plans (what is written about, in which shape)


def variety(texts: Sequence[str], bits: float = 0.0, plans: Sequence[str] = ()) -> Variety:
    """Measure some documents; `bits` is what the grammar spent on all of them, `plans` what was planned for each.

    Raises UserError for fewer than two documents.
    """
    if len(texts) < 2:
        raise UserError(f"variety is measured on 2 or more documents, not {len(texts)}.")
    split = [_words(text) for text in texts]
    counts = Counter(word for words in split for word in words)
    shingles = [set(_grams(words, 5)) for words in split]
    holders: dict[tuple[str, ...], list[int]] = {}
    for i, grams in enumerate(shingles):
        for gram in grams:
            holders.setdefault(gram, []).append(i)
    joined = "\n".join(texts).encode()
    return Variety(
        documents=len(texts),
        characters=sum(map(len, texts)),
        words=len(counts),
        distinct_2=_distinct(split, 2),
        distinct_4=_distinct(split, 4),
        entropy=_entropy(counts),
        compressed=len(zlib.compress(joined, 9)) / len(joined),
        opening=Counter(tuple(words[:3]) for words in split).most_common(1)[0][1] / len(texts),
        common_5=max(map(len, holders.values()), default=0) / len(texts),
        nearest=sum(_nearest(i, grams, holders) for i, grams in enumerate(shingles)) / len(texts),
        bits=bits / len(texts),
        bits_per_byte=bits / len(joined),
        plans=_entropy(Counter(plans)),
    )


def _entropy(counts: Counter[str]) -> float:
    total = sum(counts.values())
    return sum(n / total * log2(total / n) for n in counts.values())


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(islice(words, k, None) for k in range(n)), strict=False))


def _distinct(split: Sequence[Sequence[str]], n: int) -> float:
    grams = [gram for words in split for gram in _grams(words, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _nearest(i: int, grams: set[tuple[str, ...]], holders: dict[tuple[str, ...], list[int]]) -> float:
    """The share of document i's 5-grams that stand in the one other document that holds most of them."""
    shared = Counter(j for gram in grams for j in holders[gram] if j != i)
    return max(shared.values(), default=0) / len(grams) if grams else 0.0


def _measure(written: Sequence[Document]) -> Variety:
    return variety([d.text for d in written], sum(d.bits for d in written), [str(d.plan) for d in written])


COLUMNS = (
    ("words", "words", "{:d}"), ("distinct_2", "dist-2", "{:.2f}"), ("distinct_4", "dist-4", "{:.2f}"),
    ("entropy", "word bits", "{:.2f}"), ("compressed", "zlib", "{:.2f}"), ("opening", "opening", "{:.1%}"),
    ("common_5", "5-gram", "{:.1%}"), ("nearest", "nearest", "{:.2f}"), ("bits", "bits", "{:.0f}"),
    ("bits_per_byte", "bits/byte", "{:.2f}"), ("plans", "plan bits", "{:.2f}"),
)  # fmt: skip


def entropy(world: World, per_kind: int = PER_KIND, in_all: int = IN_ALL) -> str:
    """The table of variety: a line for every kind of document, one for the mix that a model reads, and how many
    different words that has."""
    dice = Dice(stable_hash("entropy", world.config.seed))
    rows: list[tuple[str, Variety]] = []
    for kind in KINDS:
        written = _write(world, kind, per_kind, dice)
        rows.append((kind, _measure(written)))
    read = [write_document(world, dice) for _ in range(in_all)]
    rows.append(("the mix", _measure(read)))
    different = {w for d in read for w in re.findall(r"(?<![A-Za-z'])[a-z]+(?![A-Za-z'])", d.text)}
    width = max(len(name) for name, _ in rows)
    lines = [_heading(f"Variety ({per_kind} documents of each kind, {in_all:,} of the mix)"), ""]
    lines.append(" " * width + " characters " + " ".join(f"{title:>9}" for _, title, _ in COLUMNS))
    for name, measured in rows:
        cells = " ".join(f"{form.format(getattr(measured, field)):>9}" for field, _, form in COLUMNS)
        lines.append(f"{name:<{width}} {measured.characters / measured.documents:>10.0f} {cells}")
    lines.append(
        "\ncharacters: of a document on average. words: different ones. dist-n: different n-grams among all. word bits:\n"
        "entropy of the words. zlib: compressed size to size. opening: documents with the commonest first three words.\n"
        "5-gram: documents with the commonest five words in a row. nearest: part of a document's 5-grams that the most\n"
        "similar other document has too. bits: entropy of a document, what its choices cost, in all and for a byte; who knew\n"
        "the world and its grammar needs no more. plan bits: entropy of what is written about and in which shape.\n"
        f"The mix has {len(different):,} different words in small letters, names and numbers aside."
    )
    return "\n".join(lines)
