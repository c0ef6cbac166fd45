"""What more GPUs would give on paper: the formulas against cases worked out by hand, and the page against the formulas."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sprout.model import GPT, GPTConfig
from sprout.model.count import parameters
from sprout.model.dial import dial
from sprout.optim import scaling

SCALE = Path(__file__).parent.parent / "docs" / "scale"
PAGE = SCALE / "README.md"
SHAPE = GPTConfig(61, 16, 5, 24, 3, 1, 8, 40)


def test_the_page_has_the_functions_numbers():
    text = PAGE.read_text(encoding="utf-8")
    for depth in (12, 20):
        assert scaling.table(depth) in text


def test_every_parameter_is_exchanged_once():
    assert sum(t.length * t.width for t in scaling.tensors(SHAPE)) == parameters(SHAPE)
    assert sum(p.numel() for p in GPT(SHAPE).parameters()) == parameters(SHAPE)


def test_bytes_by_hand():
    """One process sends nothing, two send half of gradients and weights, and padding counts."""
    assert scaling.bytes_sent(SHAPE, 1) == 0
    assert scaling.bytes_sent(SHAPE, 2, padding=False) == 4 * parameters(SHAPE)
    shapes = {(24, 24): 10, (8, 24): 10, (40, 24): 10, (24, 40): 5}  # q and o, k and v, gate and up, down
    table = 61 * 24  # divides by 2 and by 8
    for n in (2, 8):
        numbers = 2 * table + sum(-(-count // n) * n * r * c for (r, c), count in shapes.items())
        assert scaling.bytes_sent(SHAPE, n) == round(8 * numbers * (n - 1) / n)


def test_ring_times_by_hand():
    assert scaling.ring_seconds(1e9, 1, 1, 12) == 0
    assert scaling.ring_seconds(0.9e9, 8, 1, 2) == pytest.approx(0.9e9 / 450e9 + 2 * 7 * 3.4e-6)
    assert scaling.ring_seconds(1e9, 16, 2, 1) == pytest.approx(1e9 / 50e9 + 14 * 3.4e-6 + 9.6e-6)


def test_one_gpu_is_the_measure_and_no_row_is_cut():
    one, many = scaling.on_paper(12, 1), scaling.on_paper(12, 64)
    assert one.gain == one.data == 1 and one.exchange == one.sent == 0
    own = dial(12, scaling.VOCAB, scaling.CONTEXT)
    assert own.batch_tokens // scaling.CONTEXT == 32 and many.compute == pytest.approx(one.compute / 32)


def test_what_the_page_says_in_words():
    """Each sentence that has a number or a direction of its own."""
    for depth in (12, 20):
        assert scaling.on_paper(depth, 8).gain > scaling.on_paper(depth, 64).gain
        assert scaling.on_paper(depth, 8).exchange < 0.13 * scaling.on_paper(depth, 8).seconds
        best = scaling.best_batch(depth, 64, hybrid=True)
        assert scaling.on_paper(depth, 64, best, hybrid=True).gain > 2 * scaling.on_paper(depth, 8).gain
    row_each = scaling.on_paper(12, 1024, 1024 * 2048)
    assert row_each.batch == 32 * scaling.on_paper(12, 1).batch and row_each.data == 16.5
    hops = 12 * (896 * scaling.NVLINK_HOP + 127 * scaling.NETWORK_HOP)
    assert hops == pytest.approx(0.05, abs=0.003) and hops > 10 * row_each.compute


# ------------------------------------------------------------------------------------------------ recipes


def test_the_recipes_are_what_their_tools_read():
    """Bash's own check; ShellCheck's and SkyPilot's where they are installed."""
    task = yaml.safe_load((SCALE / "skypilot.yaml").read_text())
    scripts = [(SCALE / "slurm.sh").read_text(), "#!/bin/bash\n" + task["run"], "#!/bin/bash\n" + task["setup"]]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=20)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", "-"], input=script, text=True, check=True, timeout=60)
    assert all("-m sprout -- grow" in script for script in scripts[:2])
    assert task["num_nodes"] > 1 and task["resources"]["job_recovery"] and task["envs"]["OPTIONS"].split()[1].startswith(next(iter(task["file_mounts"])))
    schemas = pytest.importorskip("sky.utils.schemas", reason="SkyPilot is not installed")
    pytest.importorskip("jsonschema").validate(task, schemas.get_task_schema())


def test_slurm_tries_again_after_an_accident_and_not_after_a_mistake(tmp_path):
    """The script itself, with srun, scontrol and torchrun that only tell what they were given."""
    tools = {
        "scontrol": 'printf "%s\\n" first second',
        "srun": 'shift; SLURM_NODEID=1 exec "$@"',
        "torchrun": 'printf "[%s]" "$@" >>"$LOG"; echo >>"$LOG"; [ "$(wc -l <"$LOG")" -ge "$GOOD" ]',
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def run(good: int, at_once: int) -> tuple[int, list[str]]:
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "GOOD": str(good), "SPROUT_AT_ONCE": str(at_once),
               "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8"}  # fmt: skip
        done = subprocess.run(["bash", str(SCALE / "slurm.sh"), "--run", "a b", "--depth", "12"], env=env, timeout=60)
        return done.returncode, log.read_text().splitlines()

    status, calls = run(3, 0)
    assert status == 0 and len(calls) == 3
    assert all("[--nnodes][2][--node-rank][1][--master-addr][first]" in c and c.endswith("[--nproc-per-node][8][-m][sprout][--][grow][--run][a b][--depth][12]") for c in calls)
    assert len({c.split("[--master-port]")[1].split("]")[0] for c in calls}) == 3
    assert run(99, 0)[0] == 1 and len(run(99, 0)[1]) == 6
    assert run(99, 60) == (1, calls[:1])
