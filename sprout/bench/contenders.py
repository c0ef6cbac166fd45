"""Who trains: each contender makes a model of a shape, and what takes a whole step of it. All get the same ids.

A contender is a function of a shape that gives a Trainee; it raises Absent, with the reason, where it can't run. Packages
are imported there only, our own too where they need more than torch, so that an interpreter need not have all. Shapes are ours; the others get as many layers,
heads and matrix parameters.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sprout.bench.parts import Absent
from sprout.bench.plain import PlainGPT
from sprout.common.compute import decide
from sprout.common.errors import UserError
from sprout.model import GPT, GPTConfig
from sprout.model.dial import dial

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer

PIECE = 16  # rows that go forward and back at once, of the others; a step takes one piece after the other


@dataclass(slots=True)
class Trainee:
    """`step(ids, targets, multiplier)` forward, backward and the update on ids (B, T) int64 and targets (B, T), B a multiple of
    PIECE or below it, at that share of the peak learning rates; returns the loss in nats. `logits(ids)` (B, T, V) float32, no gradients.
    `note` says how it is run. `begin(data)` is what it does with the text before the first step, on the clock."""

    step: Callable[[Tensor, Tensor, float], float]
    logits: Callable[[Tensor], Tensor]
    note: str
    begin: Callable[[Any], object] = lambda data: None


def wanted(package: str) -> Any:
    """The package. Raises Absent where it isn't installed, or doesn't get along with what is."""
    if importlib.util.find_spec(package) is None:
        raise Absent(f"{package} is not installed")
    try:
        return importlib.import_module(package)
    except Exception as error:  # whatever another's code thinks of: it is reported
        raise Absent(f"{package} can't be imported: {type(error).__name__}: {str(error)[:150]}") from error


# ------------------------------------------------------------------------------------------------ ours


@dataclass(frozen=True, slots=True)
class Rates:
    """Of a run of ours: rows of a step, and what the dial's learning rates are multiplied by. `pairs`: begin with the pairs."""

    rows: int = 16
    matrix: float = 1.0
    embed: float = 1.0
    head: float = 1.0
    momentum: float = 0.95
    pairs: bool = False


RECIPE = Rates()


def ours(shape: GPTConfig, kernels: str, tokens: int = 0, seed: int = 0, rates: Rates = RECIPE, products: str = "auto") -> Trainee:
    """The recipe's numbers, times `rates`, for a model of so many layers, `tokens` tokens long (0: the dial's horizon)."""
    from sprout.data import Batch
    from sprout.optim import OptimConfig, Optimizer
    from sprout.train import make_gradients
    from sprout.train.loop import backward_step
    from sprout.train.memory import rows_at_once
    from sprout.train.pairs import learn_pairs

    try:
        compute = decide("cpu", kernels=kernels, threads=torch.get_num_threads(), products=products)
    except UserError as error:
        raise Absent(str(error)) from error
    model = GPT(shape, seed)
    model.dtype = compute.dtype
    gradients = make_gradients(model, compute)
    d = dial(shape.layers, shape.vocab_size, shape.context, tokens or None, rates.rows * shape.context)
    numbers = OptimConfig(
        d.matrix_lr * rates.matrix, d.embed_lr * rates.embed, d.head_lr * rates.head, d.weight_decay, rates.momentum,
        dtype=compute.dtype, kernels=compute.kernels,
    )  # fmt: skip
    optimizer = Optimizer(model, numbers)

    def step(ids: Tensor, targets: Tensor, multiplier: float) -> float:
        loss = backward_step(gradients, Batch(ids, targets, torch.ones(ids.shape, dtype=torch.int32)), rows_at_once(len(ids), shape, compute))
        optimizer.step(multiplier)
        return loss

    @torch.no_grad()
    def logits(ids: Tensor) -> Tensor:
        return model.logits(model(ids)).float()

    how = f"our C core with {compute.products} products" if compute.kernels == "c" else f"torch{', compiled' if compute.compile else ''}"
    trainee = Trainee(step, logits, f"{name_of(compute.dtype)}, {how}, our Muon and AdamW")
    if rates.pairs:
        trainee.begin, trainee.note = lambda data: learn_pairs(model, data), f"{trainee.note}, pairs first"
    return trainee


# ------------------------------------------------------------------------------------------------ the others


