"""How fast tokens are written on a CPU: Sprout beside llama.cpp, Hugging Face and nanochat, the same weights.

A contender is a function of a trial that returns tokens/s, the time for reading the prompt included. All of them write
`new` tokens behind the same prompt, always the likeliest one, with as many threads; what could not run is named, with its
reason. Numbers are float32, but for weights of 16 bits: ours by default, where the CPU multiplies them faster, and llama.cpp's
where its name says so. Beside the speeds stands the limit: how often a second the
weights could be read, or multiplied, whichever is less.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sprout.engine import Decoder, Engine, Prompt, Sampling
from sprout.engine import native as core
from sprout.model import GPT, GPTConfig
from sprout.model.dial import matrix_parameters, shape_of
from sprout.model.hf import hf_weights, save_hf
from sprout.tokenizer import Tokenizer

Row = dict[str, Any]  # contender, size, chats, tokens_per_second, ratio (of Sprout's speed to this one's; see LIKE), note
SIZES = {"1M": shape_of(4, 2048, 512), "12M": replace(shape_of(8, 8192, 512), layers=6), "100M": shape_of(12, 32768, 512)}
PROMPT = 16  # tokens, about


class Absent(Exception):
    """Why a contender can't run here."""


@dataclass(slots=True)
class Trial:
    """What is to be written: `new` tokens for each of so many `chats`. The folder is Hugging Face's, with a model.gguf."""

    model: GPT
    tokenizer: Tokenizer
    folder: Path
    chats: int
    new: int
    threads: int
    said: dict[str, list[int]] = field(default_factory=dict)  # what the contenders wrote in their first chat

    def prompts(self) -> list[Prompt]:
        """As many different ones; all as long."""
        return [Prompt(text=f"{i:03d}" + "x" * (PROMPT - 4)) for i in range(self.chats)]

    def ids(self) -> torch.Tensor:
        """The same as ids, (chats, T)."""
        engine = Engine(self.model, self.tokenizer, max_batch=1)
        return torch.tensor([engine.prompt_ids(prompt) for prompt in self.prompts()])


