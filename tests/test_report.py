"""The report of a made-up run: it opens offline, holds every figure, and nothing that a model wrote becomes markup."""

from __future__ import annotations

import copy
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sprout.common.errors import UserError
from sprout.common.files import write_json
from sprout.report import build_report

STAGES = ("pretrain", "midtrain", "finetune", "reinforce")
SKILLS = ("recall", "arithmetic", "story")
HOSTILE = "<script>alert('x')</script> </td></table><img src=http://evil.example/a.png onerror=alert(1)> & \"q\" | a\nb"
VOID = {"meta", "br", "img", "link", "base", "input", "hr", "embed", "source"}


def score(right: int, n: int = 200) -> dict[str, Any]:
    return {
        "n": n,
        "right": right,
        "rate": right / n,
        "low": max(0, right / n - 0.05),
        "high": min(1, right / n + 0.05),
    }


def stage(at: int) -> dict[str, Any]:
    """stage.json as a run writes it; all numbers are different, so that none can stand for another."""
    name = STAGES[at]
    record: dict[str, Any] = {
        "stage": name, "key": f"{at:016x}", "steps": 1101 + at, "tokens": 2_000_003 + at * 1000, "seconds": 71.0 + at * 10,
        "eval_seconds": 5.0 + at, "data_seconds": 1.0, "tokens_per_s": 31_007.0 + at * 111, "parameters": 923_456,
        "flops_per_token": 5_000_000, "val_bpb": 2.345 - at * 0.111, "warnings": [], "dropped": {},
        "curve": [{"step": s, "tokens": s * 1817, "loss": 5.4 - at - s / 1000, "lr": 1.0, "seconds": s / 10} for s in range(10, 1101, 10)],
        "skills": {skill: score(20 * at + 7 * i + 3) for i, skill in enumerate(SKILLS)},
        "made_up": score(90 - 20 * at), "mistakes": {"recall": {"prompt": f"Who? {name}", "reply": "Nobody.", "why": "expected 'Ann'"}},
        "samples": [{"prompt": "Hello!", "reply": f"Hi from {name}."}, {"prompt": "2 + 2?", "reply": f"The answer is {at}."}],
    }  # fmt: skip
    if name == "reinforce":
        keys = ("reward", "all_right", "all_wrong", "length", "cut", "entropy", "kl")
        record["curve"] = []
        record["rl"] = [
            {"step": s, "seconds": s * 2.0, **{k: (s + i) / 37 for i, k in enumerate(keys)}} for s in range(1, 10)
        ]
        record["rl_gains"] = {
            "arithmetic": {
                "before": {"sampled": score(51), "likeliest": score(60)},
                "after": {"sampled": score(77), "likeliest": score(81)},
            }
        }
    return record


def write_run(run: Path, stages: list[dict[str, Any]]) -> Path:
    for record in stages:
        write_json(run / "stages" / record["stage"] / "stage.json", record)
    write_json(
        run / "plan.json",
        {"pretrain": 1101, "midtrain": 1102, "finetune": 1103, "reinforce": 9, "tokens_per_s": 30_000.5},
    )
    write_json(
        run / "machine.json", {"platform": "Linux-test", "cores": 2, "git": "0123abcd", "decisions": ["2 threads"]}
    )
    write_json(run / "grow.json", {"depth": "4", "seed": "17"})
    write_json(run / "world.json", {"seed": 1, "people": 40})
    return run


def hostile_stages() -> list[dict[str, Any]]:
    stages = [stage(i) for i in range(4)]
    for record in stages:
        record["samples"][1] = {"prompt": HOSTILE + "prompt", "reply": HOSTILE + record["stage"]}
        record["mistakes"]["recall"] = {"prompt": HOSTILE, "reply": HOSTILE + "wrong", "why": HOSTILE}
        record["warnings"] = [f"{HOSTILE} in {record['stage']}"]
        record["dropped"] = {f"cut {HOSTILE}": 12_345}
    return stages


