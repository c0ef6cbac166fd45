"""The one place that decides device, dtype, compiler and threads, and says why."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from sprout.common.errors import UserError


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how the numbers are crunched. `reasons` has one line per decision."""

    device: str
    dtype: torch.dtype  # of the stream of activations while training; weights are always float32
    compile: bool
    threads: int
    reasons: tuple[str, ...]
    kernels: str = "torch"  # who computes gradients and updates: "c", our C core, or "torch"
    attention: str = "plain"  # of the torch path: written out, or PyTorch's "sdpa" or "flex"

    def say(self) -> str:
        return "\n".join(self.reasons)


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(device: str) -> int | None:
    """Bytes that are free for us on the device; None where the system does not say."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:  # not Linux
        return None
    with contextlib.suppress(OSError, ValueError):  # a container may have less; "max" where it has no limit
        free.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return min(free, default=None)


def _product_rate(dtype: torch.dtype) -> float:
    """Operations a second of a matrix product that fits the cache; the best of some tries, a few milliseconds in all."""
    n, best = 512, float("inf")
    x, y = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    for _ in range(7):
        began = time.perf_counter()
        torch.mm(x, y)
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def _cpu_dtype() -> tuple[torch.dtype, str]:
    """The faster of bfloat16 and float32 on this CPU. That it knows bfloat16 isn't enough: some multiply it at half of
    float32's rate (LOG.md)."""
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if not (capability and capability()):
        return torch.float32, "float32 activations: no native bfloat16 here"
    ratio = _product_rate(torch.bfloat16) / _product_rate(torch.float32)
    if ratio > 1.2:  # below that, converting costs more than it saves
        return torch.bfloat16, f"bfloat16 activations: this CPU multiplies them {ratio:.1f} times as fast as float32"
    return torch.float32, f"float32 activations: this CPU multiplies bfloat16 {ratio:.1f} times as fast"


def _built(name: str) -> bool:
    """Whether the set-up built this C extension (looked up by name, without loading it)."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _attention(device: str, compiled: bool) -> tuple[str, str]:
    """How the torch path computes attention on this device, and why. On CUDA none was run yet."""
    if device != "cuda":
        return "plain", "written out; on the CPU the compiler fuses mask and softmax" if device == "cpu" else "written out; SDPA isn't tried on MPS"
    if compiled:
        return "flex", "PyTorch's FlexAttention, which leaves out blocks of other documents"
    return "sdpa", "PyTorch's SDPA with a mask; FlexAttention wants torch.compile"


def decide(
    device: str = "auto", compile: str = "auto", threads: int = 0, kernels: str = "auto", attention: str = "auto"
) -> Compute:
    """Choose for this machine; each argument overrides a choice ('auto' or 0 leaves it to us)."""
    reasons = []
    usable = [d for d, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if there]
    usable.append("cpu")
    if device not in ("auto", *usable):
        raise UserError(f"device is {device!r}; expected auto or what is usable here: {', '.join(usable)}.")
    if device == "auto":
        device = usable[0]
        reasons.append(f"device {device}: " + ("no GPU is usable here" if device == "cpu" else "a GPU is there"))
    else:
        reasons.append(f"device {device}: asked for")
    threads = threads or usable_cores()
    torch.set_num_threads(threads)
    if device == "cpu":
        dtype, why = _cpu_dtype()
    elif device == "cuda":
        dtype, why = torch.bfloat16, "bfloat16 activations: the GPU multiplies them natively"
    else:
        dtype, why = torch.float32, "float32 activations: bfloat16 isn't tried on MPS"
    reasons.append(why)

    there = _built("sprout.train._native") and _built("sprout.optim._native")
    if kernels == "c" and (device != "cpu" or not there):
        raise UserError(
            f"kernels is 'c', but {'it computes on the CPU only' if device != 'cpu' else 'the C core was not built'}; "
            "a C compiler at set-up builds it (then: make setup). Leave the option away, or take torch."
        )
    if kernels == "auto":
        kernels = "c" if device == "cpu" and there else "torch"
        why = ("built at set-up, faster than torch and nothing to compile" if kernels == "c"
               else "the C core was not built, a C compiler at set-up does" if device == "cpu" else f"the C core isn't for {device}")  # fmt: skip
        reasons.append(f"training steps by {'the C core' if kernels == 'c' else 'torch'}: {why}")
    else:
        reasons.append(f"training steps by {'the C core' if kernels == 'c' else 'torch'}: asked for")

    if kernels == "c":
        use = False
    elif compile == "auto":
        compiler = next((c for c in ("g++", "clang++", "c++") if shutil.which(c)), None)
        use = device == "cuda" or (device == "cpu" and compiler is not None)
        why = (
            f"with {compiler}"
            if compiler
            else "on the GPU"
            if use
            else "not on MPS"
            if device == "mps"
            else "no C++ compiler found; about 2x slower"
        )
        reasons.append(f"torch.compile {'on' if use else 'off'}: {why}")
    else:
        use = compile == "on"
        reasons.append(f"torch.compile {compile}: asked for")
    if kernels == "torch":
        if attention == "flex" and not use:
            raise UserError("attention is 'flex', which is slow without torch.compile; take --compile on, or --attention sdpa.")
        if attention == "flex" and device == "cpu":
            raise UserError("attention is 'flex', which PyTorch does not differentiate on the CPU; take plain or sdpa.")
        how, why = _attention(device, use) if attention == "auto" else (attention, "asked for")
        reasons.append(f"attention by {how}: {why}")
    else:
        how = "plain"
    reasons.append(f"{threads} threads")
    return Compute(device, dtype, use, threads, tuple(reasons), kernels, how)


def apply(compute: Compute) -> None:
    """Set the process-wide switches. Call once, before the first tensor operation that matters."""
    torch.set_num_threads(compute.threads)
    torch.set_flush_denormal(True)
    # Ctrl-C while backward is compiled: torch would show where forward was, as if something had gone wrong.
    warnings.filterwarnings("ignore", message="Error detected in ")
    if compute.device == "cpu":
        # Compiled code adds up the embedding's gradient in whatever order threads come by; a run that goes on has to be
        # the same to the last bit.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
