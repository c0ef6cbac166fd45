"""The whole way on a tiny model, and that no kill loses work."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

TINY = ["--tokens", "60000", "--depth", "1", "--vocab-size", "700", "--context", "192", "--batch-tokens", "1920", "--eval-problems", "2",
        "--rl-steps", "2", "--compile", "off", "--threads", "1", "--world.people", "10", "--world.strangers", "60"]  # fmt: skip


def sprout(*words: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "sprout", *words], capture_output=True, text=True, timeout=250, **more)


def weights(run: Path) -> dict[str, bytes]:
    return {
        s: (run / "stages" / s / "model.safetensors").read_bytes()
        for s in ("pretrain", "midtrain", "finetune", "reinforce")
    }


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("grown") / "run"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = sprout("grow", "--run", str(run), *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (run.parent / "seconds").write_text(f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}")
    assert "sprout chat" in done.stdout
    return run


@pytest.mark.slow
def test_every_stage_leaves_what_it_should(grown):
    report = json.loads((grown / "report.json").read_text())
    assert list(report["stages"]) == ["pretrain", "midtrain", "finetune", "reinforce"] and not report["missing_stages"]
    for stage in report["stages"].values():
        assert len(stage["skills"]) == 16 and stage["val_bpb"] > 0 and stage["samples"]
    losses = [p["loss"] for s in ("pretrain", "midtrain") for p in report["stages"][s]["curve"]]
    assert losses[-1] < losses[0] or len(losses) < 3
    page = (grown / "report.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "").replace(
        "https://matplotlib", ""
    ).replace("http://purl.org", "").replace("http://creativecommons", "")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "midtrain", "finetune", "reinforce"])
def test_a_grown_model_loads_in_hugging_face(grown, stage):
    """Every stage's folder: the same ids of conversations, the same logits, the same greedy replies."""
    transformers = pytest.importorskip("transformers")
    import torch

    from sprout.common.messages import Message
    from sprout.engine import Engine, Prompt, Sampling, toolbox_for
    from sprout.model.hf import load_hf

    folder = grown / "stages" / stage
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    model, tokenizer = load_hf(folder)
    engine = Engine(model, tokenizer, toolbox_for(None))
    talks = [[Message("user", text)] for text in ("Hello!", "What is 12 + 30?", "Tell me a story. Ünï 😀\n<|end|>")]
    talks.append([Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "And?")])
    special = tokenizer.specials
    # The engine alone places headers, and without tools there is no call; a document's end is none of a reply's.
    never = [special[f"<|{x}|>"] for x in ("system", "user", "assistant", "tool", "call", "endoftext")]
    for talk in talks:
        ours = engine.generate([Prompt(tuple(talk))], Sampling(max_tokens=24))[0]
        plain = [m.to_dict() for m in talk]
        ids = tok.apply_chat_template(plain, add_generation_prompt=True, return_dict=False)
        if "<|" not in talk[0].content:  # Hugging Face takes control tokens in a message for real ones, we never do
            assert list(ids) == ours.prompt_ids
        x = torch.tensor([ours.prompt_ids])
        with torch.no_grad():
            assert (theirs(x).logits - model.logits(model(x))).abs().max() < 1e-4
        reply = theirs.generate(x, max_new_tokens=24, suppress_tokens=never)[0, x.shape[1] :].tolist()
        assert reply == ours.ids, (stage, tokenizer.decode(reply), ours.text)


@pytest.mark.slow
def test_novels_chats_and_gsm8k_from_end_to_end(data, tmp_path):
    """Parquet, ten forms of conversations, GSM8K as a skill: trained by reinforcement, evaluated, and in the report."""
    run = tmp_path / "run"
    real = ["--text", str(data / "text" / "eltec_eng"), "--chat", str(data / "chat"), "--tasks", str(data / "tasks")]
    tiny = [*TINY, "--tokens", "30000", "--vocab-size", "900", "--context", "256", "--batch-tokens", "2048"]
    done = sprout("grow", "--run", str(run), *tiny, *real)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((run / "report.json").read_text())
    assert list(report["stages"]) == ["pretrain", "midtrain", "finetune", "reinforce"]
    for stage in report["stages"].values():
        assert stage["val_bpb"] > 0 and stage["skills"]["gsm8k"]["n"] == 2
    last, first = report["stages"]["reinforce"], report["stages"]["pretrain"]
    assert last["rl_skills"] == ["gsm8k"] and len(last["rl"]) == 2 and last["rl_gains"]["gsm8k"]["after"]["sampled"]["n"] == 2
    assert first["dropped"]["while reading: tool_call_without_result"] > 2000
    page = (run / "report.md").read_text()
    assert "gsm8k" in page and "don't fit into 256 tokens and were left out" in page


