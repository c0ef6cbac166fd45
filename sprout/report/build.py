"""The report of a run: one page that opens offline, its markdown twin, and every figure as JSON."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

from sprout.common.errors import UserError
from sprout.common.files import read_json, write_atomic, write_json

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


def _svg(draw: Any, width: float = 8.0, height: float = 3.2) -> str:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height))
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def loss_picture(stages: dict[str, Any]) -> str:
    """The loss of all stages over tokens, as SVG."""

    def draw(axes: Any) -> None:
        at = 0.0
        for name, stage in stages.items():
            if stage["curve"]:
                xs = [(at + p["tokens"]) / 1e6 for p in stage["curve"]]
                axes.plot(xs, [p["loss"] for p in stage["curve"]], label=name, linewidth=1)
                at += stage["curve"][-1]["tokens"]
        axes.set(xlabel="million tokens", ylabel="loss (nats a token)", yscale="log")
        axes.legend(frameon=False)

    return _svg(draw)


def reward_picture(log: list[dict[str, float]]) -> str:
    """Reward, and shares of groups all right and all wrong, over the steps, as SVG."""

    def draw(axes: Any) -> None:
        for key, label in (("reward", "reward"), ("all_right", "groups all right"), ("all_wrong", "groups all wrong")):
            axes.plot([e["step"] for e in log], [e[key] for e in log], label=label)
        axes.set(xlabel="step", ylim=(0, 1))
        axes.legend(frameon=False)

    return _svg(draw)


def skills_picture(stages: dict[str, Any]) -> str:
    """Every skill after every stage, dots with their 95 % intervals, as SVG."""
    names = list(next(s["skills"] for s in reversed(stages.values()) if s.get("skills")))

    def draw(axes: Any) -> None:
        shown = {k: s for k, s in stages.items() if s.get("skills")}
        for i, (stage, s) in enumerate(shown.items()):
            for y, name in enumerate(names):
                if score := s["skills"].get(name):
                    place = y + (i - len(shown) / 2) * 0.16
                    axes.plot([score["low"], score["high"]], [place] * 2, color=f"C{i}", linewidth=1)
                    axes.plot(
                        [score["rate"]], [place], "o", color=f"C{i}", markersize=3.5, label=stage if y == 0 else None
                    )
        axes.set(
            yticks=range(len(names)), yticklabels=names, xlim=(-0.02, 1.02), xlabel="share of held-out problems right"
        )
        axes.invert_yaxis()
        axes.legend(frameon=False)

    return _svg(draw, 8, 0.42 * len(names) + 1.2)


def skill_rows(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of skills: rate and interval after every stage."""
    stages = {k: s for k, s in figures["stages"].items() if s.get("skills")}
    names = list(dict.fromkeys(n for s in stages.values() for n in s["skills"]))
    rows = [[name, *[_score(s["skills"].get(name)) for s in stages.values()]] for name in names]
    if any(s.get("made_up") for s in stages.values()):
        rows.append(["made-up answers (less is better)", *[_score(s.get("made_up")) for s in stages.values()]])
    return ["skill", *stages], rows


def _score(score: dict[str, Any] | None) -> str:
    return f"{score['rate']:.1%} ({score['low']:.0%}–{score['high']:.0%}, n={score['n']})" if score else "–"