def made_up_tokenizer(vocab_size: int) -> Tokenizer:
    """One of any size without learning: every byte, then pairs of bytes."""
    merges = [(i // 256, i % 256) for i in range(vocab_size - 256 - 7)]
    return Tokenizer([*(bytes([b]) for b in range(256)), *(bytes(pair) for pair in merges)], merges)


def random_model(shape: GPTConfig, tokenizer: Tokenizer) -> GPT:
    """Random weights of a trained model's size. No special token is ever likeliest, so that no reply ends early."""
    model, generator = GPT(shape), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, p.shape[1] ** -0.5, generator=generator)
        assert model.head is not None
        model.head[list(tokenizer.specials.values())] = 0
    return model


# ------------------------------------------------------------------------------------------------ contenders


def best(run: Callable[[], int], trials: int = 3) -> float:
    """Tokens/s of the fastest of some trials, after one that doesn't count."""
    run()
    rates = []
    for _ in range(trials):
        start = time.perf_counter()
        tokens = run()
        rates.append(tokens / (time.perf_counter() - start))
    return max(rates)


def sprout(trial: Trial, sampling: Sampling | None = None, decoder: Callable[[GPT], Decoder] = Decoder) -> float:
    """Our engine, from prompts to texts. The decoder is prepared before, as a server's is."""
    ready = decoder(trial.model)
    engine = Engine(trial.model, trial.tokenizer, max_batch=trial.chats, decoder=lambda model: ready)
    sampling = replace(sampling or Sampling(), max_tokens=trial.new)

    def run() -> int:
        replies = engine.generate(trial.prompts(), sampling)
        trial.said.setdefault("sprout", replies[0].ids)  # the first to run is the plain one
        return sum(len(reply.ids) for reply in replies)

    return best(run)


def sampled(trial: Trial) -> float:
    """The same with temperature, top-k and top-p."""
    return sprout(trial, Sampling(0.8, top_k=50, top_p=0.95))


def in_float32(trial: Trial) -> float:
    """The same with all products in float32."""
    with environment(core.SWITCH, "float32"):
        return sprout(trial)


def in_pytorch(trial: Trial) -> float:
    """The same without the C core."""
    with environment(core.SWITCH, "off"):
        return sprout(trial)


def huggingface(trial: Trial) -> float:
    """`generate` of transformers on the folder that we export."""
    transformers = wanted("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(trial.folder, dtype=torch.float32).eval()
    ids, n = trial.ids(), trial.new
    alone = {"do_sample": False, "suppress_tokens": None, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}

    def run() -> int:
        out = model.generate(ids, max_new_tokens=n, min_new_tokens=n, **alone)[:, ids.shape[1] :]
        trial.said["Hugging Face generate"] = out[0].tolist()
        return out.numel()

    return best(run, trials=2)


def nanochat(trial: Trial) -> float:
    """A model of nanochat's architecture and as many matrix parameters, random weights, in the loop its engine is: a token
    of every row at a time with a KV cache, plain PyTorch. As transformers has the architecture; its own code is no package."""
    transformers = wanted("transformers")
    c = trial.model.config
    config = transformers.NanoChatConfig(
        vocab_size=c.vocab_size, hidden_size=c.width, intermediate_size=4 * c.width, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.head_size, max_position_embeddings=c.context,
    )  # fmt: skip
    model, ids = transformers.NanoChatForCausalLM(config).eval(), trial.ids()

    @torch.inference_mode()
    def run() -> int:
        shown, cache = ids, None
        for _ in range(trial.new):
            out = model(shown, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, shown = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        return trial.new * len(ids)

    return best(run, trials=2)


def llama_cpp(trial: Trial, dtype: type[np.floating] = np.float32) -> float:
    """llama.cpp through its C interface: the loop of its own examples, with its greedy sampler. Its matrices are of `dtype`."""
    llama = wanted("llama_cpp")
    wanted("gguf")
    if trial.chats > 1:
        raise Absent("measured for one chat")
    write_gguf(trial.model, trial.folder / "model.gguf", dtype)
    llama.llama_backend_init()
    quiet = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(quiet, None)
    model = llama.llama_model_load_from_file(str(trial.folder / "model.gguf").encode(), llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx = options.n_batch = trial.model.config.context
    options.n_threads = options.n_threads_batch = trial.threads
    options.type_k = options.type_v = llama.GGML_TYPE_F32
    context = llama.llama_init_from_model(model, options)
    if not model or not context:
        raise Absent("it does not load the model")
    sampler = llama.llama_sampler_init_greedy()
    ids = trial.ids()[0].tolist()

    def show(tokens: Sequence[int]) -> None:
        array = (llama.llama_token * len(tokens))(*tokens)
        if llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))):
            raise Absent("it does not take a token")

    def run() -> int:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        out: list[int] = []
        show(ids)
        while len(out) < trial.new:
            out.append(llama.llama_sampler_sample(sampler, context, -1))
            if len(out) < trial.new:
                show(out[-1:])
        trial.said["llama.cpp" if dtype == np.float32 else "llama.cpp, float16 weights"] = out
        return len(out)

    try:
        return best(run)
    finally:
        llama.llama_free(context)
        llama.llama_model_free(model)


CONTENDERS: dict[str, Callable[[Trial], float]] = {
    "sprout": sprout, "sprout, sampled": sampled, "sprout, float32": in_float32, "sprout in PyTorch": in_pytorch,
    "llama.cpp": llama_cpp, "llama.cpp, float16 weights": lambda trial: llama_cpp(trial, np.float16),
    "Hugging Face generate": huggingface, "nanochat": nanochat,
}  # fmt: skip


LIKE = {"llama.cpp": "sprout, float32"}  # what of ours it is compared with, if that is measured, instead of the first

# ------------------------------------------------------------------------------------------------ the table


def measure(
    size: str, chats: int, new: int, threads: int, contenders: Sequence[str] = tuple(CONTENDERS), shape: GPTConfig | None = None
) -> list[Row]:
    """A row for each contender, all in this process one after the other: `size` of SIZES (or any `shape` under that name),
    so many `chats` at once, `new` tokens each."""
    shape = shape or SIZES[size]
    tokenizer = made_up_tokenizer(shape.vocab_size)
    before = torch.get_num_threads()
    rows: list[Row] = []
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(random_model(shape, tokenizer), tokenizer, Path(folder), chats, new, threads)
            save_hf(trial.model, tokenizer, trial.folder)
            for name in contenders:
                try:
                    speed, note = CONTENDERS[name](trial), core.say() if name == "sprout" else ""
                except Absent as why:
                    speed, note = None, f"absent: {why}"
                rows.append({"contender": name, "size": size, "chats": chats, "tokens_per_second": speed, "ratio": None, "note": note})
            weights, short = matrix_parameters(shape), core.integers()  # integers of 16 bits: half the bytes, at twice the rate
            size_of = (2 if short else 4) * weights
            reads, products = reads_per_second(size_of) * chats, multiplications_per_second() * (2 if short else 1) / weights
            note = f"reading {size_of / 1e6:.0f} MB of weights for each token of all chats" if reads < products else "multiplying"
            rows.append({"contender": "limit", "size": size, "chats": chats, "tokens_per_second": min(reads, products), "ratio": None, "note": note})
    finally:
        torch.set_num_threads(before)
    speeds = {row["contender"]: row["tokens_per_second"] for row in rows}
    for row in rows:
        mine = speeds.get(LIKE.get(row["contender"], "")) or rows[0]["tokens_per_second"]
        if row["tokens_per_second"] and mine:
            row["ratio"] = mine / row["tokens_per_second"]
        if (said := trial.said.get(row["contender"])) and row["contender"] != "sprout":
            same = sum(a == b for a, b in zip(said, trial.said["sprout"], strict=False))
            row["note"] = f"{same} of {len(said)} tokens as ours"
    return rows


def reads_per_second(size: int) -> float:
    """How often so many bytes can be read in a second, by as many threads as PyTorch has, from wherever they stay."""
    half = torch.ones(size // 8)
    other = half.clone()
    times = []
    for read in (lambda: (half.sum(), other.sum()), lambda: torch.dot(half, other)):
        read()
        for _ in range(max(5, int(2e9 / size))):
            start = time.perf_counter()
            read()
            times.append(time.perf_counter() - start)
    return 1 / min(times)


def multiplications_per_second() -> float:
    """Multiplications (each with its addition) a second, as PyTorch's products of large float32 matrices reach them."""
    a, times = torch.ones(1024, 1024), []
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 1024**3 / min(times)


# ------------------------------------------------------------------------------------------------ tools


def wanted(package: str) -> Any:
    """The package; Absent where it isn't installed."""
    if importlib.util.find_spec(package) is None:
        raise Absent(f"{package} is not installed")
    return importlib.import_module(package)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """An environment variable, for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


GGUF_NAMES = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip


def write_gguf(model: GPT, path: Path, dtype: type[np.floating] = np.float32) -> None:
    """The model as llama.cpp's file, a Qwen3 with matrices of `dtype`. With no vocabulary: ids go in and ids come out."""
    gguf = wanted("gguf")
    c, weights = model.config, {name: t.float().numpy() for name, t in hf_weights(model).items()}
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.width)
    writer.add_block_count(c.layers)
    writer.add_feed_forward_length(c.hidden)
    writer.add_head_count(c.heads)
    writer.add_head_count_kv(c.kv_heads)
    writer.add_key_length(c.head_size)
    writer.add_value_length(c.head_size)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.eps)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("none")

    def add(name: str, theirs: str) -> None:
        tensor = np.ascontiguousarray(weights[f"{theirs}.weight"])
        writer.add_tensor(f"{name}.weight", tensor.astype(dtype) if tensor.ndim > 1 else tensor)

    add("token_embd", "model.embed_tokens")
    add("output_norm", "model.norm")
    if not c.tied:
        add("output", "lm_head")
    from sprout.model.hf import MATRICES

    for i in range(c.layers):
        for name, theirs in MATRICES.items():
            add(f"blk.{i}.{GGUF_NAMES[name]}", f"model.layers.{i}.{theirs}")
        for name, theirs in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
                             ("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm")):  # fmt: skip
            add(f"blk.{i}.{name}", f"model.layers.{i}.{theirs}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
