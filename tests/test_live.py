"""What a run tells while it runs, what is made of it, and the page beside it. Nothing of it may change what is trained."""

import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sprout import watch
from sprout.common.compute import Compute
from sprout.common.errors import Interrupted, UserError
from sprout.data import pack
from sprout.engine import Prompt
from sprout.journal import Journal
from sprout.model import GPT, GPTConfig
from sprout.optim import OptimConfig
from sprout.recipe.samples import Samples
from sprout.report.live import POINTS, STAGES, LiveRun, grow_state, thin
from sprout.train import LoopConfig, make_gradients, train
from sprout.watch import Page, check_port

TINY = ["--tokens", "20000", "--depth", "1", "--vocab-size", "800", "--context", "192", "--batch-tokens", "960", "--eval-problems", "1",
        "--rl-steps", "2", "--compile", "off", "--threads", "1", "--world.people", "10", "--world.strangers", "60"]  # fmt: skip
HOLD = """
import http.server, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.buffer.read()
"""  # stands in for `sprout serve`
GROW = f"""
import os, signal, sys
from pathlib import Path
from sprout import grow, journal, watch
from sprout.recipe import practice, samples, stages
from sprout.tokenizer import Tokenizer
samples.EVERY, samples.SHARE = 0.0, 1e9  # at every step
watch.serve_command = lambda run, port: [sys.executable, "-c", {HOLD!r}, str(port)]
choose = practice.where_tries_differ
practice.where_tries_differ = lambda s, engine: choose(s, engine, 1, 2)
feed = stages.feed
stages.feed = lambda s, stage, tokens, split="train": feed(s, stage, min(tokens, 5000), split)
grow.make_tokenizer = lambda *_: Tokenizer.load(Path(os.environ["TOKENIZER"]))
if os.environ.get("DIE"):
    tell = journal.Journal.step
    def step(self, stage, at, *more, **value):
        tell(self, stage, at, *more, **value)
        if [stage, str(at)] == os.environ["DIE"].split():
            with open(self.path, "ab") as file:
                file.write(b'{{"event": "step", "time": 17')
            os.kill(os.getpid(), signal.SIGKILL)
    journal.Journal.step = step
from sprout.cli import main
main(["grow", *sys.argv[1:]])
"""  # a run that is quick, sampled at every step, and may kill itself at some step


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def hold(port: int) -> list[str]:
    return [sys.executable, "-c", HOLD, str(port)]


