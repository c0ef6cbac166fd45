"""Several processes, on one host and on two: the numbers of one process; no process left behind; nothing lost."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sprout.common.compute import decide
from sprout.common.errors import UserError
from sprout.common.processes import Place, place_of, without_place

WORKER = str(Path(__file__).with_name("scale_worker.py"))
TINY = ["--tokens", "40000", "--depth", "1", "--vocab-size", "300", "--context", "64", "--batch-tokens", "640", "--compile", "off", "--threads", "1"]  # fmt: skip
GROUP = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500",
         "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_RUN_ID": "x"}  # fmt: skip


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def torchrun(*options: str) -> list[str]:
    """The beginning of a command; without a number of hosts, of processes that meet at a port that is free."""
    alone = [] if "--nnodes" in options else ["--master-port", str(free_port())]
    return [sys.executable, "-m", "torch.distributed.run", *alone, *options]


@contextmanager
def started(command: list[str], **env: str):
    """A process that does not outlive the block, nor do its children."""
    environ = {**without_place(), "OMP_NUM_THREADS": "1", **env}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
        process.communicate()


def said_by(process: subprocess.Popen, seconds: float) -> str:
    """What it printed, and that it did not fail. torchrun on the first host sometimes waits for the second's, which has gone, for
    300 s after all workers are done (its exit barrier, torch 2.13): whoever asks looks at what the workers left instead."""
    try:
        said = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired as late:
        said = late.output or ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
    assert process.returncode in (0, None), said[-3000:]
    return said


def ran(command: list[str], timeout: float = 250, status: int = 0, **env: str) -> str:
    """What the command prints; fails where it ends with another status."""
    with started(command, **env) as process:
        said, _ = process.communicate(timeout=timeout)
        assert process.returncode == status, said[-4000:]
    return said


def rank_of(agent: subprocess.Popen, rank: int) -> psutil.Process:
    """The process of that rank among those that torchrun started."""
    return next(c for c in psutil.Process(agent.pid).children(recursive=True) if c.environ().get("RANK") == str(rank))


def await_file(run: Path, pattern: str, process: subprocess.Popen, seconds: float = 150) -> Path:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if found := sorted(run.glob(pattern)):
            return found[-1]
        time.sleep(0.02)
    raise AssertionError(f"no {pattern}: {process.poll()}")


def stages(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())["stages"]


def assert_same_curves(run: Path, other: Path, within: float = 2e-4) -> None:
    ours, theirs = stages(run), stages(other)
    assert list(ours) == list(theirs)
    for name, stage in ours.items():
        curve, expected = stage["curve"], theirs[name]["curve"]
        assert [p["step"] for p in curve] == [p["step"] for p in expected]
        assert [p["loss"] for p in curve] == pytest.approx([p["loss"] for p in expected], abs=within)
        assert stage["val_bpb"] == pytest.approx(theirs[name]["val_bpb"], abs=within)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    dice, path = random.Random(0), tmp_path_factory.mktemp("text") / "text.txt"
    words = "the a cat dog sat ran on mat by river and then it was very happy with big small red green house".split()
    path.write_text("\n\n".join(" ".join(dice.choice(words) for _ in range(60)) for _ in range(400)))
    return path


@pytest.fixture(scope="module")
def one(tmp_path_factory, text) -> Path:
    """A run by one process, in float32."""
    run = tmp_path_factory.mktemp("one") / "run"
    ran([sys.executable, WORKER, "sprout", "grow", "--run", str(run), "--text", str(text), *TINY])
    return run


@pytest.fixture
def hosts():
    """Two hosts with a cable: for each what begins a command there; the first one's address; and the cable's end, to be
    pulled. Network namespaces; where the machine allows none, two processes and no cable."""
    names, ends = [f"sprout{os.getpid()}{x}" for x in "ab"], [f"sp{os.getpid()}{x}" for x in "ab"]

    def ip(*words: str) -> bool:
        return shutil.which("ip") is not None and subprocess.run(["ip", *words], capture_output=True).returncode == 0

    there = [name for name in names if ip("netns", "add", name)]
    try:
        cable = len(there) == 2 and ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        if not cable:
            yield [[], []], "127.0.0.1", None
            return
        for i, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            assert ip("link", "set", end, "netns", name) and ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", end)
            assert ip("-n", name, "link", "set", end, "up") and ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names], "10.77.0.1", (names[1], ends[1])
    finally:
        for name in there:
            ip("netns", "del", name)


def on_two(hosts, processes: int, *words: str) -> list[list[str]]:
    """The command on each host."""
    port = str(free_port())
    return [[*begin, *torchrun("--nnodes", "2", "--node-rank", str(i), "--master-addr", hosts[1], "--master-port", port, "--nproc-per-node", str(processes)), *words]
            for i, begin in enumerate(hosts[0])]  # fmt: skip


# ------------------------------------------------------------------------------------------------ who is who


def test_the_place_is_what_torchrun_says():
    assert place_of({}) == Place()
    assert place_of({"RANK": "0", "WORLD_SIZE": "1"}) == Place()  # as some clusters' pods have it
    assert place_of(GROUP) == Place(1, 4, 1, 2, 0, 2, "10.0.0.1", 29500)
    assert without_place({**GROUP, "HOME": "/"}) == {"HOME": "/"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"LOCAL_RANK": None}, "not LOCAL_RANK"),
        ({"MASTER_ADDR": ""}, "not MASTER_ADDR"),
        ({"RANK": "4"}, "RANK=4"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many"),
        ({"LOCAL_WORLD_SIZE": "9"}, "can't be"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0"),
        ({"MASTER_PORT": "٣"}, "MASTER_PORT"),
    ],
)
def test_a_wrong_environment_is_explained(changed, said):
    environ = {k: v for k, v in {**GROUP, **changed}.items() if v is not None}
    with pytest.raises(UserError, match="Start with: torchrun") as error:
        place_of(environ)
    assert said in str(error.value)


def test_what_is_decided_for_several_processes():
    alone, two = decide("cpu", "off"), decide("cpu", "off", place=Place(1, 4, 1, 2, 0, 2, "127.0.0.1", 29500))
    assert alone.backend == "" and two.backend == "gloo"
    assert two.threads == max(1, alone.threads // 2)
    assert any("4 processes on 2 hosts" in r and "Gloo" in r for r in two.reasons)
    assert any("cores for 2 processes" in r for r in two.reasons)
    assert two.interface == "" or two.interface in psutil.net_if_addrs()
    assert "".join(decide("cpu", "off", 3, place=Place(0, 2, 0, 2)).reasons).count("3 threads") == 1


def test_other_commands_are_not_for_several_processes():
    done = subprocess.run([sys.executable, "-m", "sprout", "chat"], capture_output=True, text=True, env={**os.environ, **GROUP}, timeout=60)
    assert done.returncode == 2 and "one process" in done.stderr


# ------------------------------------------------------------------------------------------------ the same numbers


@pytest.mark.slow
def test_state_and_practice_do_not_depend_on_the_number_of_processes(tmp_path):
    """Four processes save what one and three take up, odd sizes everywhere; three practise as one does."""
    folder = str(tmp_path)
    ran([sys.executable, WORKER, "work", folder, "state:none:one", "state:one:one-one", "reinforce:alone"])
    ran([*torchrun("--nproc-per-node", "4"), WORKER, "work", folder, "state:none:four", "state:one:one-four"])
    ran([*torchrun("--nproc-per-node", "3"), WORKER, "work", folder, "state:four:four-three", "reinforce:shared"])
    ran([sys.executable, WORKER, "work", folder, "state:four:four-one"])
    for got, expected in (("four", "one"), ("one-four", "one-one"), ("four-three", "one-one"), ("four-one", "one-one")):
        for file in ("model", "optimizer"):
            ours, theirs = (load_file(tmp_path / name / f"{file}.safetensors") for name in (got, expected))
            assert set(ours) == set(theirs)
            for name, tensor in theirs.items():
                assert ours[name].shape == tensor.shape and torch.allclose(ours[name], tensor, atol=1e-5), (got, name)
    ours, theirs = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("shared", "alone"))
    assert any(0 < entry["reward"] < 1 and entry["kl"] != 0 for entry in theirs)
    for entry, expected in zip(ours, theirs, strict=True):
        assert {k: v for k, v in entry.items() if k != "seconds"} == pytest.approx({k: v for k, v in expected.items() if k != "seconds"}, abs=1e-5)
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("shared", "alone"))
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, atol=1e-4), name


@pytest.mark.slow
def test_two_hosts_get_the_curves_of_one_process(hosts, one, text, tmp_path):
    """And only the first host's folder is written."""
    here, there = tmp_path / "here", tmp_path / "there"
    commands = on_two(hosts, 1, WORKER, "--", "sprout", "grow", "--text", str(text), *TINY, "--run")
    with started([*commands[0], str(here)]) as first, started([*commands[1], str(there)]) as second:
        said, other = said_by(first, 150), said_by(second, 60)
    assert_same_curves(here, one)
    assert not there.exists() and "grown in" in said and "grown" not in other and "evaluating" not in other
    assert "2 processes on 2 hosts exchange gradients: Gloo" in said
    machine = json.loads((here / "machine.json").read_text())
    assert machine["processes"] == machine["hosts"] == 2


