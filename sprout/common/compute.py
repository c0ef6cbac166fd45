"""The one place that decides device, dtype, compiler and threads, and says why."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sprout.common.errors import UserError
from sprout.common.processes import Place, gathered, interface_towards


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how the numbers are crunched. `reasons` has one line per decision."""

    device: str
    dtype: torch.dtype  # of the stream of activations while training; weights are always float32
    compile: bool
    threads: int
    reasons: tuple[str, ...]
    kernels: str = "torch"  # who computes gradients and updates: "c", our C core, or "torch"
    products: str = "float32"  # what the C core multiplies: "float32", or "int16", scaled and rounded
    backend: str = ""  # of torch.distributed, where there are several processes
    interface: str = ""  # of the network, where there are several hosts
    gpu: int = 0  # which of this host's, on cuda
    memory: int = 0  # that GPU's, bytes
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


def _times_as_fast() -> float:
    """How many times as fast this CPU multiplies bfloat16 matrices as float32 ones, in a few dozen milliseconds: on one core,
    in turns, the best of each, so that whatever else runs here has no say."""
    threads, n, best = torch.get_num_threads(), 256, {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    torch.set_num_threads(1)
    pairs = {dtype: (torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)) for dtype in best}
    for _ in range(40):
        for dtype, (x, y) in pairs.items():
            began = time.perf_counter()
            torch.mm(x, y)
            best[dtype] = min(best[dtype], time.perf_counter() - began)
    torch.set_num_threads(threads)
    return best[torch.float32] / best[torch.bfloat16]


def _cpu_dtype() -> tuple[torch.dtype, str]:
    """The faster of bfloat16 and float32 on this CPU. That it knows bfloat16 isn't enough: some multiply it at half of
    float32's rate (LOG.md)."""
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if not (capability and capability()):
        return torch.float32, "float32 activations: no native bfloat16 here"
    ratio = _times_as_fast()
    if ratio > 1.2:  # below that, converting costs more than it saves
        return torch.bfloat16, f"bfloat16 activations: this CPU multiplies them {ratio:.1f} times as fast as float32"
    return torch.float32, f"float32 activations: this CPU multiplies bfloat16 {ratio:.1f} times as fast"


