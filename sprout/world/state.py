"""Layer 1, the state: people, places, shops, inventions and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """How much the world knows and how often it says so; knowledge and skill are separate dials."""

    seed: int = 1
    people: int = 40  # people told about in documents: what a model can remember
    strangers: int = 3000  # people in the almanac, never told about: what it has to look up
    places: int = 12
    shops: int = 12
    inventions: int = 10
    skill_share: float = 0.5  # share of the pretraining documents that practise skills in plain prose


@dataclass(frozen=True, slots=True)
class Fact:
    """`value` is the `relation` of `subject`, e.g. ('person:3', 'Mira Tolan', 'home', 'Olmen', 3.6 bits)."""

    id: str  # "person:3/home"
    subject: str  # entity id
    name: str  # the subject's name in text
    relation: str
    value: str
    bits: float
