"""What the commands do; `cli.py` finds them here. Each is a function whose options tyro reads from its types."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sprout import grow as pipeline
from sprout.common.errors import UserError
from sprout.common.files import check_folder, read_json, write_atomic, write_json
from sprout.recipe import GrowConfig, make_tokenizer, read_local
from sprout.world import WorldConfig

Config = Annotated[GrowConfig, tyro.conf.arg(name="")]


def grow(config: Config, serve: bool = False, port: int = 8000) -> int:
    """Grow a model, every stage; the same command again goes on where it stopped.

    Args:
        config: what to grow
        serve: show on a page how it grows, and what it says meanwhile; the page stays when it is grown
        port: of that page, on this machine
    """
    return pipeline.grow(config, serve, port)


def pretrain(config: Config) -> int:
    """Learn from documents."""
    return pipeline.run_single("pretrain", config)


def midtrain(config: Config) -> int:
    """Learn the chat format, the tools and the skills."""
    return pipeline.run_single("midtrain", config)


def finetune(config: Config) -> int:
    """Learn from conversations."""
    return pipeline.run_single("finetune", config)


def reinforce(config: Config) -> int:
    """Practise problems whose answers can be checked."""
    return pipeline.run_single("reinforce", config)


def world(
    what: tyro.conf.Positional[str] = "all",
    count: int = 1,
    config: Annotated[WorldConfig, tyro.conf.arg(name="")] = WorldConfig(),  # noqa: B008 (frozen)
) -> int:
    """Show samples of what the built-in world gives.

    Args:
        what: all, documents, skills, facts, entropy, or the name of a kind of documents or of a skill
        count: samples of each
        config: the world to show
    """
    from sprout.world import build_world
    from sprout.world.show import show

    print(show(build_world(config), what, count), end="")
    return 0


def tokenizer(text: tyro.conf.Positional[str] = "", config: Config = GrowConfig()) -> int:  # noqa: B008 (frozen)
    """Train the run's tokenizer where there is none yet, and show how it cuts a text.

    Args:
        text: what to cut into tokens
        config: the run and, where it has no tokenizer yet, what to train it on
    """
    from sprout.tokenizer import Tokenizer
    from sprout.world import build_world

    folder = config.run / "tokenizer"
    if (folder / "tokenizer.json").is_file():
        tok = Tokenizer.load(folder)
    else:
        check_folder(config.run)
        tok = make_tokenizer(config, build_world(config.world), read_local(config, print), print)
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
    """Measure a model: bits per byte and the skills of its world and, with --tasks, public benchmarks.

    Args:
        model: a run (its last stage is measured), a stage, or a Hugging Face folder
        tasks: a folder of benchmark files: gsm8k/, mmlu/, icl/*.jsonl, hellaswag_val.jsonl
        names: only these of the benchmarks
        limit: items of each benchmark; 0 takes all
        problems: held-out problems of each skill
        output: a file to write the figures to as JSON
    """
    from sprout.common.compute import apply, decide
    from sprout.common.processes import place_of
    from sprout.common.together import Together

    place = place_of()
    with Together(place, lambda: "Give the same command again.") as together:
        if place.size > 1:
            compute = decide("cpu", "off", place=place)  # where a finished model is measured, as with one process
            apply(compute)
            together.join(compute.backend)
        _evaluate(model, tasks, names, limit, problems, output)
    return 0


def _evaluate(model: Path, tasks: Path | None, names: tuple[str, ...], limit: int, problems: int, output: Path | None) -> None:
    from sprout.common.processes import is_first, on_first
    from sprout.data import document_items, pack, world_texts
    from sprout.engine import Engine, toolbox_for
    from sprout.evals import bits_per_byte, evaluate_skills, evaluate_tasks, problems_for
    from sprout.grown import find_model
    from sprout.model.hf import load_hf
    from sprout.world.skills import SKILLS

    say = print if is_first() else lambda text: None
    folder, world_ = on_first(lambda: find_model(model))
    gpt, tok = on_first(lambda: load_hf(folder))
    engine = Engine(gpt, tok, toolbox_for(world_))
    found: dict[str, object] = {"model": folder.as_posix()}
    if world_ is not None:
        held_out = document_items(world_texts(world_, 0, "test"), tok, 40_000)
        found["bits_per_byte"] = bits_per_byte(gpt, pack(held_out, gpt.config.context, tok.specials["<|endoftext|>"]), tok)
        say(f"{'bits per byte':14} {found['bits_per_byte']:6.3f}  (held-out documents of its world)")
        results = evaluate_skills(engine, problems_for(world_, list(SKILLS), problems, "test"))
        scores = results.scores | {"made_up": results.made_up}
        for name, score in scores.items():
            say(f"{name:14} {score}")
        found["skills"] = {name: score.plain() for name, score in scores.items()}
    elif tasks is None:
        raise UserError(f"{model} has no world to test it on; give --tasks FOLDER.")
    if tasks is not None:
        found["tasks"] = {name: asdict(score) for name, score in evaluate_tasks(engine, tasks, limit, names, say).items()}

    def write() -> None:
        path = folder / "stage.json"
        if tasks is not None and path.is_file():
            write_json(path, read_json(path) | {"tasks": found["tasks"]})
            say(f"kept for the report; write it again with: sprout report {path.parent.parent.parent}")
        if output is not None:
            write_json(output, found)

    on_first(write)


def report(run: tyro.conf.Positional[Path] = Path("runs/default")) -> int:
    """Write report.html, report.md and report.json of a run again.

    Args:
        run: the folder of the run
    """
    from sprout.report import build_report

    build_report(run)
    print(run / "report.html")
    return 0


def export(output: tyro.conf.Positional[Path], model: Path = Path("runs/default")) -> int:
    """Copy a run's last stage (or the stage named) as a folder that Hugging Face's transformers load as it is.

    Args:
        output: a new folder
        model: a run, or one of its stages (runs/NAME/stages/STAGE)
    """
    from sprout.grown import find_model
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
    model: str = "",
    prompt: Annotated[str | None, tyro.conf.arg(aliases=["-p"])] = None,
    temperature: float = 0.0,
    max_tokens: int = 150,
    system: str = "",
    tools: bool = True,
    seed: int = 0,
    tool_file: Path | None = None,
    url: str = "",
    api_key: str = "",
) -> int:
    """Talk to a run's last stage, a Hugging Face folder, or a server; -p answers once; a pipe is answered line by line.

    Args:
        model: a run (its last stage talks; runs/default where nothing is given), a stage, or a Hugging Face folder; with
            --url the name of one of the server's models (the first where nothing is given)
        prompt: answer this and leave
        temperature: 0 always takes the likeliest word, 1 is as lively as the training text
        max_tokens: of a reply
        system: a system message to begin with
        tools: whether it may use its tools
        seed: of the luck in what it says, above temperature 0
        tool_file: a Python file of yours with a list TOOLS of functions that it may call, too; the file is run
        url: talk to this server instead, ours or any that speaks OpenAI's API; for example http://127.0.0.1:8000
        api_key: the server's key; the environment variable SPROUT_API_KEY does as well
    """
    from sprout.chat import open_chat, open_remote, talk
    from sprout.engine import Sampling

    sampling = Sampling(temperature, max_tokens=max_tokens, seed=seed)
    if url:
        key = api_key or os.environ.get("SPROUT_API_KEY", "")
        return talk(open_remote(url, model, key, sampling, tools, system), prompt)
    return talk(open_chat(Path(model or "runs/default"), sampling, tools, system, tool_file), prompt)


def serve(
    model: Path = Path("runs/default"),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    open: bool = False,
    rows: int = 64,
    waiting: int = 256,
    grace: float = 20.0,
    watch: bool = False,
    until_stdin_closes: bool = False,
    python: bool = True,
    tool_file: Path | None = None,
) -> int:
    """Serve a run's models: OpenAI's API at /v1 and a page to chat at /.

    Args:
        model: a run (all its stages are served), a stage, or a Hugging Face folder
        host: the address to listen at; any but this machine's own needs --api-key or --open
        port: 0 takes any free one
        api_key: what clients must know; better given as SPROUT_API_KEY in the environment, where others can't see it
        open: everybody who reaches the address may use it
        rows: replies of a model that are written at the same time
        waiting: requests that may wait for that; more are told to try again later
        grace: seconds in which, at the end, what runs may be finished
        watch: there need not be a model yet; the run is growing
        until_stdin_closes: end when the standard input is closed
        python: offer the tool that runs Python in a sandbox
        tool_file: a Python file of yours with a list TOOLS of functions that the models may call, too; the file is run
    """
    from sprout.engine import load_tools
    from sprout.serve.app import Settings
    from sprout.serve.limits import is_loopback
    from sprout.serve.server import check_access
    from sprout.serve.server import serve as run

    key = api_key if api_key is not None else os.environ.get("SPROUT_API_KEY")
    check_access(host, key, open)
    if rows < 1 or waiting < 0 or grace < 0:
        raise UserError("rows must be at least 1, waiting and grace at least 0.")
    own = load_tools(tool_file) if tool_file else {}
    settings = Settings(model, key, is_loopback(host), rows, waiting, watch, python, own)
    return run(settings, host, port, grace, until_stdin_closes)


def bench(
    what: tyro.conf.Positional[tuple[Literal["training", "quality", "decoding", "tokenizers"], ...]] = ("training", "decoding", "tokenizers"),
    data: Path | None = None,
    out: Path = Path("bench"),
    seconds: float = 10,
    sizes: tuple[str, ...] = ("1M", "4M", "12M"),
    only: tuple[str, ...] = (),
    times: tuple[float, ...] = (60, 180, 300),
    seeds: int = 3,
    threads: int = 0,
    python: tuple[Path, ...] = (),
) -> int:
    """Measure speed beside others' own code, all in this run, and write bench.md, bench.json and bench.png.

    Args:
        what: training steps, quality after so many seconds of training (hours; only where asked for), decoding, tokenizers
        data: the folder of test data, for quality and tokenizers; where nothing is given, what SPROUT_DATA names
        out: a folder for what it writes
        seconds: of training steps, for each contender and size
        sizes: of the models whose training steps are measured: 1M, 4M, 12M; tiny to try it out
        only: of those who train, the ones of this name, or with this word in it
        times: seconds of training, after each of which quality is measured
        seeds: runs of each contender in quality
        threads: 0 takes all cores that are free to us
        python: other interpreters, for peers that can't be installed beside us (litgpt); each peer runs in one that has it
    """
    from sprout.bench.run import Plan
    from sprout.bench.run import bench as run

    if data is None and os.environ.get("SPROUT_DATA"):
        data = Path(os.environ["SPROUT_DATA"])
    run(Plan(what, data, out, seconds, sizes, only, times, seeds, threads, python))
    return 0
