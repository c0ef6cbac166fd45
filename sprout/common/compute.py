"""The one place that decides device, dtype, compiler and threads, and says why."""

from __future__ import annotations

import contextlib
import os
import shutil
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


def _cpu_has_bf16() -> bool:
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(capability and capability())


def decide(device: str = "auto", compile: str = "auto", threads: int = 0) -> Compute:
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
    if device == "cuda" or (device == "cpu" and _cpu_has_bf16()):
        dtype = torch.bfloat16
        reasons.append("bfloat16 activations: the hardware multiplies them natively")
    else:
        dtype = torch.float32
        reasons.append("float32 activations: no native bfloat16 here")
    if compile == "auto":
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
    threads = threads or usable_cores()
    reasons.append(f"{threads} threads")
    return Compute(device, dtype, use, threads, tuple(reasons))


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
