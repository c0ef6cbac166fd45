"""The report of a run: one page that opens offline, its markdown twin, and every figure as JSON. What is on the page is
in `page.py`, the pictures are in `pictures.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sprout.common.errors import UserError
from sprout.common.files import read_json, write_atomic, write_json
from sprout.report.page import markdown, page
from sprout.report.pictures import loss_picture, reward_picture, skills_picture

STAGES = ("pretrain", "midtrain", "finetune", "reinforce")


def collect(run: Path) -> dict[str, Any]:
    """All figures of a run. Raises UserError where there is no finished stage."""
    stages = [read_json(p) for s in STAGES if (p := run / "stages" / s / "stage.json").is_file()]
    if not stages:
        raise UserError(f"{run} holds no finished stage yet; grow it with: sprout grow --run {run}")
    found: dict[str, Any] = {"run": run.name, "stages": {s["stage"]: s for s in stages}}
    for name in ("plan", "machine", "world"):
        if (run / f"{name}.json").is_file():
            found[name] = read_json(run / f"{name}.json")
    if (run / "grow.json").is_file():
        found["config"] = read_json(run / "grow.json")
    found["missing_stages"] = [s for s in STAGES if s not in found["stages"]]
    found["seconds"] = sum(s["seconds"] + s.get("eval_seconds", 0) + s.get("data_seconds", 0) for s in stages)
    return found


def build_report(run: Path) -> dict[str, Any]:
    """Write report.html, report.md with its pictures, and report.json into `run`; returns the figures."""
    figures = collect(run)
    figures["run_path"] = run.as_posix()
    stages = figures["stages"]
    pictures = {"loss": loss_picture(stages)}
    if any(s.get("skills") for s in stages.values()):
        pictures["skills"] = skills_picture(stages)
    if stages.get("reinforce", {}).get("rl"):
        pictures["reward"] = reward_picture(stages["reinforce"]["rl"])
    for name, svg in pictures.items():
        write_atomic(run / f"report-{name}.svg", svg)
    write_atomic(run / "report.md", markdown(figures, pictures))
    write_json(run / "report.json", figures)
    write_atomic(run / "report.html", page(figures, pictures))
    return figures
