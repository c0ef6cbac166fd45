"""Under torchrun or alone: `sprout` in float32 whatever the CPU has, so that curves can be compared; the optimizer's state
saved by some processes and taken up by others; reinforcement whose rewards are sure to differ."""

import contextlib
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from sprout.cli import leave
from sprout.common import compute
from sprout.common import together as together_
from sprout.common.errors import UserError
from sprout.common.processes import gathered, interface_towards, on_first, place_of, shared, tensors_from_first, world
from sprout.common.together import Together


def state(folder: Path, begin: str, end: str) -> None:
    """Three steps from what `begin` holds, if it is there; all of it into `end`."""
    from sprout.model import GPT, GPTConfig
    from sprout.optim import OptimConfig, Optimizer

    model = GPT(GPTConfig(61, 16, 5, 24, 3, 1, 8, 40), seed=3)  # 5 matrices of a shape, odd numbers everywhere
    optimizer = Optimizer(model, OptimConfig())
    if (folder / begin).is_dir():
        model.load_state_dict(tensors_from_first(load_file(folder / begin / "model.safetensors")))
        optimizer.load_state_dict(load_file(folder / begin / "optimizer.safetensors"))
    for step in range(3):
        for i, p in enumerate(model.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1000 * optimizer.steps + i + step))
        optimizer.step(1.0)
    whole = optimizer.state_dict()
    if world()[0] == 0:
        (folder / end).mkdir()
        save_file(model.state_dict(), folder / end / "model.safetensors")
        save_file(whole, folder / end / "optimizer.safetensors")


def reinforce(folder: Path, name: str) -> None:
    """Two steps of practice, in which a reply is right when it has an even number of bytes."""
    from sprout.common.messages import Message
    from sprout.model import GPT, GPTConfig
    from sprout.optim import OptimConfig
    from sprout.rl import ReinforceConfig
    from sprout.rl import reinforce as practise
    from sprout.tokenizer import Tokenizer
    from sprout.world import Problem, Verdict

    tokenizer = Tokenizer.train(["the cat sat on the mat and ran away " * 9], 280)
    model = GPT(GPTConfig(tokenizer.vocab_size, 64, 1, 32, 2, 1, 16, 64), seed=1)
    problems = (Problem("odd", str(i), (Message("user", f"{i} cats"),), (Message("assistant", "mat"),), "mat") for i in range(99))

    def check(problem: Problem, reply: tuple[Message, ...]) -> Verdict:
        return Verdict(len(reply[-1].content.encode()) % 2 == 0, "")

    config = ReinforceConfig(2, 5, 8, 40, 1.0, 5, OptimConfig(matrix_lr=0.01, embed_lr=0.01, head_lr=0.01))
    log = practise(model, tokenizer, {}, problems, check, config, folder / f"checkpoints-{name}", lambda text: None)
    if world()[0] == 0:
        (folder / f"{name}.json").write_text(json.dumps(log))
        save_file(model.state_dict(), folder / f"{name}.safetensors")


def measured(folder: Path, name: str) -> None:
    """Bytes that left this host's interface in 20 steps of the optimizer, and those that the formula says."""
    from sprout.model import GPT
    from sprout.model.dial import dial
    from sprout.optim import OptimConfig, Optimizer
    from sprout.optim.scaling import bytes_sent

    place, shape = place_of(), dial(2, 1000, 64).shape
    counter = Path(f"/sys/class/net/{interface_towards(place.address, place.port)}/statistics/tx_bytes")
    model = GPT(shape)
    optimizer = Optimizer(model, OptimConfig())
    before = 0
    for step in range(21):
        if step == 1:  # the first one makes connections
            dist.barrier()
            before = int(counter.read_text())
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step(1.0)
    dist.barrier()
    found = {"measured": (int(counter.read_text()) - before) / 20, "formula": bytes_sent(shape, world()[1])}
    (folder / f"{name}{world()[0]}.json").write_text(json.dumps(found))


def words() -> None:
    """What the functions say, whoever calls them."""
    rank, size = world()
    assert shared(list(range(7)), lambda part: [x * x for x in part]) == [x * x for x in range(7)]
    assert shared([5], lambda part: [x + 1 for x in part]) == [6] and gathered(rank) == list(range(size))
    found = on_first(lambda: {"rank": world()[0]})
    assert found == {"rank": 0}

    def refuse() -> None:
        raise UserError("no")

    try:
        on_first(refuse)
    except UserError as error:
        assert str(error) == "no"
    else:
        raise AssertionError("everybody should hear of the first one's mistake")


class Slow:
    """A store whose answers take half a second."""

    def __init__(self, store: dist.Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        with contextlib.suppress(RuntimeError):  # in torch, as an answer that is late
            self.store.wait(["nothing"], timedelta(seconds=0.5))
        return getattr(self.store, name)


def slow() -> None:
    """Together for a moment, with a store that is being asked when that ends."""
    together_.BEAT = 0.0
    with Together(place_of(), lambda: "") as together:
        together.store = Slow(together.store)
        together.join("gloo")
        time.sleep(0.3)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "slow":
        slow()
        leave(0)
    if what == "sprout":
        compute._cpu_dtype = lambda: (torch.float32, "float32 activations: asked for")
        from sprout.cli import main

        main(rest)
    torch.set_num_threads(1)
    with Together(place_of(), lambda: "") as together:
        compute.apply(compute.decide("cpu", "off", 1, place=place_of()))
        together.join("gloo")
        for job in rest[1:]:
            kind, *names = job.split(":")
            {"state": state, "reinforce": reinforce, "measured": measured}[kind](Path(rest[0]), *names)
        words()
    leave(0)