@pytest.mark.slow
def test_bytes_on_the_cable_are_those_of_the_formula(hosts, tmp_path):
    """At most half as much again: Gloo's reduce-scatter is an all-reduce. At least as much, for nothing can be left out."""
    if hosts[2] is None:
        pytest.skip("this machine allows no network namespaces")
    commands = on_two(hosts, 1, WORKER, "work", str(tmp_path), "measured:bytes")
    with started(commands[0]) as first, started(commands[1]) as second:
        said_by(second, 100), said_by(first, 50)
    for rank in range(2):
        found = json.loads((tmp_path / f"bytes{rank}.json").read_text())
        assert 0.99 < found["measured"] / found["formula"] < 1.6


@pytest.mark.slow
def test_a_store_that_is_slow_at_the_end_aborts_nobody():
    """Python's end aborts a thread that comes back from torch while it goes on; torchrun then calls a good run failed."""
    ran([*torchrun("--nproc-per-node", "2"), WORKER, "slow"], timeout=100)


@pytest.mark.slow
def test_torchrun_grows_a_whole_model_of_the_world(tmp_path):
    """Skills, reinforcement and report included, by the command as people give it."""
    run = tmp_path / "run"
    tiny = ["--tokens", "8000", "--depth", "2", "--vocab-size", "400", "--context", "160", "--batch-tokens", "1600", "--eval-problems", "1",
            "--rl-steps", "1", "--compile", "off", "--threads", "1", "--world.people", "10", "--world.strangers", "60"]  # fmt: skip
    said = ran([*torchrun("--nproc-per-node", "2"), "-m", "sprout", "--", "grow", "--run", str(run), *tiny], timeout=250)
    assert said.count("grown in") == 1 and said.count("reinforce: practising") == 1
    report = stages(run)
    assert list(report) == ["pretrain", "midtrain", "finetune", "reinforce"]
    assert all(len(stage["skills"]) > 10 and stage["samples"] for stage in report.values()) and report["reinforce"]["rl"]
    events = [json.loads(line)["event"] for line in (run / "live.jsonl").read_text().splitlines()]
    assert events.count("started") == events.count("grown") == 1


# ------------------------------------------------------------------------------------------------ ends that are no ends


@pytest.mark.slow
def test_saved_by_four_taken_up_by_three_and_by_one(one, text, tmp_path):
    """Ctrl-C and the system's SIGTERM on the way; the curve is that of one process."""
    run = tmp_path / "run"
    words = [WORKER, "--", "sprout", "grow", "--run", str(run), "--text", str(text), *TINY]
    for processes, stage, number in ((4, "midtrain", signal.SIGINT), (3, "finetune", signal.SIGTERM)):
        with started([*torchrun("--nproc-per-node", str(processes)), *words], SPROUT_SAVE_SECONDS="0") as agent:
            await_file(run, f"checkpoints/{stage}-*/step_*", agent)
            agent.send_signal(number)
            said = agent.communicate(timeout=60)[0]
        assert agent.returncode and said.count(f"{stage}: saved at step") == 1, said[-3000:]
    said = ran([sys.executable, *(w for w in words if w != "--")])
    assert "finetune: going on from step" in said
    assert_same_curves(run, one)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_one_ends_all_and_the_same_command_goes_on(rank, one, text, tmp_path):
    run = tmp_path / "run"
    command = [*torchrun("--nproc-per-node", "2"), WORKER, "--", "sprout", "grow", "--run", str(run), "--text", str(text), *TINY]
    with started(command, SPROUT_SAVE_SECONDS="0") as agent:
        await_file(run, "checkpoints/midtrain-*/step_*", agent)
        victim, other = rank_of(agent, rank), rank_of(agent, 1 - rank)
        victim.kill()
        began = time.monotonic()
        said = agent.communicate(timeout=60)[0]
        took = time.monotonic() - began
    assert took < 60 and not other.is_running() and agent.returncode
    assert f"process {1 - rank} of 2 on" in said and "What was saved is intact (midtrain, step" in said, said[-3000:]
    assert "torchrun --nproc-per-node 2 -m sprout -- sprout grow" in said and "Traceback (most recent call last):\n  File \"" + WORKER not in said
    assert "midtrain: going on from step" in ran(command)
    assert_same_curves(run, one)