def in_torch(
    model: nn.Module, forward: Callable[[Tensor], Tensor], optimizers: list[TorchOptimizer], dtype: torch.dtype, compile: bool, note: str
) -> Trainee:
    """A step as their own trainers take it: autocast around the forward pass, mean cross-entropy, every optimizer's step."""
    peaks = [[group["lr"] for group in o.param_groups] for o in optimizers]
    half = torch.autocast("cpu", torch.bfloat16) if dtype == torch.bfloat16 else contextlib.nullcontext()

    def loss_of(ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(forward(ids).flatten(0, 1).float(), targets.flatten(), ignore_index=-1)

    run = torch.compile(loss_of, dynamic=False) if compile else loss_of

    def step(ids: Tensor, targets: Tensor, multiplier: float) -> float:
        pieces = list(zip(ids.split(PIECE), targets.split(PIECE), strict=True))
        nats = 0.0
        for piece in pieces:  # all as long as each other, and without targets that don't count: means of means
            with half:
                loss = run(*piece) / len(pieces)
            loss.backward()
            nats += float(loss.detach())
        for optimizer, lrs in zip(optimizers, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * multiplier
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return nats

    @torch.no_grad()
    def logits(ids: Tensor) -> Tensor:
        with half:
            return forward(ids).float()

    return Trainee(step, logits, f"{name_of(dtype)}, {'compiled' if compile else 'eager'}, {note}")


def plain(shape: GPTConfig) -> Trainee:
    """The baseline of the guard in CI."""
    model = PlainGPT(shape)
    return in_torch(model, model, [torch.optim.AdamW(model.parameters(), 1e-3)], torch.float32, False, "AdamW")


def llama(shape: GPTConfig, dtype: torch.dtype) -> Trainee:
    """Hugging Face's Llama, as `run_clm` or a Trainer would train it: fused AdamW."""
    transformers = wanted("transformers")
    check(dtype)
    c = shape
    config = transformers.LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.width, intermediate_size=c.hidden, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.head_size, max_position_embeddings=c.context,
        tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    adamw = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    return in_torch(model, lambda ids: model(ids).logits, [adamw], dtype, can_compile(), "fused AdamW")


def litgpt(shape: GPTConfig, dtype: torch.dtype) -> Trainee:
    """litgpt's model as its `pretrain` compiles it, in a plain loop instead of Fabric's."""
    package = wanted("litgpt")
    check(dtype)
    c = shape
    config = package.Config(
        name="bench", block_size=c.context, padded_vocab_size=c.vocab_size, vocab_size=c.vocab_size, n_layer=c.layers, n_embd=c.width,
        n_head=c.heads, head_size=c.head_size, n_query_groups=c.kv_heads, rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", intermediate_size=c.hidden,
    )  # fmt: skip
    model = package.GPT(config)
    adamw = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    return in_torch(model, model, [adamw], dtype, can_compile(), "fused AdamW")


def nanochat(shape: GPTConfig, dtype: torch.dtype) -> Trainee:
    """nanochat's recipe with what packages have of it (its own code is none): the model by transformers, started as nanochat
    starts it, Muon by torch for the blocks' matrices and AdamW for the rest, with nanochat's learning rates: 0.02 for the
    matrices, 0.3 for the embedding and 0.004 for the head, those two times (width / 768)^-1/2."""
    transformers = wanted("transformers")
    if not hasattr(transformers, "NanoChatForCausalLM") or not hasattr(torch.optim, "Muon"):
        raise Absent("transformers without NanoChat, or torch without Muon; expected transformers 5 and torch 2.9, or later")
    check(dtype)
    c = shape
    config = transformers.NanoChatConfig(
        vocab_size=c.vocab_size, hidden_size=c.width, intermediate_size=c.hidden * 3 // 2, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.head_size, max_position_embeddings=c.context,
        pad_token_id=None, use_cache=False,
    )  # fmt: skip
    model = transformers.NanoChatForCausalLM(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "embed" in name:
                p.normal_()
            elif "lm_head" in name:
                p.normal_(0, 0.001)
            elif name.endswith(("o_proj.weight", "fc2.weight")):
                p.zero_()
            else:
                p.uniform_(-((3 / c.width) ** 0.5), (3 / c.width) ** 0.5)
    named, wide = dict(model.named_parameters()), (c.width / 768) ** -0.5
    embed, head = named.pop("model.embed_tokens.weight"), named.pop("lm_head.weight")
    rest = [{"params": [embed], "lr": 0.3 * wide}, {"params": [head], "lr": 0.004 * wide}]
    muon = torch.optim.Muon(named.values(), lr=0.02, weight_decay=0.0, momentum=0.95, adjust_lr_fn="original")
    adamw = torch.optim.AdamW(rest, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0, fused=True)
    return in_torch(model, lambda ids: model(ids).logits, [adamw, muon], dtype, can_compile(), "torch's Muon, fused AdamW")


F32, BF16 = torch.float32, torch.bfloat16
SPROUT, BASELINE = "Sprout", "plain PyTorch"
CONTENDERS: dict[str, Callable[[GPTConfig], Trainee]] = {
    SPROUT: lambda shape: ours(shape, "c"),
    "Sprout, float32": lambda shape: ours(shape, "c", products="float32"),
    "Sprout in torch": lambda shape: ours(shape, "torch"),
    "Llama by Hugging Face": lambda shape: llama(shape, F32),
    "Llama by Hugging Face, bfloat16": lambda shape: llama(shape, BF16),
    "nanochat by Hugging Face": lambda shape: nanochat(shape, F32),
    "nanochat by Hugging Face, bfloat16": lambda shape: nanochat(shape, BF16),
    "litgpt": lambda shape: litgpt(shape, F32),
    "litgpt, bfloat16": lambda shape: litgpt(shape, BF16),
    BASELINE: plain,
}
NEEDS = {"Llama": ("transformers",), "nanochat": ("transformers",), "litgpt": ("litgpt",)}  # by the name's first word


def check(dtype: torch.dtype) -> None:
    """Raises Absent for bfloat16 where the CPU has no instructions for it: it would be emulated, many times slower."""
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if dtype == BF16 and not (capable and capable()):
        raise Absent("this CPU has no bfloat16")


def can_compile() -> bool:
    """Whether there is what torch.compile needs."""
    return decide("cpu", kernels="torch").compile


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def made_up(shape: GPTConfig, rows: int) -> tuple[Tensor, Tensor]:
    """Random ids and targets, (rows, context) each."""
    ids = torch.randint(shape.vocab_size, (rows, shape.context + 1), generator=torch.Generator().manual_seed(0))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def products(dtype: torch.dtype) -> float:
    """Operations a second of a matrix product, the best of some sizes: what the machine can do. 0 where it can't."""
    best = 0.0
    with contextlib.suppress(Absent):
        check(dtype)
        for n in (512, 1024, 2048):
            x, y = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
            torch.mm(x, y)
            took = math.inf
            for _ in range(max(2, int(2e9 / n**3))):
                began = time.perf_counter()
                torch.mm(x, y)
                took = min(took, time.perf_counter() - began)
            best = max(best, 2 * n**3 / took)
    return best
