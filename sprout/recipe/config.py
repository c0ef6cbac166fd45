"""What to grow, the plan made of it, and the session: everything the stages share while a command runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sprout.common.compute import Compute
from sprout.common.errors import UserError
from sprout.engine import Toolbox
from sprout.journal import Journal
from sprout.model import GPT
from sprout.model.dial import Dial
from sprout.tokenizer import Tokenizer
from sprout.train import Gradients
from sprout.world import World, WorldConfig

STAGES = ("pretrain", "midtrain", "finetune", "reinforce")
Say = Callable[[str], None]

@dataclass(frozen=True, slots=True)
class GrowConfig:
    """What to grow. Without `text` or `chat` it is the built-in world. Whether somebody watches (`sprout grow --serve`) is
    no part of it: a run goes on with or without."""

    run: Path = Path("runs/default")
    """where everything goes; the same command again goes on where it stopped"""
    depth: int = 4
    """the one dial: layers, and with them width, learning rates, batch and weight decay"""
    minutes: float = 8.0
    """time for everything on this machine; turned into a fixed number of steps at the start"""
    tokens: int = 0
    """train on this many tokens instead, whatever the time (then the plan is the same on every machine)"""
    text: tuple[str, ...] = ()
    """files or folders of .txt, .md, .jsonl, .parquet, or the name of a Hugging Face data set; what streams may also be
    .arrow, or compressed: .jsonl.gz, .jsonl.zst"""
    stream: str = "auto"
    """on, off or auto: whether the text is read while the model trains, instead of whole before it; auto does so above 256
    MB, or an eighth of the memory that is free, and for files that can't be read otherwise"""
    chat: tuple[str, ...] = ()
    """files or folders of conversations (.jsonl, .json)"""
    tasks: Path | None = None
    """a folder with gsm8k/train.jsonl and test.jsonl: a skill then, trained by reinforcement too, and evaluated"""
    with_world: bool = False
    """mix the built-in world into text and chat of your own"""
    vocab_size: int = 1536
    """tokens of the tokenizer"""
    context: int = 256
    """tokens the model reads at once"""
    batch_tokens: int = 4096
    """tokens a step"""
    seed: int = 1
    """of weights, batches and luck; another seed, another model"""
    world: WorldConfig = field(default_factory=WorldConfig)
    eval_problems: int = 200
    """held-out problems per skill after every stage"""
    rl_steps: int = -1
    """steps of reinforcement; -1 lets the time decide"""
    device: str = "auto"
    """cpu, cuda, mps or auto"""
    kernels: str = "auto"
    """who computes training's gradients: c (our own, on CPUs), torch, or auto"""
    products: str = "auto"
    """what the C core multiplies: int16 (integers, on CPUs with AVX-512 VNNI), float32, or auto"""
    compile: str = "auto"
    """torch.compile on, off or auto, where torch computes"""
    attention: str = "auto"
    """how torch computes attention: plain (written out), sdpa, flex (FlexAttention, on GPUs), or auto"""
    recompute: str = "auto"
    """on, off or auto: whether a layer is computed again on the way back instead of kept: less memory, a tenth more time (by
    the C core, at depth 4); auto does so where it would not fit otherwise"""
    threads: int = 0
    """0 takes all cores that are free to us"""
    strict: bool = False
    """stop at the first bad line, or bad file of a folder, instead of skipping and counting it"""

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 1e6:
            raise UserError(f"minutes is {self.minutes}; expected more than 0.")
        for name, least in (("tokens", 0), ("threads", 0), ("rl_steps", -1), ("eval_problems", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.context < 32:
            raise UserError(f"context is {self.context}; expected at least 32 tokens.")
        if self.batch_tokens < self.context:
            raise UserError(
                f"batch_tokens is {self.batch_tokens}, less than one row of {self.context} tokens; take more."
            )
        for name in ("compile", "stream", "recompute"):
            if getattr(self, name) not in ("auto", "on", "off"):
                raise UserError(f"{name} is {getattr(self, name)!r}; expected on, off or auto.")
        if self.stream == "on" and not self.text:
            raise UserError("stream is on, but there is no --text that could be streamed.")
        if self.attention not in ("auto", "plain", "sdpa", "flex"):
            raise UserError(f"attention is {self.attention!r}; expected plain, sdpa, flex or auto.")
        if self.kernels not in ("auto", "c", "torch"):
            raise UserError(f"kernels is {self.kernels!r}; expected c, torch or auto.")
        if self.products not in ("auto", "int16", "float32"):
            raise UserError(f"products is {self.products!r}; expected int16, float32 or auto.")

    @property
    def uses_world(self) -> bool:
        return self.with_world or not (self.text or self.chat)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps of every stage, fixed at the start and kept in plan.json, so that a run that goes on is the same run."""

    pretrain: int
    midtrain: int
    finetune: int
    reinforce: int
    tokens_per_s: float  # measured when the plan was made; 0 where it wasn't


@dataclass(slots=True)
class Session:
    """Everything the stages share while a command runs."""

    config: GrowConfig
    compute: Compute
    world: World
    tokenizer: Tokenizer
    dial: Dial
    model: GPT
    gradients: Gradients
    toolbox: Toolbox
    plan: Plan
    say: Say
    local: dict[str, Any]  # texts and conversations of the user, problems of GSM8K; the corpus that streams, or None
    journal: Journal
    watched: bool = False  # whether somebody reads the journal while it is written

    def stage_folder(self, stage: str) -> Path:
        return self.config.run / "stages" / stage

    @property
    def pad(self) -> int:
        return self.tokenizer.specials["<|endoftext|>"]

    @property
    def end(self) -> int:
        return self.tokenizer.specials["<|end|>"]