def wait_for(what, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def sound(state: dict) -> dict:
    """The state as a server would send it, checked for what its reader relies on."""
    json.dumps(state, allow_nan=False, ensure_ascii=False).encode()
    assert set(state) == {"run", "state", "stage", "seconds_left", "tokens_per_s", "stages", "curves", "samples", "report"}
    assert state["state"] in ("growing", "done", "stopped") and state["stage"] in (None, *STAGES)
    assert [s["name"] for s in state["stages"]] == list(STAGES) == list(state["curves"])
    for s in state["stages"]:
        assert set(s) == {"name", "state", "step", "steps", "seconds", "score", "bpb"}
        assert s["state"] in ("done", "running", "evaluating", "waiting") and s["step"] >= 0 and s["seconds"] >= 0
    for name, curve in state["curves"].items():
        steps, values = curve["step"], curve["reward" if name == "reinforce" else "loss"]
        assert len(steps) == len(values) <= POINTS
    assert len(state["samples"]) <= 12 and all(set(x) == {"stage", "step", "prompt", "reply"} for x in state["samples"])
    assert state["seconds_left"] is None or state["seconds_left"] >= 0
    return state


# A run


@pytest.mark.slow
def test_a_watched_run_and_one_that_was_killed_and_went_on_give_the_same_bytes(tokenizer, tmp_path):
    """One with a page, the journal and samples at every step; one without page and samples, killed within a line of the
    journal after checkpoints at every step. Both tell what happened."""
    tokenizer.save(tmp_path / "tokenizer")
    env = {**os.environ, "SPROUT_SAVE_SECONDS": "0", "TOKENIZER": str(tmp_path / "tokenizer")}
    watched, killed = tmp_path / "watched", tmp_path / "killed"
    port = free_port()
    words = [sys.executable, "-c", GROW, "--run", str(watched), *TINY, "--serve", "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env | {"SPROUT_SAVE_SECONDS": "60"})
    other = subprocess.run([sys.executable, "-c", GROW, "--run", str(killed), *TINY], capture_output=True, env={**env, "DIE": "midtrain 6"})
    assert other.returncode == -signal.SIGKILL, other.stderr[-2000:]
    state = sound(grow_state(killed))
    assert state["state"] == "stopped" and state["stage"] is None
    assert [s["state"] for s in state["stages"]] == ["done", "waiting", "waiting", "waiting"]
    assert [(s["step"], s["steps"]) for s in state["stages"]] == [(2, 2), (6, 6), (0, 12), (0, 2)]
    assert state["stages"][0]["bpb"] > 0 and state["stages"][1]["bpb"] is None
    assert state["samples"][0]["stage"] == "pretrain"  # nobody watched, so these are those of its evaluation
    live = LiveRun(killed)
    live.state()

    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C ends it" in line:
            break
    assert f"the page is up: http://127.0.0.1:{port}\n" in said, said
    with pytest.raises(UserError, match="--port"):
        check_port(port)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    check_port(port)  # the page is gone

    done = subprocess.run([sys.executable, "-c", GROW, "--run", str(killed), *TINY], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "going on from step" in done.stdout, done.stderr[-2000:]
    for stage in STAGES:
        ours, theirs = ((run / "stages" / stage / "model.safetensors").read_bytes() for run in (watched, killed))
        assert ours == theirs, stage

    for state in (sound(grow_state(watched)), sound(live.state()), sound(grow_state(killed))):
        assert state["state"] == "done" and state["report"] and state["seconds_left"] is None
        assert [(s["state"], s["step"], s["steps"]) for s in state["stages"]] == [("done", n, n) for n in (2, 6, 12, 2)]
        assert all(s["score"] is not None and s["bpb"] > 0 and s["seconds"] > 0 for s in state["stages"])
        assert state["curves"]["midtrain"]["step"] == [6] and state["curves"]["reinforce"]["step"] == [1, 2]
    assert live.state() == grow_state(killed)
    shown = [x for x in map(json.loads, (watched / "live.jsonl").read_text().splitlines()) if x["event"] == "sample"]
    assert {x["stage"] for x in shown} == set(STAGES) and all(x["prompt"] for x in shown)
    assert [x["step"] for x in shown if x["stage"] == "midtrain"] == [n for n in (1, 2, 3, 4, 5, 6, 6) for _ in range(2)]
    events = [json.loads(x)["event"] for x in (killed / "live.jsonl").read_text().splitlines() if x.endswith("}")]
    assert events.count("started") == 2 and events[-1] == "grown" and "sample" not in events


def tiny_training(folder: Path, journal: Journal | None, sample) -> GPT:
    dice = random.Random(1)
    items = [([dice.randrange(4, 40) for _ in range(20)], None) for _ in range(60)]
    config = LoopConfig(12, 4, 2, 2, 6, 3, OptimConfig(), save_seconds=1e9, log_every=1)
    model = GPT(GPTConfig(700, 64, 1, 32, 2, 1, 16, 64), seed=3)
    compute = Compute("cpu", torch.float32, False, 1, ())
    train(model, make_gradients(model, compute), pack(items, 32, 0, 1), config, folder, "x", compute, lambda _: None, journal, sample and sample(model))
    return model


def test_training_is_the_same_whoever_watches_and_a_full_disk_stops_nothing(tmp_path):
    seen = []
    plain = tiny_training(tmp_path / "a", None, None)
    told = tiny_training(tmp_path / "b", Journal(tmp_path / "live.jsonl"), lambda model: seen.append)
    (tmp_path / "file").write_text("")
    said: list[str] = []
    deaf = tiny_training(tmp_path / "c", Journal(tmp_path / "file" / "live.jsonl", said.append), None)
    assert seen == list(range(1, 13)) and len(said) == 1 and "the run goes on" in said[0]
    for name, p in plain.state_dict().items():
        assert p.equal(told.state_dict()[name]) and p.equal(deaf.state_dict()[name])


@pytest.mark.parametrize("strict", [False, True])
def test_a_sample_leaves_everything_as_it_was(strict, tokenizer, tmp_path):
    """Also where torch is told to be deterministic, as it is in a run on the CPU."""
    model = GPT(GPTConfig(tokenizer.vocab_size, 64, 1, 32, 1, 1, 32, 48), seed=1)
    model.dtype = torch.bfloat16
    journal, said = Journal(tmp_path / "live.jsonl"), []
    session = SimpleNamespace(model=model, tokenizer=tokenizer, toolbox={}, journal=journal, say=said.append)
    samples = Samples.__new__(Samples)
    samples.s, samples.stage, samples.taken, samples.due, samples.fastest = session, "pretrain", 0, 0.0, 9.0  # type: ignore[assignment]
    samples.prompts = [Prompt(text="Once"), Prompt(text="In the"), Prompt(text="They")]
    from sprout.engine import Engine

    samples.engine = Engine(model, tokenizer, {}, max_batch=2)
    ids = torch.arange(8)[None]
    model.logits(model(ids)).float().logsumexp(-1).sum().backward()
    before = {n: (p.detach().clone(), None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()}
    luck = torch.get_rng_state()
    was = torch.get_deterministic_debug_mode()
    try:
        torch.set_deterministic_debug_mode("error" if strict else "default")
        samples.now_and_then(5)
        samples.now_and_then(6)  # too soon
        assert torch.are_deterministic_algorithms_enabled() == strict
    finally:
        torch.set_deterministic_debug_mode(was)
    assert model.dtype == torch.bfloat16 and torch.is_grad_enabled() and torch.get_rng_state().equal(luck)
    for name, p in model.named_parameters():
        weight, gradient = before[name]
        assert p.equal(weight) and (p.grad is None) == (gradient is None) and p.requires_grad and not p.is_inference()
        assert gradient is None or p.grad.equal(gradient)
    shown = [x for x in map(json.loads, journal.path.read_text().splitlines()) if x["event"] == "sample"]
    assert [(x["step"], x["prompt"]) for x in shown] == [(5, "Once"), (5, "In the")]
    samples.prompts = [Prompt(text="long " * 500)]
    samples.take(7)  # goes wrong
    samples.take(8)
    assert len(said) == 1 and "no more samples" in said[0]


# The journal and what is made of it


def tell(path: Path, *events: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for event in events:
            file.write(json.dumps({"time": time.time(), **event}) + "\n")


def started(**more) -> dict:
    me = psutil.Process()
    return {"event": "started", "pid": me.pid, "host": platform.node(), "born": me.create_time(), **more}


def planned(**steps) -> dict:
    return {"event": "planned", "plan": {**steps, "tokens_per_s": 1000.0}, "tokens_per_step": 1000, "evaluation_seconds": 10.0,
            "reinforce_step_seconds": 2.0}  # fmt: skip


def finish_stage(run: Path, stage: str, **more) -> None:
    folder = run / "stages" / stage
    folder.mkdir(parents=True, exist_ok=True)
    record = {"stage": stage, "steps": 100, "seconds": 50.0, "eval_seconds": 8.0, "val_bpb": 1.5, "curve": [{"step": 100, "loss": 2.0}],
              "skills": {"a": {"rate": 1.0}, "b": {"rate": 0.5}}, "samples": [{"prompt": "Hi", "reply": "Yes"}] * 3, **more}  # fmt: skip
    (folder / "stage.json").write_text(json.dumps(record))


def test_the_state_follows_a_run_from_call_to_call(tmp_path):
    live = LiveRun(tmp_path)
    assert sound(live.state())["state"] == "stopped"
    path = tmp_path / "live.jsonl"
    tell(path, started(), planned(pretrain=100, midtrain=100, finetune=200, reinforce=10))
    state = sound(live.state())
    assert state["state"] == "growing" and state["stage"] is None and [s["steps"] for s in state["stages"]] == [100, 100, 200, 10]
    # A step a second as measured, rows at 300k tokens a second, four evaluations, and reinforcement's own.
    assert state["seconds_left"] == pytest.approx(400 + 400 / 300 + 10 * 2 + 4 * 10 + 1.4 * 10, rel=0.01)
    tell(path, {"event": "stage", "stage": "pretrain", "steps": 100})
    assert live.state()["stage"] == "pretrain" and live.state()["stages"][0]["state"] == "running"
    line = {"event": "step", "stage": "pretrain", "steps": 100, "tokens_per_s": 500.0}
    tell(path, *({**line, "step": i, "loss": 9.0 - i / 50, "seconds": 30 + 2.0 * i} for i in range(10, 60, 10)))
    state = sound(live.state())
    assert state["tokens_per_s"] == 500.0 and state["curves"]["pretrain"]["step"] == [10, 20, 30, 40, 50]
    assert state["seconds_left"] == pytest.approx((50 + 300) * 2 + 300 / 300 + 20 + 40 + 14, rel=0.01)
    tell(path, {"event": "evaluating", "stage": "pretrain"})
    assert live.state()["stages"][0]["state"] == "evaluating"
    tell(path, {"event": "sample", "stage": "pretrain", "step": 50, "prompt": "Once \udc80", "reply": "upon"})
    finish_stage(tmp_path, "pretrain")
    tell(path, {"event": "done", "stage": "pretrain"})
    first = sound(live.state())["stages"][0]
    assert first["state"] == "done" and first["score"] == 0.75 and first["bpb"] == 1.5 and first["step"] == 100
    assert live.state()["samples"] == [{"stage": "pretrain", "step": 50, "prompt": "Once ?", "reply": "upon"}]
    finish_stage(tmp_path, "midtrain")
    assert [x["stage"] for x in live.state()["samples"]] == ["midtrain", "midtrain", "pretrain"]
    tell(path, {"event": "stopped", "reason": "Ctrl-C"})
    assert live.state()["state"] == "stopped" and live.state()["seconds_left"] is None
    assert live.state() == grow_state(tmp_path)
    path.unlink()
    tell(path, started())
    assert live.state() == grow_state(tmp_path) and live.state()["state"] == "growing"


def test_a_run_that_was_killed_counts_lost_steps_once(tmp_path):
    path, line = tmp_path / "live.jsonl", {"event": "step", "stage": "finetune", "steps": 100, "loss": 1.0}
    begin = {"event": "stage", "stage": "finetune", "steps": 100}
    tell(path, started(time=100.0), begin | {"time": 100.0}, *(line | {"step": i, "time": 100.0 + i} for i in range(10, 60, 10)))
    with path.open("a") as file:
        file.write('{"event": "st')
    assert grow_state(tmp_path)["curves"]["finetune"]["step"] == [10, 20, 30, 40, 50]
    journal = Journal(path)  # of the process that goes on; it begins a line of its own
    journal.stage("finetune", 100)
    journal.step("finetune", 40, 100, 1.0, 2.0, loss=0.5)
    state = grow_state(tmp_path)
    assert state["state"] == "growing" and state["curves"]["finetune"] == {"step": [10, 20, 30, 40], "loss": [1.0, 1.0, 1.0, 0.5]}
    assert 50 <= state["stages"][2]["seconds"] < 60


def test_a_stage_done_again_is_not_done_until_it_is(tmp_path):
    """After a change of the code; the stages behind it are done again too."""
    path = tmp_path / "live.jsonl"
    for stage in STAGES:
        finish_stage(tmp_path, stage)
    assert grow_state(tmp_path)["state"] == "done"
    begins = {"event": "stage", "stage": "midtrain", "steps": 7, "time": time.time() + 0.1}
    tell(path, started(), {"event": "done", "stage": "pretrain"}, begins)
    assert [s["state"] for s in grow_state(tmp_path)["stages"]] == ["done", "running", "waiting", "waiting"]
    assert grow_state(tmp_path)["stages"][1]["score"] is None


def test_who_is_gone_does_not_grow(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for i, (more, state) in enumerate([
        ({}, "growing"), ({"pid": gone.pid}, "stopped"), ({"born": 1.0}, "stopped"), ({"host": "elsewhere"}, "growing"),
        ({"host": "elsewhere", "time": time.time() - 3600}, "stopped"), ({"pid": 10**14}, "stopped"), ({"pid": -1}, "stopped"),
    ]):  # fmt: skip
        tell(tmp_path / str(i) / "live.jsonl", started(**more))
        assert grow_state(tmp_path / str(i))["state"] == state, more


def test_long_curves_are_thinned_and_keep_their_ends():
    assert thin([1, 2, 3]) == [1, 2, 3] and thin(list(range(POINTS))) == list(range(POINTS))
    for n in (401, 1000, 123_456):
        kept = thin(range(n))
        assert len(kept) == POINTS and kept[0] == 0 and kept[-1] == n - 1 and kept == sorted(set(kept))


def test_the_journal_stays_small_and_tells_at_most_once_a_second(tmp_path, monkeypatch):
    from sprout import journal as module

    journal = Journal(tmp_path / "live.jsonl")
    for step in range(1, 50):
        journal.step("pretrain", step, 100, 1.0, 1.0, loss=1.0)
    journal.step("pretrain", 100, 100, 1.0, 1.0, loss=1.0)  # the last always
    assert [json.loads(x)["step"] for x in journal.path.read_text().splitlines()[1:]] == [1, 100]
    monkeypatch.setattr(module, "STEP_SECONDS", -1.0)
    monkeypatch.setattr(module, "LARGEST", 20_000)
    journal = Journal(tmp_path / "live.jsonl", fresh=True)
    live = LiveRun(tmp_path)
    journal.stage("pretrain", 5000)
    for step in range(1, 5001):
        journal.step("pretrain", step, 5000, 1.0, 1.0, loss=step / 5000)
        if step % 50 == 0:
            journal.sample("pretrain", step, "p", "r" * 100)
            assert live.state()["stages"][0]["step"] == step
    assert journal.path.stat().st_size < 21_000 and list(tmp_path.iterdir()) == [journal.path]
    assert live.state() | {"curves": 0, "stages": 0} == grow_state(tmp_path) | {"curves": 0, "stages": 0}
    assert live.state()["samples"][0]["step"] == 5000 and live.state()["curves"]["pretrain"]["step"][-1] == 5000


def test_the_journal_tells_why_a_run_stopped(tmp_path):
    for error, reason in ((KeyboardInterrupt(), "Ctrl-C"), (Interrupted("saved at step 3"), "saved at step 3"), (ValueError(), "ValueError")):
        with pytest.raises(type(error)), Journal(tmp_path / "live.jsonl") as journal:
            journal.stage("pretrain", 3)
            raise error
        last = json.loads(journal.path.read_text().splitlines()[-1])
        assert last["event"] == "stopped" and last["reason"] == reason and grow_state(tmp_path)["state"] == "stopped"
    told = journal.path.read_bytes()
    with pytest.raises(UserError), Journal(tmp_path / "live.jsonl", fresh=True) as journal:
        journal.done("pretrain")
        raise UserError("refused; nothing was changed")
    assert journal.path.read_bytes() == told


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([10**400, -1, 1e308, "pretrain"]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(["step", "loss", "rate", "plan", "x", "reward"]), inside),
    max_leaves=8,
)
KEYS = ["stage", "step", "steps", "loss", "reward", "pid", "host", "born", "plan", "seconds", "tokens_per_s", "tokens_per_step",
        "evaluation_seconds", "reinforce_step_seconds", "prompt", "reply", "curve", "rl", "skills", "samples", "val_bpb", "eval_seconds",
        "data_seconds", "pretrain", "midtrain", "finetune", "reinforce"]  # fmt: skip
STAGE = {"stage": st.sampled_from(STAGES)}
EVENTS = st.builds(
    lambda facts, event, now, stage: {**facts, **event, **now, **stage},
    st.dictionaries(st.sampled_from(KEYS), ANYTHING),
    st.fixed_dictionaries({"event": st.sampled_from(["started", "planned", "stage", "step", "sample", "evaluating", "done", "grown", "stopped"])}),
    st.fixed_dictionaries({"time": st.floats(0, 4e9) | ANYTHING}),
    st.fixed_dictionaries(STAGE) | st.just({}),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    lines=st.lists(EVENTS | ANYTHING, max_size=8), raw=st.binary(max_size=60), alive=st.booleans(),
    record=st.dictionaries(st.sampled_from(KEYS), ANYTHING) | ANYTHING, plan=st.dictionaries(st.sampled_from(KEYS), ANYTHING) | ANYTHING,
    torn=st.integers(0, 40),
)  # fmt: skip
def test_nothing_in_the_files_upsets_the_state(tmp_path, lines, raw, alive, record, plan, torn):
    content = [json.dumps(x).encode() for x in ([started()] if alive else []) + lines]
    (tmp_path / "live.jsonl").write_bytes(b"\n".join([*content, raw]) + b"\n")
    for name, x in (("plan.json", plan), ("stages/pretrain/stage.json", record), ("stages/reinforce/stage.json", record)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(x).encode()
        (tmp_path / name).write_bytes(raw if torn == 40 else text[: len(text) - torn // 8] if torn % 2 else text)
    sound(grow_state(tmp_path))


def test_folders_and_deep_nonsense_in_the_place_of_files(tmp_path):
    for name in ("live.jsonl", "plan.json", "stages/midtrain/stage.json"):
        (tmp_path / "a" / name).mkdir(parents=True)
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_bytes(b'{"event":' + b"[" * 100_000 + b"\n" + b"9" * 10_000 + b"\n\xff\x00\n")
    sound(grow_state(tmp_path / "a"))
    sound(grow_state(tmp_path / "b"))
    sound(grow_state(tmp_path / "nowhere"))


# The page beside it


def test_the_page_comes_up_stays_and_ends_with_the_growing(tmp_path):
    port, said = free_port(), []
    with pytest.raises(Interrupted), Page(tmp_path, port, said.append, hold(port)) as page:
        assert wait_for(lambda: f"the page is up: http://127.0.0.1:{port}" in said)
        assert page.process is not None and page.process.poll() is None
        raise Interrupted("Ctrl-C")
    assert page.process.poll() == 0 and len(said) == 2, said
    page.stay()  # there is nothing to stay for
    check_port(port)


@pytest.mark.parametrize("code", ["import sys; sys.exit('no model there')", "raise SystemExit('no model there')"])
def test_a_page_that_fails_is_said_and_stops_nothing(code, tmp_path):
    said: list[str] = []
    with Page(tmp_path, free_port(), said.append, [sys.executable, "-c", code]):
        assert wait_for(lambda: len(said) == 2)
    assert "status 1 (no model there); the growing goes on" in said[1]
    with Page(tmp_path, free_port(), said.append, [str(tmp_path / "missing")]) as page:
        page.stay()
    assert "can't be started" in said[-1]


def test_a_page_that_never_answers_and_never_ends_is_said_and_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "COMES_UP", 0.5)
    monkeypatch.setattr(watch, "GOES", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    said: list[str] = []
    with Page(tmp_path, free_port(), said.append, [sys.executable, "-c", deaf]) as page:
        assert wait_for(lambda: len(said) == 2 and b"deaf" in page.log.read_bytes())
    assert "does not answer" in said[1] and page.process is not None and page.process.poll() == -signal.SIGKILL


@pytest.mark.slow
def test_no_page_is_left_when_the_growing_is_killed(tmp_path):
    port = free_port()
    parent = f"""
import sys, time
from pathlib import Path
from sprout.watch import Page
with Page(Path({str(tmp_path)!r}), {port}, print, [sys.executable, "-c", {HOLD!r}, "{port}"]) as page:
    print("pid", page.process.pid, flush=True)
    time.sleep(60)
"""
    growing = subprocess.Popen([sys.executable, "-u", "-c", parent], stdout=subprocess.PIPE, text=True)
    assert growing.stdout is not None
    lines = iter(growing.stdout.readline, "")
    pid = next(int(line.split()[1]) for line in lines if line.startswith("pid"))
    assert any("is up" in line for line in lines) and psutil.pid_exists(pid)
    growing.kill()
    growing.wait()
    assert wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_port_that_cant_be_had_is_refused_before_any_work():
    with pytest.raises(UserError, match="1 to 65535"):
        check_port(0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="can't be had"):
            check_port(taken.getsockname()[1])
