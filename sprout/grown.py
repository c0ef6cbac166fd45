"""What has grown: the stages of a run, its world, and which folder holds the model that is meant."""

from __future__ import annotations

from pathlib import Path

from sprout.common.errors import UserError
from sprout.common.files import read_json
from sprout.world import World, WorldConfig, build_world

STAGES = ("reinforce", "finetune", "midtrain", "pretrain")  # the last one first


def finished_stages(run: Path) -> list[Path]:
    """The folders of a run's stages that hold a model, the last stage first."""
    return [run / "stages" / s for s in STAGES if (run / "stages" / s / "config.json").is_file()]


def run_of(folder: Path) -> Path:
    """The run that a stage's folder belongs to; of any other folder, itself."""
    return folder.parent.parent if folder.parent.name == "stages" else folder


def find_model(path: Path) -> tuple[Path, World | None]:
    """The folder of a model: a Hugging Face folder itself or a run's last finished stage; and the run's world, if any.

    Raises UserError where there is no model, or a damaged world.json.
    """
    if (path / "config.json").is_file():
        return path, read_world(run_of(path))
    found = finished_stages(path)
    if not found:
        raise UserError(
            f"there is no model in {path}; expected a run (runs/NAME) with a finished stage or a Hugging Face folder. "
            "Grow one with: sprout grow"
        )
    return found[0], read_world(path)


def read_world(run: Path) -> World | None:
    """The world that a run grew up in, if it had one. Raises UserError for a damaged world.json."""
    world_file = run / "world.json"
    if not world_file.is_file():
        return None
    try:
        return build_world(WorldConfig(**read_json(world_file)))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{world_file} is damaged ({error}); expected the fields of a world. Remove or restore it."
        ) from error