def _built(name: str) -> bool:
    """Whether the set-up built this C extension (looked up by name, without loading it)."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _integers() -> bool:
    """Whether the C core has products of 16-bit integers here (it is loaded by its name, since it belongs to who comes later)."""
    return "int16" in importlib.import_module("sprout.optim._native").sets()


def _attention(device: str, compiled: bool) -> tuple[str, str]:
    """How the torch path computes attention on this device, and why; figures in LOG.md."""
    if device != "cuda":
        return "plain", "written out; on the CPU the compiler fuses mask and softmax" if device == "cpu" else "written out; SDPA isn't tried on MPS"
    if compiled:
        return "flex", "PyTorch's FlexAttention, which leaves out blocks of other documents"
    return "sdpa", "PyTorch's SDPA with a mask; FlexAttention wants torch.compile"


def decide(
    device: str = "auto", compile: str = "auto", threads: int = 0, kernels: str = "auto", attention: str = "auto",
    place: Place | None = None, products: str = "auto",
) -> Compute:
    """Choose for this machine; each argument overrides a choice ('auto' or 0 leaves it to us). `place` says which of
    several processes this is. Raises UserError for what isn't usable here."""
    reasons = []
    place = place or Place()
    mps = torch.backends.mps.is_available() and place.size == 1  # no way to exchange there
    usable = [d for d, there in (("cuda", torch.cuda.is_available()), ("mps", mps)) if there]
    usable.append("cpu")
    if device not in ("auto", *usable):
        raise UserError(f"device is {device!r}; expected auto or what is usable here: {', '.join(usable)}.")
    if device == "auto":
        device = usable[0]
        reasons.append(f"device {device}: " + ("no GPU is usable here" if device == "cpu" else "a GPU is there"))
    else:
        reasons.append(f"device {device}: asked for")
    backend = interface = ""
    if place.hosts > 1 and "GLOO_SOCKET_IFNAME" not in os.environ:
        interface = interface_towards(place.address, place.port)
        reasons.append(f"network interface {interface or 'left to Gloo'}: the way to {place.address}")
    if place.size > 1:
        backend, why = ("cpu:gloo,cuda:nccl", "NCCL between GPUs, Gloo for what is on the CPU") if device == "cuda" else ("gloo", "Gloo, no GPUs")  # fmt: skip
        reasons.append(f"{place.size} processes on {place.hosts} host{'s'[: place.hosts > 1]} exchange gradients: {why}")
    if device == "cuda" and place.local_size > torch.cuda.device_count():
        raise UserError(
            f"there are {place.local_size} processes on this host and {torch.cuda.device_count()} GPUs; expected at most one "
            "process for each GPU (torchrun --nproc-per-node), or --device cpu."
        )
    shared = f" each: {usable_cores()} cores for {place.local_size} processes" if place.local_size > 1 and not threads else ""
    threads = threads or max(1, usable_cores() // place.local_size)
    torch.set_num_threads(threads)
    there = _built("sprout.train._native") and _built("sprout.optim._native")
    if kernels == "c" and (device != "cpu" or not there):
        raise UserError(
            f"kernels is 'c', but {'it computes on the CPU only' if device != 'cpu' else 'the C core was not built'}; "
            "a C compiler at set-up builds it (then: make setup). Leave the option away, or take torch."
        )
    if kernels == "auto":
        mac = sys.platform == "darwin"  # Apple's library multiplies on a unit of its own, which plain C doesn't reach
        kernels = "c" if device == "cpu" and there and not mac else "torch"
        why = ("built at set-up, faster than torch and nothing to compile" if kernels == "c"
               else f"the C core isn't for {device}" if device != "cpu"
               else "Apple's products are faster (not measured)" if mac
               else "the C core was not built, a C compiler at set-up does")  # fmt: skip
        reasons.append(f"training steps by {'the C core' if kernels == 'c' else 'torch'}: {why}")
    else:
        reasons.append(f"training steps by {'the C core' if kernels == 'c' else 'torch'}: asked for")

    if kernels == "c":
        dtype, why = torch.float32, "float32 activations: the C core's"
    elif device == "cpu":
        dtype, why = _cpu_dtype()
    elif device == "cuda":
        dtype, why = torch.bfloat16, "bfloat16 activations: the GPU multiplies them natively"
    else:
        dtype, why = torch.float32, "float32 activations: bfloat16 isn't tried on MPS"
    reasons.append(why)
    if products == "int16" and not (kernels == "c" and _integers()):
        raise UserError("products is 'int16', which is for the C core on CPUs with AVX-512 VNNI; leave the option away, or take float32.")
    if kernels == "c" and products == "auto":
        products = "int16" if _integers() else "float32"
        reasons.append("products of integers of 16 bits: twice float32's rate on this CPU, and closer to float32 than bfloat16 is"
                       if products == "int16" else "products of float32: no AVX-512 VNNI here")  # fmt: skip
    elif kernels == "c":
        reasons.append(f"products of {products}: asked for")

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
    if use and device == "cpu" and dtype == torch.bfloat16:
        dtype = torch.float32
        reasons.append("float32 after all: compiled bfloat16 gave wrong gradients on a CPU (LOG.md)")
    if kernels == "torch":
        if attention == "flex" and not use:
            raise UserError("attention is 'flex', which is slow without torch.compile; take --compile on, or --attention sdpa.")
        if attention == "flex" and device == "cpu":
            raise UserError("attention is 'flex', which PyTorch does not differentiate on the CPU; take plain or sdpa.")
        how, why = _attention(device, use) if attention == "auto" else (attention, "asked for")
        reasons.append(f"attention by {how}: {why}")
    else:
        how = "plain"
    reasons.append(f"{threads} threads{shared}")
    memory = torch.cuda.get_device_properties(place.local_rank).total_memory if device == "cuda" else 0
    products = products if kernels == "c" else "float32"
    return Compute(device, dtype, use, threads, tuple(reasons), kernels, products, backend, interface, place.local_rank, memory, how)


def agree(compute: Compute) -> Compute:
    """What all processes can do alike; a collective. Raises UserError where one has a GPU and another has none."""
    everybody = gathered((compute.device, compute.dtype, compute.products))
    if devices := sorted({device for device, _, _ in everybody} - {compute.device}):
        raise UserError(f"some processes would compute on {compute.device} and others on {', '.join(devices)}; give --device.")
    if compute.dtype != torch.float32 and torch.float32 in {dtype for _, dtype, _ in everybody}:
        reason = "float32 activations: not all processes found bfloat16 faster"
        compute = replace(compute, dtype=torch.float32, reasons=(*compute.reasons, reason))
    if compute.products != "float32" and "float32" in {products for _, _, products in everybody}:
        reason = "products of float32: not all processes have AVX-512 VNNI"
        compute = replace(compute, products="float32", reasons=(*compute.reasons, reason))
    return compute


def apply(compute: Compute) -> None:
    """Set the process-wide switches. Call once, before the first tensor operation that matters."""
    torch.set_num_threads(compute.threads)
    if compute.interface:
        os.environ["GLOO_SOCKET_IFNAME"] = compute.interface
    if compute.device == "cuda":
        torch.cuda.set_device(compute.gpu)  # "cuda" means this one from here on
    torch.set_flush_denormal(True)
    # Ctrl-C while backward is compiled: torch would show where forward was, as if something had gone wrong.
    warnings.filterwarnings("ignore", message="Error detected in ")
    if compute.compile:
        import torch._functorch.config as compiling  # not at the top: it takes a while, and nobody else needs it

        # What was compiled is kept for the next start, but nothing that has a way back of its own (`loss.py`), unless:
        if hasattr(compiling, "autograd_cache_allow_custom_autograd_functions"):
            compiling.autograd_cache_allow_custom_autograd_functions = True
    if compute.device == "cpu":
        # Compiled code adds up the embedding's gradient in whatever order threads come by; a run that goes on has to be
        # the same to the last bit. Where nothing is compiled, the same switch by its other name: the usual one loads the compiler,
        # which takes longer than torch itself.
        if compute.compile:
            torch.use_deterministic_algorithms(True)
        else:
            torch.set_deterministic_debug_mode("error")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
