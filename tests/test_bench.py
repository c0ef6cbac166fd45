"""`sprout bench`, on models so small that it takes seconds: what is measured, who isn't there, what is written."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sprout.bench import gpu
from sprout.bench.contenders import CONTENDERS, made_up, nanochat
from sprout.bench.parts import Absent, Worker, call, environment, interpreter
from sprout.bench.pictures import draw, panels
from sprout.bench.plain import PlainGPT
from sprout.bench.run import Plan, bench
from sprout.bench.tables import page
from sprout.bench.training import PRODUCTS, SIZES
from sprout.cli import main
from sprout.common.errors import UserError
from sprout.model import GPT
from sprout.model.count import parameters

TINY = SIZES["tiny"]


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A peer that is here, one that is nowhere (litgpt can't be beside us), and the machine."""
    out = tmp_path / "new" / "bench"
    words = "bench training --sizes tiny --seconds 0.2 --threads 1 --only Sprout plain lit --out"
    with pytest.raises(SystemExit) as end:
        main([*words.split(), str(out)])
    said = capfd.readouterr()
    assert end.value.code == 0
    found = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    rows = {row["contender"]: row for row in found["parts"]["training"]}
    assert list(rows) == ["Sprout", "litgpt", "litgpt, bfloat16", "plain PyTorch", PRODUCTS]
    baseline = rows["plain PyTorch"]
    assert baseline["tokens_per_second"] > 0 and baseline["first_step"] > 0.1 and 0 < baseline["share"] < 1
    if mine := rows["Sprout"]["tokens_per_second"]:
        assert baseline["ratio"] == pytest.approx(mine / baseline["tokens_per_second"])
    text = (out / "bench.md").read_text(encoding="utf-8")
    if rows["litgpt"]["tokens_per_second"] is None:
        assert rows["litgpt"]["note"].startswith("absent: litgpt ") and rows["litgpt"]["note"] in text
    assert found["machine"]["threads"] == 1 and found["versions"]["torch"] == torch.__version__ and found["date"][:2] == "20"
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG") and "| tiny | plain PyTorch |" in text
    assert "| tiny | plain PyTorch |" in said.out and str(out / "bench.md") in said.out
    assert "training: 100%" in said.err


@pytest.mark.slow
def test_quality_counts_bits_on_the_same_text(tmp_path: Path) -> None:
    """Made-up novels: one word follows another, so a model that learns needs fewer bits than one that doesn't."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sprout.bench import quality

    folder = tmp_path / "data" / "text" / "eltec_eng" / "data"
    folder.mkdir(parents=True)
    novel = "The cat sat on the mat and the dog sat on the cat. "
    for part, count in (("train", 40), ("validation", 4)):
        pq.write_table(pa.table({"text": [f"Chapter {i}. " + novel * 30 for i in range(count)]}), folder / f"{part}-0.parquet")
    shape = quality.prepare(tmp_path / "data", tmp_path / "rows", 1, 300)
    heard: list[str] = []
    rows = quality.measure(shape, tmp_path / "rows", (0.3, 2), 1, 1, ("Sprout", "nobody"), tell=heard.append)
    assert len(heard) == len(rows) * quality.COUNTS
    short, _, long, nobody = rows
    assert long["bits_per_byte"] < 0.9 * short["bits_per_byte"] < 8 and long["ratio"] == 1 and long["steps"] > short["steps"]
    assert nobody["bits_per_byte"] is None and nobody["note"].startswith("absent: ")
    with pytest.raises(UserError, match="--data"):
        quality.novels(tmp_path, "train")


def test_ours_and_everybodys_bits_per_byte_are_the_same(tmp_path: Path) -> None:
    """`sprout.evals` counts them as we count everybody's, where a row is one document."""
    from sprout.bench.quality import bits_per_byte
    from sprout.data import pack
    from sprout.evals import bits_per_byte as ours
    from sprout.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(["so it is, and so it was, and so it will be"], 290)
    model = GPT(SIZES["tiny"])
    data = pack([([(i * j) % 290 for j in range(33)], None) for i in range(1, 9)], 32, 0)
    got = bits_per_byte(lambda ids: model.logits(model(ids)), data, tokenizer)
    assert got == pytest.approx(ours(model, data, tokenizer), rel=1e-6)


@pytest.mark.parametrize("name", ["Sprout", "plain PyTorch"])
def test_contenders_learn_what_they_are_shown(name: str) -> None:
    torch.manual_seed(0)
    try:
        trainee = CONTENDERS[name](TINY)
    except Absent as why:
        pytest.skip(str(why))
    ids, targets = made_up(TINY, 4)
    losses = [trainee.step(ids, targets, 1.0) for _ in range(30)]
    assert abs(losses[0] - torch.log(torch.tensor(320.0))) < 0.5 and losses[-1] < 0.7 * losses[0]
    assert trainee.logits(ids).shape == (4, 32, 320)


def test_nanochats_recipe_leaves_no_parameter_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from sprout.bench import contenders

    monkeypatch.setattr(contenders, "can_compile", lambda: False)
    trainee = nanochat(TINY, torch.float32)
    ids, targets = made_up(TINY, 4)
    before = trainee.logits(ids)
    losses = [trainee.step(ids, targets, 1.0) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0] and not torch.equal(before, trainee.logits(ids))