@pytest.mark.slow
@pytest.mark.parametrize("standalone", [[], ["--standalone"]], ids=["static", "c10d"])  # torchrun's two ways to meet
def test_torchrun_starts_them_again(standalone, one, text, tmp_path):
    """With --max-restarts nobody has to."""
    run = tmp_path / "run"
    command = [*torchrun("--nproc-per-node", "2", "--max-restarts", "1", *standalone), WORKER, "--", "sprout", "grow", "--run", str(run), "--text", str(text), *TINY]
    with started(command, SPROUT_SAVE_SECONDS="0") as agent:
        await_file(run, "checkpoints/midtrain-*/step_*", agent)
        rank_of(agent, 1).kill()
        said = agent.communicate(timeout=150)[0]
    assert agent.returncode == 0 and "midtrain: going on from step" in said, said[-3000:]
    assert_same_curves(run, one)


@pytest.mark.slow
def test_a_pulled_cable_ends_both_hosts(hosts, text, tmp_path):
    """Nothing comes through, not even the end of a connection; each host finds out by itself."""
    if hosts[2] is None:
        pytest.skip("this machine allows no network namespaces")
    run = tmp_path / "run"
    tiny = [*TINY, "--tokens", "4000000"]
    commands = on_two(hosts, 1, WORKER, "--", "sprout", "grow", "--run", str(run), "--text", str(text), *tiny)
    env = {"SPROUT_SAVE_SECONDS": "0", "SPROUT_SILENCE_SECONDS": "5"}
    with started(commands[0], **env) as first, started(commands[1], **env) as second:
        await_file(run, "checkpoints/pretrain-*/step_*", first)
        namespace, end = hosts[2]
        subprocess.run(["ip", "-n", namespace, "link", "set", end, "down"], check=True)
        began = time.monotonic()
        alive = [first, second]
        said = [p.communicate(timeout=60)[0] for p in alive]
        took = time.monotonic() - began
    assert took < 60 and first.returncode and second.returncode
    for i, words in enumerate(said):
        assert f"process {i} of 2 on" in words and "What was saved is intact (pretrain, step" in words, words[-3000:]
        assert "--nnodes 2" in words


@pytest.mark.slow
def test_hosts_with_different_options_are_refused(hosts, text, tmp_path):
    commands = on_two(hosts, 1, "-m", "sprout", "--", "grow", "--run", str(tmp_path / "run"), "--text", str(text), *TINY, "--seed")
    with started([*commands[0], "1"]) as first, started([*commands[1], "2"]) as second:
        said, other = first.communicate(timeout=150)[0], second.communicate(timeout=60)[0]
    assert first.returncode and second.returncode
    assert "process 1 has another seed (seed: 2 there, 1 here)" in said, said[-3000:]
    assert "another seed" in other and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_mistake_is_said_once(tmp_path):
    """That of the first process, which alone reads the files."""
    command = [*torchrun("--nproc-per-node", "2"), "-m", "sprout", "--", "grow", "--run", str(tmp_path / "run"), "--text", str(tmp_path / "none"), *TINY]
    said = ran(command, status=1)
    assert said.count("sprout: ") == 1 and str(tmp_path / "none") in said and said.count("Traceback") == 1  # torchrun's own
