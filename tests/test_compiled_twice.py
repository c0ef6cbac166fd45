"""What torch.compile made is there for the next start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sprout.common.compute import decide

CODE = """
import json, torch
from torch._dynamo.utils import counters
from sprout.common.compute import Compute, apply
from sprout.data import Batch
from sprout.model import GPT, GPTConfig
from sprout.train import make_gradients
compute = Compute("cpu", torch.float32, True, 1, ())
apply(compute)
model = GPT(GPTConfig(50, 16, 1, 16, 1, 1, 16, 32))
ids = torch.arange(34).view(2, 17)
nats = make_gradients(model, compute)(Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(2, 16, dtype=torch.int32)), 0.1)
print(json.dumps([counters["aot_autograd"]["autograd_cache_hit"], float(nats.sum()), [float(p.grad.norm()) for p in model.parameters()]]))
"""


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    if not decide("cpu", kernels="torch").compile:
        pytest.skip("no C++ compiler")
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    found = [json.loads(subprocess.run([sys.executable, "-c", CODE], env=env, check=True, capture_output=True, text=True).stdout) for _ in range(2)]
    assert [hits for hits, *_ in found] == [0, 1]
    assert found[0][1:] == found[1][1:]
    assert torch.isfinite(torch.tensor(found[0][2])).all()