@pytest.mark.slow
def test_a_finished_run_is_not_done_again_and_another_configuration_is_refused(grown):
    before = weights(grown)
    done = sprout("grow", "--run", str(grown), *TINY)
    assert done.returncode == 0 and done.stdout.count("done before") == 4
    assert weights(grown) == before
    other = sprout("grow", "--run", str(grown), *TINY, "--seed", "9")
    assert other.returncode == 2 and "another seed" in other.stderr and "Traceback" not in other.stderr
    assert weights(grown) == before


@pytest.mark.slow
def test_commands_work_on_a_grown_run(grown, tmp_path):
    answer = sprout("chat", "--model", str(grown), "-p", "Hello!", "--max-tokens", "5")
    assert answer.returncode == 0, answer.stderr
    piped = sprout("chat", "--model", str(grown), "--max-tokens", "5", input="Hello!\n")
    assert piped.returncode == 0, piped.stderr
    assert sprout("export", str(tmp_path / "out"), "--model", str(grown)).returncode == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    again = sprout("export", str(tmp_path / "out"), "--model", str(grown))
    assert again.returncode == 2 and "not empty" in again.stderr
    assert sprout("report", str(grown)).returncode == 0
    assert sprout("tokenizer", "Hello 123", "--run", str(grown), "--vocab-size", "700").returncode == 0
    measured = sprout("eval", str(grown), "--problems", "1")
    assert measured.returncode == 0, measured.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_moment_the_weights_are_the_same(grown, tmp_path):
    """SIGKILL at random moments of growing, and of finding that all is grown; the same command goes on each time and ends with
    the same bytes. A run that ends too soon for the kills it should have had is followed by another."""
    dice, whole, kills, runs = random.Random(0), float((grown.parent / "seconds").read_text()), 0, 0
    env = {**os.environ, "SPROUT_SAVE_SECONDS": "0.3"}
    while kills < 6:
        run, left = tmp_path / f"run{runs}", 2  # kills of a grown run
        command = [sys.executable, "-m", "sprout", "grow", "--run", str(run), *TINY]
        while left:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
            clock = psutil.Process(process.pid).cpu_times
            moment = dice.uniform(0.15, 0.55) * whole * (1 + kills / 20)  # later each time: it gets there however long it takes to start
            while process.poll() is None and sum(clock()[:2]) < moment:  # of its own time: the machine may be busy
                time.sleep(0.02)
            process.kill()
            assert process.wait() in (0, -signal.SIGKILL)
            if (run / "report.html").exists():
                left -= 1
            else:
                kills += 1
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert weights(run) == weights(grown)
        runs += 1


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "sprout", "grow", "--run", str(tmp_path / "run"), *TINY, "--tokens", "4000000"]
    journal = tmp_path / "run" / "live.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("the plan"):
            break
    while '"event": "step"' not in (journal.read_text() if journal.exists() else ""):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command" in errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["1 threads", "the plan", "pretrain: evaluating", "reinforce: practising"])
def test_ctrl_c_in_any_phase_ends_with_a_sentence(moment, tmp_path):
    """While the world and the tokenizer are made, in the first step, while evaluating, before reinforcement."""
    command = [sys.executable, "-m", "sprout", "grow", "--run", str(tmp_path / "run"), *TINY, "--tokens", "20000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert any(line.startswith(moment) for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command to go on" in errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_stops_with_a_sentence_and_with_more_room_it_goes_on(grown, tmp_path):
    """A disk too small for the tokenizer, then for a checkpoint, a stage, all stages: each time it stops with a sentence,
    what was written is whole, and once there is room the weights are those of a run that nothing stopped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    stopped_at = []
    try:
        for size in ("20k", "1m", "1800k", "5m", "60m"):
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            done = sprout("grow", "--run", str(disk / "run"), *TINY)
            assert "Traceback" not in done.stderr and not [*disk.rglob("*.tmp"), *disk.rglob(".tmp*")]
            if size != "60m":
                assert done.returncode == 2 and "No space left" in done.stderr, (size, done.stderr[-2000:])
                stopped_at.append(done.stderr.rpartition("sprout: ")[2].partition(":")[0])
        assert done.returncode == 0, done.stderr[-2000:]
        assert weights(disk / "run") == weights(grown)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert "tokenizer" in stopped_at[0] and "checkpoint" in stopped_at[1] and "stages" in stopped_at[2], stopped_at