class Page(HTMLParser):
    """Tags with their attributes, and every table as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if "style" not in self.open and "svg" not in self.open:
            self.text += data

    def row(self, first: str, besides: str = "") -> list[str]:
        """The row that begins with `first`, of the first table whose head holds `besides`."""
        return next(r for t in self.tables if besides in " ".join(t[0]) for r in t if r[0] == first)


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a markdown text, as GitHub would cut them."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.split("\n"):
        if line.startswith("|"):
            if not inside:
                tables.append([])
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            if not all(re.fullmatch(r" ?-+ ?", c) for c in cells):
                tables[-1].append([html.unescape(c.strip().replace("<br>", "\n").replace("\\|", "|")) for c in cells])
        inside = line.startswith("|")
    return tables


def numbers(cell: str) -> list[float]:
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?", cell.replace(",", ""))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("report") / "run <b>&", hostile_stages())
    build_report(run)
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_the_page_opens_offline(page: Page, run: Path) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "img"), (tag, attributes)
        assert "http-equiv" not in attributes
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                assert value.startswith(("#", "data:")), (tag, name, value)
            for address in re.findall(r"url\(([^)]*)\)", value):
                assert address.strip("'\"").startswith(("#", "data:")), (tag, name, value)
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    for style in re.findall(r"<style.*?</style>", text, re.DOTALL):
        assert "url(" not in style and "http" not in style


def test_the_page_has_a_picture_for_loss_skills_and_reward(page: Page, run: Path) -> None:
    labels = [a.get("aria-label", "") for tag, a in page.tags if tag == "figure"]
    assert len(labels) == 3 and all(labels), "every picture has words for those who can't see it"
    assert sum(tag == "svg" for tag, _ in page.tags) == 3
    shown = re.findall(r"!\[(.+?)\]\((.+?)\)", (run / "report.md").read_text(encoding="utf-8"))
    assert [title for title, _ in shown] == labels
    pictures = {(run / file).read_text(encoding="utf-8") for _, file in shown}
    assert len(pictures) == 3
    text = (run / "report.html").read_text(encoding="utf-8")
    assert all(svg.strip() in text for svg in pictures), "the markdown shows other pictures than the page"


def test_every_figure_of_every_stage_is_on_the_page(page: Page) -> None:
    for record in hostile_stages():
        row = " ".join(page.row(record["stage"], "tokens/s"))
        wanted = ["steps", "tokens", "seconds", "tokens_per_s", "val_bpb", "eval_seconds"]
        for key in wanted:
            assert any(abs(x - record[key]) < 0.0006 + 0.5 * (key.endswith("seconds")) for x in numbers(row)), (
                key,
                row,
            )
        if record["curve"]:
            assert any(abs(x - record["curve"][-1]["loss"]) < 0.0006 for x in numbers(row)), row
    text = page.text.replace(",", "")
    assert "923456" in text, "the number of parameters"
    for value in (
        "0123abcd",
        "Linux-test",
        "30000.5",
        "17",
        "12345",
        f"{sum((71, 81, 91, 101, 5, 6, 7, 8, 4)) / 60:.1f} minutes",
    ):
        assert value in text, value


def test_every_skill_is_on_the_page_with_counts_and_intervals(page: Page) -> None:
    stages = hostile_stages()
    for skill in SKILLS:
        cells = page.row(skill, "skill")[1:]
        assert len(cells) == 4
        for cell, record in zip(cells, stages, strict=True):
            s = record["skills"][skill]
            rate, low, high, n = numbers(cell)
            assert abs(rate - 100 * s["rate"]) < 0.06 and n == s["n"], (cell, s)
            assert abs(low - 100 * s["low"]) < 0.6 and abs(high - 100 * s["high"]) < 0.6, (cell, s)
    invented = next(r for t in page.tables for r in t if r[0].startswith("made-up"))
    assert [numbers(c)[0] for c in invented[1:]] == [45.0, 35.0, 25.0, 15.0]
    assert "25.5%" in page.text and "38.5%" in page.text, "reinforcement's gain"


def test_the_headline_says_how_good_and_where_not(page: Page, tmp_path: Path) -> None:
    """Each figure once in large, and the skills that miss 95 % by name, no others."""
    large = page.text.partition("Skills after each stage")[0].replace("\n", "")
    assert "35.0%of held-out problems right" in large  # the mean of 31.5, 35 and 38.5 % after all stages
    assert "2.012bits per byte of held-out text, after reinforce" in large and "15.0%made-up answers" in large
    assert "Below 95 %: recall 31.5%, arithmetic 35.0%, story 38.5%." in large
    good = stage(0) | {"skills": {"recall": score(200), "story": score(189)}}
    build_report(write_run(tmp_path, [good]))
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Below 95 %: story 94.5%." in text and "recall 100.0%" not in text
    good["skills"]["story"] = score(190)
    build_report(write_run(tmp_path, [good]))
    assert "No skill is below 95 %." in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_pictures_can_be_read_on_dark_paper(run: Path) -> None:
    """No white sheet and no black ink; and the same figures give the same picture, byte for byte."""
    for name in ("loss", "skills", "reward"):
        svg = (run / f"report-{name}.svg").read_text(encoding="utf-8")
        assert "fill: #ffffff" not in svg and "stroke: #000000" not in svg, name
        assert "#808080" in svg
    before = (run / "report-skills.svg").read_bytes()
    build_report(run)
    assert (run / "report-skills.svg").read_bytes() == before


def test_what_a_model_wrote_is_text(page: Page, run: Path) -> None:
    """Escaped, and all there: nothing is lost, nothing becomes markup. (The parser would have found the tags.)"""
    row = next(r for t in page.tables for r in t if r[0] == HOSTILE + "prompt")
    assert row[1:] == [HOSTILE + name for name in STAGES]
    assert page.row("recall", "why")[1:] == [HOSTILE, HOSTILE + "wrong", HOSTILE]
    assert all(f"{HOSTILE} in {name}" in page.text for name in STAGES)
    assert [r[1] for t in page.tables for r in t if r[-1] == "12,345"] == [f"cut {HOSTILE}"] * 4
    assert not page.open or page.open == ["html"], f"tags left open: {page.open}"
    for file in ("report.html", "report.md"):
        text = (run / file).read_text(encoding="utf-8")
        assert "<script" not in text and "<img" not in text, file


def test_the_markdown_says_the_same(page: Page, run: Path) -> None:
    text = (run / "report.md").read_text(encoding="utf-8")
    assert markdown_tables(text) == page.tables
    titles = re.findall(r"<h2>(.*?)</h2>", (run / "report.html").read_text(encoding="utf-8"))
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [html.unescape(t) for t in titles]
    assert "923,456" in text


def test_the_json_holds_every_figure(run: Path) -> None:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["stages"] == {s["stage"]: s for s in hostile_stages()} and report["missing_stages"] == []
    assert list(report["stages"]) == list(STAGES)
    assert report["seconds"] == sum(s["seconds"] + s["eval_seconds"] + s["data_seconds"] for s in hostile_stages())
    for name in ("plan", "machine", "world"):
        assert report[name] == json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
    assert report["config"] == {"depth": "4", "seed": "17"} and report["run"] == run.name


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_unfinished_run_says_what_is_missing(count: int, tmp_path: Path) -> None:
    run = write_run(tmp_path, [stage(i) for i in range(count)])
    figures = build_report(run)
    assert figures["missing_stages"] == list(STAGES[count:])
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert f"Not run: {', '.join(STAGES[count:])}" in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 2


def test_without_skills_and_reinforcement_there_is_still_a_page(tmp_path: Path) -> None:
    """A run on a text of one's own: no checkable skill, nothing reinforced, fewer samples at first."""
    stages = [stage(i) for i in range(4)]
    for record in stages:
        for key in ("skills", "made_up", "mistakes", "rl_gains"):
            record.pop(key, None)
    stages[0]["samples"] = stages[0]["samples"][:1]
    stages[3]["rl"], stages[3]["warnings"] = [], ["nothing to reinforce"]
    run = write_run(tmp_path, stages)
    build_report(run)
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert sum(tag == "svg" for tag, _ in page.tags) == 1 and "nothing to reinforce" in page.text
    assert len(page.row("2 + 2?")) == 5
    assert markdown_tables((run / "report.md").read_text(encoding="utf-8")) == page.tables


def test_benchmarks_are_shown(tmp_path: Path) -> None:
    record = copy.deepcopy(stage(0)) | {
        "tasks": {
            "arc_easy": {"n": 570, "score": 0.2719, "low": 0.237, "high": 0.3098, "centred": 0.0292, "metric": "accuracy, 10 shots"},
            "CORE": {"n": 17, "score": 0.0123, "low": None, "high": None, "centred": 0.0123, "metric": "mean centred score of 17 tasks"},
        }
    }
    build_report(write_run(tmp_path, [record]))
    row = Page((tmp_path / "report.html").read_text(encoding="utf-8")).row("arc_easy")
    assert row[1:] == ["570", "0.272", "0.237–0.310", "accuracy, 10 shots"]
    row = Page((tmp_path / "report.html").read_text(encoding="utf-8")).row("CORE")
    assert row[2:4] == ["0.012", "–"], "a mean of scores is no share of items"


def test_a_run_without_a_finished_stage_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished stage"):
        build_report(tmp_path)
    assert not list(tmp_path.iterdir())
