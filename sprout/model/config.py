"""The shape of a GPT."""

from __future__ import annotations

from dataclasses import dataclass

from sprout.common.errors import UserError


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """Everything that decides the shape of the model; nothing about how it is trained.

    A decoder-only Transformer that the stock Qwen3 classes of Hugging Face can represent.
    """

    vocab_size: int
    context: int = 256
    layers: int = 4
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 32
    hidden: int = 384
    rope_theta: float = 10000.0
    tied: bool = False
    qk_gain: float = 3.0  # sharpens attention: normed q and k alone give scores of at most sqrt(D)
    eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "width", "heads", "kv_heads", "head_size", "hidden"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; a model needs at least 1. Choose a larger value.")
        if self.heads % self.kv_heads:
            raise UserError(
                f"{self.heads} heads can't share {self.kv_heads} key/value heads evenly; choose kv_heads that divides heads."
            )
        if not 0 < self.qk_gain < 100:
            raise UserError(f"qk_gain is {self.qk_gain}; expected a number above 0, about 3.")
        if self.head_size % 2:
            raise UserError(f"head_size is {self.head_size}; rotary embedding turns pairs, so it must be even.")
