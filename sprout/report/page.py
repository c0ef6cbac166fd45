"""What the report says, part by part, written as one HTML page and as markdown. Whatever a model wrote is escaped."""

from __future__ import annotations

import html
from typing import Any

Table = tuple[list[str], list[list[str]]]  # head and rows


def headline(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The few figures to read first, each with what it is."""
    stages = figures["stages"]
    last = list(stages.values())[-1]
    found = [(f"{figures['seconds'] / 60:.1f}", "minutes of training and testing"), (f"{last['parameters'] / 1e6:.2f}M", "parameters")]
    found.append((f"{sum(s['tokens'] for s in stages.values()) / 1e6:.1f}M", "tokens learned from"))
    reader, best = min(stages.items(), key=lambda item: item[1]["val_bpb"])
    found.append((f"{best['val_bpb']:.3f}", f"bits per byte of held-out text, after {reader}"))
    if skills := last.get("skills"):
        found.append((f"{mean_rate(last):.1%}", f"of held-out problems right, over {len(skills)} skills"))
    if last.get("made_up"):
        found.append((f"{last['made_up']['rate']:.1%}", "made-up answers about what does not exist"))
    return found


def mean_rate(stage: dict[str, Any]) -> float:
    """The share of problems right, averaged over skills."""
    return sum(s["rate"] for s in stage["skills"].values()) / len(stage["skills"])


def summary(figures: dict[str, Any]) -> str:
    """What came out, in a few sentences."""
    last = list(figures["stages"].values())[-1]
    parts = [f"A model of {last['parameters']:,} parameters, trained and tested in {figures['seconds'] / 60:.1f} minutes."]
    if skills := last.get("skills"):
        parts.append(f"It solves {mean_rate(last):.1%} of held-out problems, averaged over {len(skills)} skills.")
        weak = [f"{name} {s['rate']:.1%}" for name, s in skills.items() if s["rate"] < 0.95]
        parts.append(f"Below 95 %: {', '.join(weak)}." if weak else "No skill is below 95 %.")
    if figures["missing_stages"]:
        parts.append(f"Not run: {', '.join(figures['missing_stages'])}.")
    return " ".join([*parts, f"Talk to it: sprout chat --model {figures['run_path']}"])


def skill_rows(figures: dict[str, Any]) -> Table:
    """The table of skills: rate and interval after every stage."""
    stages = {k: s for k, s in figures["stages"].items() if s.get("skills")}
    names = list(dict.fromkeys(n for s in stages.values() for n in s["skills"]))
    rows = [[name, *[_score(s["skills"].get(name)) for s in stages.values()]] for name in names]
    if any(s.get("made_up") for s in stages.values()):
        rows.append(["made-up answers (less is better)", *[_score(s.get("made_up")) for s in stages.values()]])
    return ["skill", *stages], rows


def _score(score: dict[str, Any] | None) -> str:
    return f"{score['rate']:.1%} ({score['low']:.0%}–{score['high']:.0%}, n={score['n']})" if score else "–"


def _interval(task: dict[str, Any]) -> str:
    """A dash where the score is a mean of scores (CORE)."""
    return f"{task['low']:.3f}–{task['high']:.3f}" if task.get("low") is not None else "–"


def gain_rows(gains: dict[str, Any]) -> Table:
    """The table of what was practised: held-out problems answered by sampling, as in practice, and with the likeliest
    reply."""
    head = ["skill", "sampled, before", "sampled, after", "likeliest reply, before", "likeliest reply, after"]
    return head, [
        [name, *[_score(g[when][how]) for how in ("sampled", "likeliest") for when in ("before", "after")]]
        for name, g in gains.items()
    ]


def stage_rows(figures: dict[str, Any]) -> Table:
    """The table of stages."""
    rows = []
    for name, s in figures["stages"].items():
        loss = f"{s['curve'][-1]['loss']:.3f}" if s["curve"] else "–"
        rows.append([name, f"{s['steps']:,}", f"{s['tokens']:,}", f"{s['seconds']:.0f}", f"{s['tokens_per_s']:,.0f}", loss, f"{s['val_bpb']:.3f}",
                     f"{s.get('data_seconds', 0):.0f}", f"{s.get('eval_seconds', 0):.0f}"])  # fmt: skip
    head = ["stage", "steps", "tokens", "seconds", "tokens/s", "last loss", "bits per byte", "making data, s", "evaluation, s"]
    return head, rows


def reward_rows(log: list[dict[str, float]]) -> Table:
    """The first step of reinforcement, the middle one and the last: why the reward moves, or not."""
    head = ["step", "reward", "all right", "all wrong", "length", "cut off", "entropy", "KL"]
    keys = ("step", "reward", "all_right", "all_wrong", "length", "cut", "entropy", "kl")
    return head, [[f"{e[k]:.3g}" for k in keys] for e in (log[0], log[len(log) // 2], log[-1])]


def how_rows(figures: dict[str, Any]) -> Table:
    """Options, plan, world, machine, versions and the state of the code."""
    machine = dict(figures.get("machine", {}))
    changed = machine.pop("git_changed", False)
    if machine.get("git"):
        machine["git"] += " and changes that are not committed" if changed else ""
    world = figures.get("world", {})
    config = {k: v for k, v in figures.get("config", {}).items() if k != "world" or not world}
    parts = {"option": config, "world": world, "plan": figures.get("plan", {}), "machine": machine}

    def text(value: Any) -> str:
        return "\n".join(map(str, value)) if isinstance(value, list) else str(value)

    return ["part", "what", "value"], [[part, k, text(v)] for part, values in parts.items() for k, v in values.items()]


def sections(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    """The report's parts in order: a title and either text, a table or the name of a picture."""
    stages = figures["stages"]
    last = list(stages.values())[-1]
    parts: list[tuple[str, Any]] = []
    if any(s.get("skills") for s in stages.values()):
        parts += [("Skills after each stage", "skills"), ("The same in figures", skill_rows(figures))]
    prompts = [s["prompt"] for s in last["samples"]]
    answers = [
        [p, *[s["samples"][i]["reply"] if i < len(s["samples"]) else "–" for s in stages.values()]]
        for i, p in enumerate(prompts)
    ]
    parts.append(("The same prompts after each stage", (["prompt", *stages], answers)))
    parts += [("Stages", stage_rows(figures)), ("Loss", "loss")]
    if log := stages.get("reinforce", {}).get("rl"):
        parts.append(("Reinforcement", "reward"))
        if gains := stages["reinforce"].get("rl_gains"):
            parts.append(("What reinforcement bought", gain_rows(gains)))
        parts.append(("Why the reward moves", reward_rows(log)))
    if last.get("mistakes"):
        rows = [[k, m["prompt"], m["reply"], m["why"]] for k, m in last["mistakes"].items()]
        parts.append(("One mistake of each skill", (["skill", "prompt", "reply", "why"], rows)))
    if tasks := last.get("tasks"):
        rows = [[k, str(v["n"]), f"{v['score']:.3f}", _interval(v), v["metric"]] for k, v in tasks.items()]
        parts.append(("Public benchmarks", (["task", "n", "score", "95 % interval", "metric"], rows)))
    dropped = [[name, rule, f"{n:,}"] for name, s in stages.items() for rule, n in s.get("dropped", {}).items()]
    parts.append(("Dropped data", (["stage", "rule", "count"], dropped) if dropped else "Nothing was dropped or cut."))
    parts.append(("Warnings", "\n".join(w for s in stages.values() for w in s.get("warnings", [])) or "None."))
    parts.append(("How it was grown", how_rows(figures)))
    return parts


CSS = """:root{--ink:#222;--soft:#666;--paper:#fff;--line:#ddd;--head:#f3f4f6;--accent:#d1495b}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--soft:#999;--paper:#181818;--line:#3a3a3a;--head:#262626;--accent:#ef7d8c}}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2.5rem auto;padding:0 1rem;color:var(--ink);background:var(--paper)}
h1{margin:0 0 .3rem}h2{margin:2.5rem 0 .6rem;font-size:1.15rem}p{white-space:pre-wrap;margin:.3rem 0}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.8rem;margin:1.2rem 0}
dl div{border:1px solid var(--line);border-radius:.5rem;padding:.7rem .9rem}
dt{font-size:1.6rem;font-weight:600;line-height:1.2}dd{margin:0;font-size:.8rem;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.85rem}td,th{border-bottom:1px solid var(--line);padding:.35rem .6rem;text-align:left;
vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere}th{background:var(--head)}
.wide{table-layout:fixed;font-size:.8rem}.narrow{font-size:.8rem}.narrow td+td{white-space:pre}td:first-child{font-weight:600}
figure{margin:0}svg{width:100%;max-width:54rem;height:auto}
@media(max-width:50rem){table{display:block;overflow-x:auto}}"""


def page(figures: dict[str, Any], pictures: dict[str, str]) -> str:
    """The report as one HTML page."""
    name = html.escape(figures["run"])
    out = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"]
    out.append(f"<title>Sprout: {name}</title><style>{CSS}</style><h1>Sprout: {name}</h1>")
    out.append(f"<p>{html.escape(summary(figures))}</p><dl>")
    out += [f"<div><dt>{html.escape(figure)}</dt><dd>{html.escape(what)}</dd></div>" for figure, what in headline(figures)]
    out.append("</dl>")
    for title, content in sections(figures):
        out.append(f"<h2>{html.escape(title)}</h2>")
        if isinstance(content, tuple):
            head, rows = content
            long = any(len(cell) > 60 for row in rows for cell in row)
            out.append(f"<table class={'wide' if long else 'narrow'}>")
            out.append("<tr>" + "".join(f"<th scope=col>{html.escape(h)}</th>" for h in head) + "</tr>")
            out += ["<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows]
            out.append("</table>")
        elif content in pictures:
            out.append(f"<figure role=img aria-label='{html.escape(title)}'>{pictures[content]}</figure>")
        else:
            out.append(f"<p>{html.escape(content)}</p>")
    return "\n".join(out)


def markdown(figures: dict[str, Any], pictures: dict[str, str]) -> str:
    """The same in markdown; pictures are files beside it."""

    def cell(text: str) -> str:
        return html.escape(text, quote=False).replace("|", "\\|").replace("\n", "<br>")

    out = [f"# Sprout: {figures['run']}", cell(summary(figures))]
    out.append("\n".join(f"- **{cell(figure)}** {cell(what)}" for figure, what in headline(figures)))
    for title, content in sections(figures):
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
