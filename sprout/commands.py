"""What the commands do; `cli.py` finds them here. Each is a function whose options tyro reads from its types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from sprout import grow as recipe
from sprout.common.errors import UserError
from sprout.common.files import check_folder, read_json, write_atomic, write_json
from sprout.grow import GrowConfig

Config = Annotated[GrowConfig, tyro.conf.arg(name="")]


def grow(config: Config) -> int:
    """Grow a model, every stage; the same command again goes on where it stopped."""
    return recipe.grow(config)


def pretrain(config: Config) -> int:
    """Learn from documents."""
    return recipe.run_single("pretrain", config)


def midtrain(config: Config) -> int:
    """Learn the chat format, the tools and the skills."""
    return recipe.run_single("midtrain", config)


def finetune(config: Config) -> int:
    """Learn from conversations."""
    return recipe.run_single("finetune", config)


def reinforce(config: Config) -> int:
    """Practise problems whose answers can be checked."""
    return recipe.run_single("reinforce", config)


def world(
    what: tyro.conf.Positional[Literal["all", "documents", "skills", "facts", "entropy"]] = "all",
    count: int = 1,
    seed: int = 1,
) -> int:
    """Show samples of what the built-in world gives."""
    from sprout.world import WorldConfig, build_world
    from sprout.world.show import show

    print(show(build_world(WorldConfig(seed=seed)), what, count))
    return 0


def tokenizer(text: tyro.conf.Positional[str] = "", config: Config = GrowConfig()) -> int:  # noqa: B008 (frozen)
    """Train the run's tokenizer where there is none yet, and show how it cuts TEXT."""
    from sprout.tokenizer import Tokenizer
    from sprout.world import build_world

    folder = config.run / "tokenizer"
    if (folder / "tokenizer.json").is_file():
        tok = Tokenizer.load(folder)
    else:
        check_folder(config.run)
        tok = recipe.make_tokenizer(config, build_world(config.world), recipe.read_local(config, print), print)
    print(f"{tok.vocab_size} tokens in {config.run / 'tokenizer'}")
    for i in tok.encode(text):
        print(f"{i:6d}  {tok.decode_bytes([i])!r}")
    return 0


def evaluate(
    model: tyro.conf.Positional[Path] = Path("runs/default"),
    tasks: Path | None = None,
    names: tuple[str, ...] = (),
    limit: int = 0,
    problems: int = 200,
    output: Path | None = None,
) -> int:
    """Measure a model: the skills of its world and, with --tasks FOLDER, public benchmarks (--limit items of each; 0: all)."""
    from sprout.chat import find_model
    from sprout.engine import Engine, toolbox_for
    from sprout.evals import evaluate_skills, evaluate_tasks, problems_for
    from sprout.model.hf import load_hf
    from sprout.world.skills import SKILLS

    folder, world_ = find_model(model)
    engine = Engine(*load_hf(folder), toolbox_for(world_))
    found: dict[str, object] = {"model": folder.as_posix()}
    if world_ is not None:
        results = evaluate_skills(engine, problems_for(world_, list(SKILLS), problems, "test"))
        for name, score in results.scores.items():
            print(f"{name:14} {score.rate:6.1%}  ({score.low:.1%} to {score.high:.1%}, n={score.n})")
        print(
            f"{'made up':14} {results.made_up.rate:6.1%}  ({results.made_up.low:.1%} to {results.made_up.high:.1%}, n={results.made_up.n})"
        )
        found["skills"] = {k: v.plain() for k, v in results.scores.items()} | {"made_up": results.made_up.plain()}
    elif tasks is None:
        raise UserError(f"{model} has no world to test it on; give --tasks FOLDER.")
    if tasks is not None:
        scores = evaluate_tasks(engine, tasks, limit, names)
        found["tasks"] = {
            k: {"n": v.n, "score": v.score, "centred": v.centred, "metric": v.metric} for k, v in scores.items()
        }
        path = folder / "stage.json"
        if path.is_file():
            write_json(path, read_json(path) | {"tasks": found["tasks"]})
    if output is not None:
        write_json(output, found)
    return 0


def report(run: tyro.conf.Positional[Path] = Path("runs/default")) -> int:
    """Write report.html, report.md and report.json of a run again."""
    from sprout.report import build_report

    build_report(run)
    print(run / "report.html")
    return 0


def export(output: tyro.conf.Positional[Path], model: Path = Path("runs/default")) -> int:
    """Copy a run's last stage (or the stage named) as a folder that Hugging Face's transformers load as it is."""
    from sprout.chat import find_model
    from sprout.model.hf import load_hf

    folder, _ = find_model(model)
    load_hf(folder)  # a damaged one is refused here
    check_folder(output)
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty; give a new folder, nothing was written.")
    for name in (
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
    ):
        if (folder / name).is_file():
            write_atomic(output / name, (folder / name).read_bytes())
    print(f"{folder} -> {output}")
    return 0


def chat(
    model: Path = Path("runs/default"),
    prompt: Annotated[str | None, tyro.conf.arg(aliases=["-p"])] = None,
    temperature: float = 0.0,
    max_tokens: int = 150,
    system: str = "",
    tools: bool = True,
    seed: int = 0,
) -> int:
    """Talk to a run's last stage or a Hugging Face folder; -p answers once; a pipe is answered line by line."""
    from sprout.chat import open_chat, talk
    from sprout.engine import Sampling

    return talk(open_chat(model, Sampling(temperature, max_tokens=max_tokens, seed=seed), tools, system), prompt)
