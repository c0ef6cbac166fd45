"""One optimizer for the whole model: Muon for the blocks' matrices, AdamW for the rest, the gradient exchange inside
`step()`. There is no wrapper around the model: between backward and step each process has its own gradients; in
`step()` each receives the mean of its shard, updates it, and hands the new weights round (ZeRO-2, arXiv 1910.02054)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sprout.optim import native
from sprout.optim.adamw import adamw_update
from sprout.optim.exchange import all_gather, own_shard, reduce_scatter_mean
from sprout.optim.muon import muon_update


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """Peak learning rates per update and the rest of the optimizer's numbers."""

    matrix_lr: float = 0.02
    embed_lr: float = 0.3
    head_lr: float = 0.01
    weight_decay: float = 0.0  # on matrices only
    momentum: float = 0.95
    betas: tuple[float, float] = (0.8, 0.95)
    eps: float = 1e-10
    dtype: torch.dtype = torch.float32  # of Muon's products
    kernels: str = "torch"  # who computes: "c" or "torch"


@dataclass(slots=True)
class Group:
    """Parameters updated together: stacked matrices of one shape for Muon, a single tensor for AdamW."""

    name: str
    params: list[nn.Parameter]
    lr: float
    state: dict[str, Tensor]


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[Group]:
    """Every parameter of the model in exactly one group; raises ValueError for one that fits nowhere."""
    groups: list[Group] = []
    matrices: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if name == "embed":
            groups.append(Group("embed", [p], config.embed_lr, {}))
        elif name == "head":
            groups.append(Group("head", [p], config.head_lr, {}))
        elif p.ndim == 2:
            matrices.setdefault(tuple(p.shape), []).append(p)
        else:
            raise ValueError(f"parameter {name} {tuple(p.shape)} belongs to no group")
    for shape, params in sorted(matrices.items()):
        groups.append(Group(f"matrix {shape[0]}x{shape[1]}", params, config.matrix_lr, {}))
    return groups


class Optimizer:
    """`step(multiplier)` updates every parameter from its `.grad`, whose learning rate is the peak times multiplier."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.config = config
        self.groups = parameter_groups(model, config)
        self.steps = 0

    @torch.no_grad()
    def step(self, multiplier: float) -> None:
        """One update by the mean gradient over all processes; the gradients are dropped afterwards."""
        self.steps += 1
        for group in self.groups:
            if group.name.startswith("matrix"):
                self._step_matrices(group, group.lr * multiplier)
            else:
                self._step_tensor(group, group.lr * multiplier)
            for p in group.params:
                p.grad = None

    def _step_matrices(self, group: Group, lr: float) -> None:
        n, config = len(group.params), self.config
        g = reduce_scatter_mean(torch.stack([_gradient(p) for p in group.params]))  # (own, rows, columns)
        p = own_shard(torch.stack([p.data for p in group.params]))
        momentum = group.state.setdefault("momentum", torch.zeros_like(p))
        update = native.muon_update if config.kernels == "c" and native.does(p, g, momentum) else muon_update
        update(p, g, momentum, lr, config.momentum, config.weight_decay, config.dtype)
        torch._foreach_copy_([p.data for p in group.params], list(all_gather(p, n).unbind()))

    def _step_tensor(self, group: Group, lr: float) -> None:
        (param,), config = group.params, self.config
        g = reduce_scatter_mean(_gradient(param).view(-1))
        p = own_shard(param.data.view(-1))
        m = group.state.setdefault("m", torch.zeros_like(p))
        v = group.state.setdefault("v", torch.zeros_like(p))
        update = native.adamw_update if config.kernels == "c" and native.does(p, g, m, v) else adamw_update
        update(p, g, m, v, self.steps, lr, config.betas, config.eps, 0.0)
        whole = all_gather(p, param.numel())
        if whole.data_ptr() != param.data_ptr():
            param.data.view(-1).copy_(whole)

    def state_dict(self) -> dict[str, Tensor]:
        """All state as whole tensors, independent of the number of processes; every process must call it."""
        flat = {"steps": torch.tensor(self.steps)}
        for group in self.groups:
            n = len(group.params) if group.name.startswith("matrix") else group.params[0].numel()
            for key, shard in group.state.items():
                flat[f"{group.name}/{key}"] = all_gather(shard, n).contiguous()
        return flat

    def load_state_dict(self, flat: dict[str, Any]) -> None:
        """Take up state from `state_dict`, cut for this number of processes."""
        self.steps = int(flat["steps"])
        for group in self.groups:
            group.state = {
                key.split("/", 1)[1]: own_shard(whole).clone().to(group.params[0].device)
                for key, whole in flat.items()
                if key.startswith(group.name + "/")
            }


def _gradient(p: nn.Parameter) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad
