"""The models that a server has: which there are, and loading them when they are first asked for.

A run's models are called RUN:STAGE and RUN alone is its last stage; a plain Hugging Face folder has its own name. The list
is read from the disk whenever it is asked for, so it grows with the run. A name from a request is only ever looked up in
that list: it never becomes a path.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprout.common.errors import UserError
from sprout.common.files import read_json
from sprout.engine import Engine, Toolbox, toolbox_for
from sprout.grown import find_model, finished_stages, read_world, run_of
from sprout.model import GPTConfig
from sprout.model.count import parameters
from sprout.model.hf import load_hf
from sprout.serve.errors import ApiError

log = logging.getLogger("sprout.serve")
ON_REQUEST = ("python",)  # house tools that a request has to name; models haven't learned to use them
Stamp = tuple[int, int]  # of a file: when it was written, nanoseconds, and its size; another one is another file


def stamp(path: Path) -> Stamp:
    """Raises OSError for a missing file."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def plain(name: str) -> str:
    """A folder's name as text that can be sent: a file system may allow bytes that are none."""
    return name.encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies. `stage` is empty for a folder that is no run's stage."""

    run: str
    stage: str
    folder: Path

    @property
    def id(self) -> str:
        return f"{self.run}:{self.stage}" if self.stage else self.run

    def stamp(self) -> Stamp:
        """Raises OSError where the model has gone."""
        return stamp(self.folder / "model.safetensors")


@dataclass(eq=False, slots=True)
class Loaded:
    """A model that is ready. `retired` once a newer one lies in its place; what runs on it still ends on it."""

    place: Place
    engine: Engine
    stamp: Stamp
    retired: bool = False


class Shelf:
    """All models of a run, or the one in a folder. Any thread may ask.

    Raises UserError if nothing is there and nothing is expected to come (`watch`).
    """

    def __init__(self, path: Path, watch: bool = False, python: bool = False, tools: Toolbox | None = None) -> None:
        self.path, self.python, self.more = path, python, tools or {}
        self.single = (path / "config.json").is_file()
        self.run = run_of(path) if self.single else path
        self.name = plain(self.run.resolve().name) or "model"
        self._loaded: dict[str, Loaded] = {}
        self._cards: dict[str, tuple[Stamp, dict[str, Any]]] = {}
        self._tools: tuple[Stamp | None, Toolbox] | None = None
        self._lock = threading.Lock()
        if not watch:
            find_model(path)

    def places(self) -> list[Place]:
        """Which models there are now, the last stage first."""
        if self.single:
            stage = plain(self.path.name) if self.run != self.path else ""
            return [Place(self.name, stage, self.path)]
        return [Place(self.name, folder.name, folder) for folder in finished_stages(self.path)]

    def find(self, name: str) -> Place:
        """The model of that name. Raises ApiError (404)."""
        places = self.places()
        for place in places:
            if name == place.id or name == place.run:
                return place
        there = ", ".join(p.id for p in places) or "none yet"
        raise ApiError(404, f"there is no model {name[:80]!r}; there are: {there}", "model_not_found", "model")

    def load(self, name: str) -> Loaded:
        """The model of that name, ready; read now if that wasn't done yet, or is outdated. Can take seconds.

        Raises ApiError: 404 for an unknown name, 500 for a damaged model.
        """
        place = self.find(name)
        with self._lock:
            try:
                written = place.stamp()
                known = self._loaded.get(place.id)
                if known and known.stamp == written:
                    return known
                model, tokenizer = load_hf(place.folder)
                loaded = Loaded(place, Engine(model, tokenizer, self.toolbox()), written)
            except (UserError, OSError) as error:
                log.error("the model %s can't be used: %s", place.id, error)
                message = f"the model {place.id} is damaged or just being written; the server's log says more"
                raise ApiError(500, message, "model_damaged", "model") from error
            if known:
                known.retired = True
            self._loaded[place.id] = loaded
            return loaded

    def toolbox(self) -> Toolbox:
        """The tools of the house, made anew only when the run's world was. Raises UserError for a damaged world."""
        world_file = self.run / "world.json"
        found = stamp(world_file) if world_file.is_file() else None
        if self._tools is None or self._tools[0] != found:
            self._tools = found, toolbox_for(read_world(self.run), self.python) | self.more
        return self._tools[1]

    def cards(self) -> list[dict[str, Any]]:
        """What the API tells about every model; a damaged one is left out, and the log says why."""
        out = []
        for place in self.places():
            try:
                out.append(self.card(place))
            except (UserError, OSError, KeyError, TypeError, ValueError) as error:
                log.error("the model %s can't be listed: %s", place.id, error)
        return out

    def card(self, place: Place) -> dict[str, Any]:
        """What the API tells about a model. Raises UserError, OSError, KeyError, TypeError or ValueError for a damaged
        one."""
        written = place.stamp()
        known = self._cards.get(place.id)
        if known and known[0] == written:
            return known[1]
        c = read_json(place.folder / "config.json")
        shape = GPTConfig(
            c["vocab_size"], c["max_position_embeddings"], c["num_hidden_layers"], c["hidden_size"],
            c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["intermediate_size"],
            tied=c["tie_word_embeddings"],
        )  # fmt: skip
        with self._lock:
            toolbox = self.toolbox()
        tools = [
            {"name": tool.name, "description": tool.description, "default": tool.name not in ON_REQUEST}
            for tool in toolbox.values()
        ]
        own = {
            "run": place.run,
            "stage": place.stage,
            "context": shape.context,
            "parameters": parameters(shape),
            "tools": tools,
        }
        created = written[0] // 1_000_000_000
        card = {"id": place.id, "object": "model", "created": created, "owned_by": "sprout", "sprout": own}
        self._cards[place.id] = written, card
        return card
