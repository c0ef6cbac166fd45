"""Input that can't work: a clear sentence before work begins, exit status 2, no traceback, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sprout.cli import main

SMALL = ["--depth", "1", "--vocab-size", "300", "--context", "64", "--batch-tokens", "256", "--tokens", "2000", "--eval-problems", "1",
         "--rl-steps", "1", "--compile", "off", "--threads", "1"]  # fmt: skip
TALK = '{"messages": [{"role": "user", "content": "Hi %d"}, {"role": "assistant", "content": "Ho %d"}]}'

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command in this process, assert that it ends with status 2, and give what it wrote to the standard error."""
    threads, fills = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory

    def run(*words: str | Path) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(w) for w in words])
        said = capsys.readouterr().err
        assert end.value.code == 2, said
        assert said.startswith("sprout: ") and "Traceback" not in said
        return said

    yield run
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = fills


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and conversations."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "a.txt").write_text("\n".join(f"Line {i} is about the number {i * i}." for i in range(900)))
    (folder / "c.jsonl").write_text("\n".join(TALK % (i, i) for i in range(60)))
    return folder


@pytest.fixture(scope="module")
def grown(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on that text and those conversations."""
    run = tmp_path_factory.mktemp("runs") / "grown"
    words = [sys.executable, "-m", "sprout", "grow", *SMALL, "--run", run, "--text", text / "a.txt", "--chat", text / "c.jsonl"]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return run


def everything(run: Path) -> dict[str, bytes]:
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depth", "0"], "depth is 0; expected 1 to 64"),
        (["--depth", "65"], "depth is 65"),
        (["--vocab-size", "100"], "vocab_size is 100; expected at least 263"),
        (["--vocab-size", "1000000000"], "GB are free. Take a smaller --depth, --context or --vocab-size"),
        (["--depth", "64", "--context", "4096", "--batch-tokens", "131072"], "GB are free. Take a smaller --depth"),
        (["--context", "8"], "context is 8; expected at least 32"),
        (["--batch-tokens", "63"], "less than one row of 64 tokens"),
        (["--minutes", "-1"], "minutes is -1"),
        (["--minutes", "nan"], "minutes is nan"),
        (["--tokens", "-5"], "tokens is -5; expected at least 0"),
        (["--eval-problems", "0"], "eval_problems is 0; expected at least 1"),
        (["--threads", "-1"], "threads is -1"),
        (["--compile", "maybe"], "expected on, off or auto"),
        (["--device", "gpu"], "device is 'gpu'; expected auto or what is usable here"),
        (["--world.people", "1"], "at least 8 people"),
        (["--text", "nowhere.txt"], "there is no file or folder nowhere.txt"),
        (["--text", "a" * 300], "File name too long"),
        (["--chat", "nowhere.jsonl"], "there is no file or folder nowhere.jsonl"),
        (["--tasks", "nowhere"], "there is no folder nowhere/gsm8k"),
    ],
)
def test_what_can_not_work_is_refused_and_nothing_is_written(options, message, refused, tmp_path):
    run = tmp_path / "run"
    assert message in refused("grow", *SMALL, "--run", run, *options)
    assert not run.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", b"", "is empty"),
        ("c.jsonl", b"\x89PNG\r\n\x1a\n\0\0", "binary"),
        ("c.jsonl", b"{torn", "no conversation could be read from"),
        ("c.jsonl", b'{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}', "'not_alternating': 1"),
        ("c.json", b"{torn", "is not JSON"),
        ("c.json", b'{"a": 1}', "expected a list"),
        ("c.json", b"\xff[]", "line 1: byte 0xff is not UTF-8"),
        ("c.jsonl", (TALK.replace("Hi", "Hi " + "so long " * 100) % (1, 1)).encode(), "the first exchange of each is longer than 64 tokens"),
    ],
)  # fmt: skip
def test_conversations_that_can_not_be_used(name, content, message, refused, tmp_path):
    (tmp_path / name).write_bytes(content)
    run = tmp_path / "run"
    assert message in refused("grow", *SMALL, "--run", run, "--chat", tmp_path / name)
    assert not (run / "plan.json").exists() and not (run / "stages").exists()


def test_a_context_too_short_for_the_world(refused, tmp_path):
    assert "no problem of the world fits into 32 tokens" in refused("grow", *SMALL, "--context", "32", "--run", tmp_path)
    assert not (tmp_path / "stages").exists()


def test_strict_stops_at_the_line_that_otherwise_is_skipped_and_said(text, refused, tmp_path, capsys):
    (tmp_path / "c.jsonl").write_text((text / "c.jsonl").read_text() + "\n{torn")
    said = refused("grow", *SMALL, "--run", tmp_path / "run", "--chat", tmp_path / "c.jsonl", "--strict")
    assert "c.jsonl line 61: malformed JSON; expected one JSON value a line, got '{torn'" in said
    with pytest.raises(SystemExit) as end:  # without: it goes on to the next mistake
        main(["grow", *SMALL, "--run", str(tmp_path / "run"), "--chat", str(tmp_path / "c.jsonl"), "--text", "nowhere.txt"])
    assert end.value.code == 2


def test_a_run_must_be_a_folder_that_can_be_written(refused, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "file is a file; expected a folder" in refused("grow", *SMALL, "--run", tmp_path / "file")
    assert "file is a file; expected a folder" in refused("grow", *SMALL, "--run", tmp_path / "file" / "run")
    assert "file is a file; expected a folder" in refused("tokenizer", "--run", tmp_path / "file")
    if Path("/proc/sys").is_dir():
        assert "nothing can be written into" in refused("grow", *SMALL, "--run", "/proc/sys/run")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.slow
def test_a_data_set_of_the_hub_without_a_network(tmp_path):
    """In a process of its own: the library reads the switch for working offline when it is imported."""
    words = ["grow", *SMALL, "--run", str(tmp_path / "run"), "--text", "nobody-at-all/no-such-data-set-v1.5"]
    done = subprocess.run([sys.executable, "-m", "sprout", *words], capture_output=True, text=True, timeout=250,
                          env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "If you are offline, download its files elsewhere and give their folder to --text" in done.stderr


# ---------------------------------------------------------------- a run that is there


def again(grown: Path, text: Path) -> list[str | Path]:
    return ["grow", *SMALL, "--run", grown, "--text", text / "a.txt", "--chat", text / "c.jsonl"]


@pytest.mark.slow
def test_another_configuration_or_other_content_is_refused_and_nothing_is_lost(grown, text, refused):
    before = everything(grown)
    assert "was grown with another seed" in refused(*again(grown, text), "--seed", "9")
    assert "was grown with another depth" in refused(*again(grown, text), "--depth", "2")
    assert not {"products", "threads"} & set(json.loads((grown / "grow.json").read_text()))  # those may change, as machines do
    old = (text / "a.txt").read_text()
    (text / "a.txt").write_text(old + "One line more.")
    try:
        assert "their content has changed" in refused(*again(grown, text))
    finally:
        (text / "a.txt").write_text(old)
    assert everything(grown) == before


@pytest.mark.slow
def test_another_tokenizer_is_refused_and_nothing_is_lost(grown, text, refused, tokenizer):
    before = everything(grown)
    for folder in (grown / "tokenizer", grown / "stages" / "pretrain"):
        kept = (folder / "tokenizer.json").read_bytes(), (folder / "tokenizer_config.json").read_bytes()
        tokenizer.save(folder)
        said = refused(*again(grown, text))
        assert "another tokenizer" in said and "Nothing was changed; put back what was there" in said
        (folder / "tokenizer.json").write_bytes(kept[0])
        (folder / "tokenizer_config.json").write_bytes(kept[1])
        assert everything(grown) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grow.json", "plan.json", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("damage", [b"", b'{"a', b"[]", b"\0\0\0"])
def test_torn_files_of_a_run_are_recognised(name, damage, grown, text, refused):
    kept = (grown / name).read_bytes()
    (grown / name).write_bytes(damage)
    try:
        assert Path(name).name in refused(*again(grown, text))
        assert (grown / name).read_bytes() == damage
    finally:
        (grown / name).write_bytes(kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage.json", "model.safetensors", "config.json", "tokenizer.json"])
def test_a_torn_stage_is_done_again_from_its_checkpoint(name, grown, text, capsys):
    before = everything(grown)
    path = grown / "stages" / "finetune" / name
    path.write_bytes(path.read_bytes()[:50])
    words = [sys.executable, "-m", "sprout", *again(grown, text)]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "finetune: what is there is damaged, the stage is done again" in done.stdout and "pretrain: done before" in done.stdout
    assert "going on from step" in done.stdout
    after = everything(grown)
    assert all(after[k] == before[k] for k in before if k.endswith("model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("words", [["report"], ["eval"], ["chat", "-p", "Hi", "--model"], ["export", "OUT", "--model"]])
def test_commands_on_what_is_no_run(words, refused, tmp_path):
    words = [str(tmp_path / "out") if w == "OUT" else w for w in words]
    refused(*words, tmp_path / "nothing")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_export_writes_into_new_folders_only(grown, refused, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "is a file" in refused("export", tmp_path / "file", "--model", grown)
    (tmp_path / "model").mkdir()
    for part in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / "model" / part).write_bytes((grown / "stages" / "finetune" / part).read_bytes()[:40])
    assert "damaged" in refused("export", tmp_path / "new", "--model", tmp_path / "model")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_report_of_torn_files(grown, refused):
    path = grown / "stages" / "pretrain" / "stage.json"
    kept = path.read_bytes()
    path.write_bytes(kept[:100])
    try:
        assert "stage.json is damaged" in refused("report", grown)
    finally:
        path.write_bytes(kept)


@pytest.mark.slow
def test_what_was_left_out_is_in_the_report(grown):
    stages = json.loads((grown / "report.json").read_text())["stages"]
    assert list(stages) == ["pretrain", "midtrain", "finetune", "reinforce"]
    assert stages["reinforce"]["warnings"] == ["nothing to reinforce"]
