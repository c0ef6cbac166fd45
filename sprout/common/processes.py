"""Several processes that grow one model: who is who, and what they tell each other besides gradients.

`torchrun` starts the processes and writes into the environment of each which one it is. Rank 0, the first, alone reads and
writes files, prints, and keeps the clock; what it finds it tells the others. Work that falls into pieces (problems to
answer, rows to measure) is shared out by `shared`. With one process every function returns its argument, untouched.

A function that all processes must call is a collective: where one of them is gone, it raises `Lost` on the others.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sprout.common.errors import Lost, UserError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """Which process this is, of how many: in all, and on this host. `address` and `port` are where all of them meet."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: int = 0
    hosts: int = 1
    address: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.size}"


NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
OTHERS = ("MASTER_ADDR", "GROUP_RANK", "GROUP_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE")


def place_of(environ: Mapping[str, str] = os.environ) -> Place:
    """The place that torchrun wrote into the environment; one process alone where it wrote none. Raises UserError where
    the environment says only half of it, or what can't be."""
    alone = environ.get("RANK", "0") == "0" and environ.get("WORLD_SIZE", "1") == "1"
    if alone and not ("LOCAL_RANK" in environ and "MASTER_ADDR" in environ):
        return Place()
    start = "Start with: torchrun --nproc-per-node N -m sprout ...; or, for one process, unset RANK and WORLD_SIZE."
    if missing := [name for name in (*NUMBERS, "MASTER_ADDR") if not environ.get(name)]:
        raise UserError(f"the environment says that this is one of several processes, but not {', '.join(missing)}. {start}")
    found = {name: environ[name] for name in NUMBERS}
    if wrong := [f"{name}={value}" for name, value in found.items() if not (value.isascii() and value.isdigit())]:
        raise UserError(f"the environment has {', '.join(wrong)}; expected whole numbers from 0. {start}")
    rank, size, local_rank, local_size, port = (int(value) for value in found.values())
    if not (rank < size and local_rank < local_size <= size and 0 < port < 65536):
        raise UserError(f"the environment has {', '.join(f'{k}={v}' for k, v in found.items())}, which can't be. {start}")
    host, hosts = (int(environ.get(name, "") or other) for name, other in (("GROUP_RANK", 0), ("GROUP_WORLD_SIZE", 1)))
    return Place(rank, size, local_rank, local_size, host, hosts, environ["MASTER_ADDR"], port)


def without_place(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a child that is none of the processes."""
    return {name: value for name, value in environ.items() if name not in (*NUMBERS, *OTHERS)}


def interface_towards(address: str, port: int) -> str:
    """The name of the network interface by which this host reaches the address; '' where that can't be told. Gloo would
    take the one that the host's own name stands for, which on many systems is the loopback."""
    with contextlib.suppress(OSError):
        family, kind, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)  # sends nothing
            mine = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if mine in {a.address.partition("%")[0] for a in addresses}:
                return str(name)
    return ""


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) outside `torchrun`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def is_first() -> bool:
    return world()[0] == 0


@contextlib.contextmanager
def in_touch() -> Iterator[None]:
    """Around a collective: raises Lost for what torch raises when a process can't be reached."""
    try:
        yield
    except RuntimeError as error:
        said = re.sub(r"^\[[^\]]*\.(cc|cpp|h):\d+\] ", "", str(error).strip().splitlines()[0]).partition(". This is typically")[0]
        raise Lost(f"the connection to another process broke ({said[:300]})") from error


def add_up(x: Tensor) -> Tensor:
    """x becomes, in place, the sum of everybody's x."""
    if world()[1] > 1:
        with in_touch():
            dist.all_reduce(x)
    return x


def from_first(value: T) -> T:
    """The first process's value; what the others pass does not matter."""
    if world()[1] == 1:
        return value
    box = [value]
    with in_touch():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def on_first(work: Callable[[], T]) -> T:
    """What `work` returns on the first process, on all of them; the others don't do it. A UserError that it raises is
    raised on all."""
    rank, size = world()
    if size == 1:
        return work()
    result: Any = None
    failure: str | None = None
    if rank == 0:
        try:
            result = work()
        except UserError as error:
            from_first((str(error), None))
            raise
    failure, result = from_first((failure, result))
    if failure is not None:
        raise UserError(failure)
    return result


def gathered(value: T) -> list[T]:
    """Everybody's value, by rank."""
    size = world()[1]
    if size == 1:
        return [value]
    box: list[Any] = [None] * size
    with in_touch():
        dist.all_gather_object(box, value)
    return box


def shared(items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
    """What `work` makes of the items, one result for each, in their order: every process works on each `size`-th item
    and all get all results."""
    rank, size = world()
    if size == 1:
        return list(work(items))
    results: list[Any] = [None] * len(items)
    for r, part in enumerate(gathered(list(work(items[rank::size])))):
        results[r::size] = part
    return results


def tensors_from_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first process's tensors, on the CPU for the others; theirs may be empty."""
    if world()[1] == 1:
        return tensors
    kinds = from_first({name: (tuple(t.shape), t.dtype) for name, t in tensors.items()})
    got = {}
    for name, (shape, dtype) in kinds.items():
        got[name] = tensors[name].cpu().contiguous() if is_first() else torch.empty(shape, dtype=dtype)
        with in_touch():
            dist.broadcast(got[name], src=0)
    return got


def weights_from_first(model: nn.Module) -> None:
    """Everybody's model becomes the first process's."""
    if world()[1] > 1:
        model.load_state_dict(tensors_from_first(model.state_dict() if is_first() else {}))