def gain_rows(stages: dict[str, Any], gains: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of what was practised: held-out problems answered by sampling, as in practice, and
    with the likeliest reply."""
    likeliest = [stages.get(s, {}).get("skills", {}) for s in ("finetune", "reinforce")]
    head = ["skill", "sampled, before", "sampled, after", "likeliest reply, before", "likeliest reply, after"]
    return head, [
        [name, _score(g["before"]), _score(g["after"]), *[_score(skills.get(name)) for skills in likeliest]]
        for name, g in gains.items()
    ]


def stage_rows(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of stages."""
    rows = []
    for name, s in figures["stages"].items():
        loss = f"{s['curve'][-1]['loss']:.3f}" if s["curve"] else "–"
        rows.append([name, f"{s['steps']:,}", f"{s['tokens']:,}", f"{s['seconds']:.0f}", f"{s['tokens_per_s']:,.0f}", loss, f"{s['val_bpb']:.3f}",
                     f"{s.get('eval_seconds', 0):.0f}"])  # fmt: skip
    return ["stage", "steps", "tokens", "seconds", "tokens/s", "last loss", "bits per byte", "evaluation, s"], rows


def sections(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    """The report's parts in order: a title and either text, a table (head, rows) or a picture (a function's name)."""
    stages = figures["stages"]
    last = list(stages.values())[-1]
    machine, config = figures.get("machine", {}), figures.get("config", {})
    summary = f"A model of {last['parameters']:,} parameters, grown in {figures['seconds'] / 60:.1f} minutes; {last['val_bpb']:.3f} bits per byte of held-out text."
    if last.get("skills"):
        summary += f" It solves {sum(s['rate'] for s in last['skills'].values()) / len(last['skills']):.1%} of held-out problems, averaged over {len(last['skills'])} skills."
    if figures["missing_stages"]:
        summary += f" Not run: {', '.join(figures['missing_stages'])}."
    parts: list[tuple[str, Any]] = [("", summary), ("Stages", stage_rows(figures)), ("Loss", "loss")]
    if any(s.get("skills") for s in stages.values()):
        parts += [("Skills after each stage", "skills"), ("The same in figures", skill_rows(figures))]
    if log := stages.get("reinforce", {}).get("rl"):
        parts.append(("Reinforcement", "reward"))
        if gains := stages["reinforce"].get("rl_gains"):
            parts.append(("What reinforcement bought", gain_rows(stages, gains)))
        first, end = log[0], log[-1]
        head = ["step", "reward", "all right", "all wrong", "length", "cut off", "entropy", "KL"]
        keys = ("step", "reward", "all_right", "all_wrong", "length", "cut", "entropy", "kl")
        parts.append(
            ("Why the reward moves", (head, [[f"{e[k]:.3g}" for k in keys] for e in (first, log[len(log) // 2], end)]))
        )
    prompts = [s["prompt"] for s in last["samples"]]
    answers = [
        [p, *[s["samples"][i]["reply"] if i < len(s["samples"]) else "–" for s in stages.values()]]
        for i, p in enumerate(prompts)
    ]
    parts.append(("The same prompts after each stage", (["prompt", *stages], answers)))
    if last.get("mistakes"):
        parts.append(
            (
                "One mistake of each skill",
                (
                    ["skill", "prompt", "reply", "why"],
                    [[k, m["prompt"], m["reply"], m["why"]] for k, m in last["mistakes"].items()],
                ),
            )
        )
    if tasks := last.get("tasks"):
        parts.append(
            (
                "Public benchmarks",
                (
                    ["task", "n", "score", "metric"],
                    [[k, str(v["n"]), f"{v['score']:.3f}", v["metric"]] for k, v in tasks.items()],
                ),
            )
        )
    dropped = [[name, rule, f"{n:,}"] for name, s in stages.items() for rule, n in s.get("dropped", {}).items()]
    parts.append(("Dropped data", (["stage", "rule", "count"], dropped) if dropped else "Nothing was dropped or cut."))
    warnings = [w for s in stages.values() for w in s.get("warnings", [])]
    parts.append(("Warnings", "\n".join(warnings) or "None."))
    parts.append(
        (
            "How it was grown",
            (["", ""], [[k, str(v)] for k, v in {**config, **figures.get("plan", {}), **machine}.items()]),
        )
    )
    parts.append(("Talk to it", f"sprout chat --model {figures['run_path']}"))
    return parts


CSS = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.85rem}td,th{border:1px solid #bbb;padding:.3rem .5rem;text-align:left;
vertical-align:top;white-space:pre-wrap}th{background:#eee}svg{max-width:100%;height:auto;background:#fff}pre{white-space:pre-wrap}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th{background:#333}td,th{border-color:#555}}"""


def page(figures: dict[str, Any], pictures: dict[str, str]) -> str:
    """The report as one HTML page. Whatever a model wrote is escaped."""
    out = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{html.escape(figures['run'])}</title>"
    ]
    out.append(f"<style>{CSS}</style><h1>Sprout: {html.escape(figures['run'])}</h1>")
    for title, content in sections(figures):
        if title:
            out.append(f"<h2>{html.escape(title)}</h2>")
        if isinstance(content, tuple):
            head, rows = content
            out.append("<table><tr>" + "".join(f"<th scope=col>{html.escape(h)}</th>" for h in head) + "</tr>")
            out += ["<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows]
            out.append("</table>")
        elif content in pictures:
            out.append(f"<figure role=img aria-label='{html.escape(title)}'>{pictures[content]}</figure>")
        else:
            out.append(f"<pre>{html.escape(content)}</pre>")
    return "\n".join(out)


def markdown(figures: dict[str, Any], pictures: dict[str, str]) -> str:
    """The same in markdown; pictures are files beside it."""

    def cell(text: str) -> str:
        return html.escape(text, quote=False).replace("|", "\\|").replace("\n", "<br>")

    out = [f"# Sprout: {figures['run']}"]
    for title, content in sections(figures):
        if title:
            out.append(f"## {title}")
        if isinstance(content, tuple):
            head, rows = content
            lines = ["| " + " | ".join(map(cell, head)) + " |", "|" + " --- |" * len(head)]
            out.append("\n".join([*lines, *["| " + " | ".join(map(cell, row)) + " |" for row in rows]]))
        elif content in pictures:
            out.append(f"![{title}](report-{content}.svg)")
        else:
            out.append(cell(content))
    return "\n\n".join(out) + "\n"


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
