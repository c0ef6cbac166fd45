"""The model as a standard Hugging Face folder: Qwen3 classes load it with no custom code, and so do we.

Our norms have no weights and the embedding is normed before use; Qwen3 has norm weights and no embedding norm. So the
norm weights are written as 1 (the gain of the queries where they are normed) and the embedding table as it is after its norm, which changes no logit.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sprout.common.errors import UserError
from sprout.common.files import read_json, write_atomic, write_json
from sprout.common.messages import ROLES
from sprout.model.config import GPTConfig
from sprout.model.gpt import GPT
from sprout.tokenizer import Tokenizer

# Our name of a block's matrix, and theirs.
MATRICES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


def hf_config(config: GPTConfig, tokenizer: Tokenizer) -> dict[str, object]:
    """The content of config.json."""
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "float32", "hidden_act": "silu",
        "vocab_size": config.vocab_size, "max_position_embeddings": config.context, "num_hidden_layers": config.layers,
        "hidden_size": config.width, "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size, "intermediate_size": config.hidden, "rope_theta": config.rope_theta,
        "rms_norm_eps": config.eps, "tie_word_embeddings": config.tied, "attention_bias": False, "use_sliding_window": False,
        "bos_token_id": tokenizer.specials["<|endoftext|>"], "eos_token_id": tokenizer.specials["<|end|>"],
        "pad_token_id": tokenizer.specials["<|endoftext|>"],
    }  # fmt: skip


def hf_weights(model: GPT) -> dict[str, Tensor]:
    """All weights under Qwen3's names."""
    c = model.config
    out = {
        "model.embed_tokens.weight": model.embed_table().detach(),
        "model.norm.weight": torch.full((c.width,), c.width**-0.5 if c.tied else 1.0),
    }
    if model.head is not None:
        out["lm_head.weight"] = model.head.detach()
    state = model.state_dict()
    for i in range(c.layers):
        prefix = f"model.layers.{i}."
        for ours, theirs in MATRICES.items():
            out[f"{prefix}{theirs}.weight"] = state[f"blocks.{i}.{ours}"]
        for name, size in (("input_layernorm", c.width), ("post_attention_layernorm", c.width),
                           ("self_attn.q_norm", c.head_size), ("self_attn.k_norm", c.head_size)):  # fmt: skip
            out[f"{prefix}{name}.weight"] = torch.full((size,), c.qk_gain if name.endswith("q_norm") else 1.0)
    return {name: t.cpu().contiguous() for name, t in out.items()}


def save_hf(model: GPT, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model and tokenizer into `folder`; every file is whole or absent, the config last."""
    write_atomic(folder / "model.safetensors", save(hf_weights(model), metadata={"format": "pt"}))
    tokenizer.save(folder)
    roles = [tokenizer.specials[f"<|{role}|>"] for role in ROLES]  # nobody but the engine speaks for another
    generation = {"eos_token_id": tokenizer.specials["<|end|>"], "do_sample": False, "suppress_tokens": roles}
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "config.json", hf_config(model.config, tokenizer))


def load_hf(folder: Path) -> tuple[GPT, Tokenizer]:
    """Read what `save_hf` wrote. Raises UserError for a missing, damaged or foreign folder."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"there is no model in {folder}; expected config.json and model.safetensors. Grow one with: sprout grow"
        )
    tokenizer = Tokenizer.load(folder)
    try:
        plain = read_json(folder / "config.json")
        weights = load((folder / "model.safetensors").read_bytes())
        config = GPTConfig(
            plain["vocab_size"], plain["max_position_embeddings"], plain["num_hidden_layers"], plain["hidden_size"],
            plain["num_attention_heads"], plain["num_key_value_heads"], plain["head_dim"], plain["intermediate_size"],
            plain["rope_theta"], plain["tie_word_embeddings"], float(weights["model.layers.0.self_attn.q_norm.weight"][0]),
            plain["rms_norm_eps"],
        )  # fmt: skip
        state = {
            f"blocks.{i}.{ours}": weights[f"model.layers.{i}.{theirs}.weight"]
            for i in range(config.layers)
            for ours, theirs in MATRICES.items()
        }
        state["embed"] = weights["model.embed_tokens.weight"]
        if not config.tied:
            state["head"] = weights["lm_head.weight"]
        model = GPT(config)
        model.load_state_dict(state)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"the model in {folder} is damaged or not one of ours: {error}") from error
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}; they don't belong together."
        )
    return model, tokenizer