def test_the_baseline_has_our_size_and_its_cache_changes_nothing() -> None:
    model = PlainGPT(TINY).eval()
    extra = TINY.context * TINY.width + (2 * TINY.layers + 1) * TINY.width  # places, and the norms' weights
    assert sum(p.numel() for p in model.parameters()) == parameters(TINY) + extra
    ids = torch.randint(320, (2, 6), generator=torch.Generator().manual_seed(1))
    new = model.write(ids, 5)
    for i in range(5):
        whole = torch.cat([ids, new[:, :i]], dim=1)
        assert torch.equal(model(whole)[:, -1].argmax(-1), new[:, i])


def test_a_worker_says_why_it_cannot() -> None:
    here = Path(sys.executable)
    with pytest.raises(Absent, match=r"sprout\.bench\.nothing can't be imported"):
        call(here, "sprout.bench.nothing:measure", {}, environment(1))
    with Worker(here, "os:_exit", {"status": 3}, environment(1)) as worker, pytest.raises(Absent, match="ended with 3"):
        worker.answer()


def test_a_worker_goes_with_who_asked() -> None:
    words = "import signal, sys, pathlib as p; from sprout.bench.parts import *; w = Worker(p.Path(sys.executable), 'signal:pause', {}, environment(1)); print(w._process.pid, flush=True); signal.pause()"
    asker = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True, env=environment(1))
    assert asker.stdout is not None
    state = ["ps", "-o", "stat=", "-p", asker.stdout.readline().strip()]
    time.sleep(1)
    assert subprocess.run(state, capture_output=True, text=True).stdout.strip()[:1] not in ("", "Z")
    asker.kill()
    asker.wait()
    asker.stdout.close()
    end = time.monotonic() + 20
    while subprocess.run(state, capture_output=True, text=True).stdout.strip()[:1] not in ("", "Z"):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_bench_says_so(tmp_path: Path) -> None:
    (row,) = gpu.measure(tmp_path, [12], [gpu.OURS], 1 << 17, 2, 32, lambda _: None)
    assert (row["tokens_per_second"], row["note"]) == (None, "absent: there is no GPU")


def test_the_interpreter_that_has_most_is_taken(tmp_path: Path) -> None:
    """A second one, which finds a package that ours doesn't."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a_peer_of_sprout.py").write_text("")
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{tmp_path}/lib" exec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    assert interpreter([other], ("json", "a_peer_of_sprout")) == other
    assert interpreter([other], ("json",)) == interpreter([tmp_path / "none"], ()) == Path(sys.executable)


def test_tables_and_pictures_of_every_part() -> None:
    """Rows as the parts give them; a contender that wasn't there stands in the table and has no bar."""
    speed = {"size": "1M", "note": "how | so", "first_step": 1.0, "share": 0.8}
    training = [
        speed | {"contender": "Sprout", "tokens_per_second": 30000.0, "ratio": 1.0},
        speed | {"contender": "Llama", "tokens_per_second": 15000.0, "ratio": 2.0},
        speed | {"contender": "litgpt", "tokens_per_second": None, "ratio": None, "share": None, "first_step": None, "note": "absent: no"},
    ]
    quality = [{"contender": c, "seconds": 60, "seed": s, "bits_per_byte": b + s / 100, "ratio": b, "tokens": 1e6, "note": ""}
               for s in (0, 1) for c, b in (("Sprout", 1.0), ("nanochat", 1.1))]  # fmt: skip
    decoding = [row | {"chats": 1} for row in training]
    tokenizers = [{"what": "encode", "contender": c, "text": "mixed", "value": v, "unit": "MB/s", "ratio": v / 10, "note": ""}
                  for c, v in (("ours", 100.0), ("tiktoken", 10.0))]  # fmt: skip
    parts = {"training": training, "quality": quality, "decoding": decoding, "tokenizers": tokenizers}
    text = page(parts)
    assert "| 1M | Llama | 15,000 | 2.00x | 80 % | 1.0 s | how \\| so |" in text and "| litgpt | – | – |" in text
    assert "1M: 2.00 times the fastest peer (Llama), 80 % of" in text
    assert "| 60 | nanochat | 1.105 ± 0.007 | 2 | 1,000,000 | 1.10x |" in text and "100 MB/s | 10.00x |" in text
    bars = dict(panels(parts))
    assert bars["training, 1M: speed, Sprout's is 1"] == [("Sprout", 1.0, True), ("Llama", 0.5, False)]
    assert len(bars) == 4 and draw(parts).startswith(b"\x89PNG") and draw({}).startswith(b"\x89PNG")


@pytest.mark.parametrize(("wrong", "says"), [
    ({"sizes": ("7B",)}, "no size '7B'.*1M, 4M, 12M"), ({"only": ("gpt5",)}, "nobody is called gpt5"), ({"seconds": 0}, "above 0"),
    ({"what": ("quality",)}, "--data"), ({"python": (Path("nowhere/python"),)}, "no program"), ({"data": Path("nowhere")}, "no folder"),
])  # fmt: skip
def test_mistakes_are_told_before_anything_runs(wrong: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        bench(Plan(**({"what": ("training",), "data": None, "out": tmp_path} | wrong)))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_help_needs_nothing_heavy() -> None:
    """So `sprout --help` comes at once: of what we depend on, nothing is imported for it."""
    code = "import sys\ntry:\n from sprout.cli import main; main(['--help'])\nexcept SystemExit: pass\nimport json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "tyro", "regex", "matplotlib", "datasets", "pyarrow", "fastapi", "transformers", "openai", "tqdm", "asyncio"}
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "sprout.cli" in modules and not heavy & modules, heavy & modules
    assert {m for m in modules if m.startswith("sprout")} == {"sprout", "sprout.cli"}
