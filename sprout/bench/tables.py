"""The rows of a bench as Markdown: a table for each part, a line of what it comes to, and what wasn't there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from sprout.bench.contenders import BASELINE, SPROUT
from sprout.bench.parts import Row
from sprout.bench.training import PRODUCTS

Column = tuple[str, Callable[[Row], str]]


def figure(value: Any, form: str = "{:.3g}") -> str:
    """A number to three figures, or a dash where there is none."""
    return "–" if value is None else form.format(value) if abs(value) < 1000 else f"{value:,.0f}"


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table. What stands in a cell stays in it."""
    lines = [[title for title, _ in columns], ["---"] * len(columns), *([cell(row).replace("|", "\\|") for _, cell in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(' '.join(cells_.split()) for cells_ in line)} |" for line in lines)


def times(row: Row) -> str:
    return figure(row["ratio"], "{:.2f}x")


SPEED: tuple[Column, ...] = (
    ("model", lambda r: r["size"]), ("contender", lambda r: r["contender"]), ("tokens/s", lambda r: figure(r["tokens_per_second"])),
    ("Sprout is", times),
)  # fmt: skip
NOTE: Column = ("how", lambda r: r["note"])
TRAINING: tuple[Column, ...] = (
    *SPEED, ("of the matrix products", lambda r: figure(r["share"] and 100 * r["share"], "{:.0f} %")),
    ("first step after", lambda r: figure(r["first_step"], "{:.1f} s")), NOTE,
)  # fmt: skip
DECODING: tuple[Column, ...] = (SPEED[0], ("chats", lambda r: str(r["chats"])), *SPEED[1:], NOTE)
TOKENIZERS: tuple[Column, ...] = (
    ("what", lambda r: r["what"]), ("text", lambda r: r["text"]), ("contender", lambda r: r["contender"]),
    ("measured", lambda r: f"{figure(r['value'])} {r['unit'] if r['value'] else ''}"), ("times its peer", times), NOTE,
)  # fmt: skip
QUALITY: tuple[Column, ...] = (
    ("seconds", lambda r: f"{r['seconds']:g}"), ("contender", lambda r: r["contender"]),
    ("bits per byte", lambda r: figure(r["bits_per_byte"], "{:.3f}") + (f" ± {r['spread']:.3f}" if r["spread"] else "")),
    ("seeds", lambda r: str(r["seeds"])), ("tokens", lambda r: figure(r["tokens"])), ("times Sprout's", times), NOTE,
)  # fmt: skip


def over_seeds(rows: Sequence[Row]) -> list[Row]:
    """A row for each contender and time: the mean over its seeds, and their standard deviation as `spread`."""
    found: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["seconds"], row["contender"]), []).append(row)
    out = []
    for some in found.values():
        done = [row for row in some if row["bits_per_byte"] is not None]
        bits = [row["bits_per_byte"] for row in done]
        ratios = [row["ratio"] for row in done if row["ratio"]]
        out.append(some[0] | {
            "bits_per_byte": mean(bits) if bits else None, "spread": stdev(bits) if len(bits) > 1 else None, "seeds": len(done),
            "tokens": mean(row["tokens"] for row in done) if done else None, "ratio": mean(ratios) if ratios else None,
        })  # fmt: skip
    return out


def fastest(rows: Sequence[Row]) -> str:
    """For each size, how Sprout stands to the fastest of its peers, and to the machine."""
    lines = []
    for size in dict.fromkeys(row["size"] for row in rows):
        mine = next((r for r in rows if r["size"] == size and r["contender"] == SPROUT and r["tokens_per_second"]), None)
        own = (SPROUT, f"{SPROUT}, float32", f"{SPROUT} in torch", BASELINE, PRODUCTS)
        peers = [r for r in rows if r["size"] == size and r["contender"] not in own and r["ratio"]]
        if mine and peers:
            best = min(peers, key=lambda r: r["ratio"])
            lines.append(f"- {size}: {figure(best['ratio'], '{:.2f}')} times the fastest peer ({best['contender']}), "
                         f"{figure(100 * mine['share'], '{:.0f}')} % of the machine's matrix products")  # fmt: skip
    return "\n".join(lines)


ABOUT = {
    "training": "Training: whole steps of the dial's batch, forward, backward and optimizer; the median of turns taken one after the other. "
                "Where the CPU multiplies integers faster than torch multiplies floats, the share can exceed 100 %.",
    "quality": "Time to quality: bits per byte of held-out novels after so many seconds of training, about 4M parameters.",
    "decoding": "Decoding: tokens written, the prompt's reading included; the same weights, in float32 but where it says otherwise. Sprout by "
                "itself multiplies integers of 16 bits where the CPU is faster at it; llama.cpp in float32 is compared with Sprout in float32.",
    "tokenizers": "Tokenizers: texts seen for the first time. The peer is tiktoken; for learning, rustbpe.",
}


def page(parts: Mapping[str, Sequence[Row]], about: Mapping[str, Any] | None = None) -> str:
    """All of it; with `about`, what it was measured on."""
    out = []
    if about:
        m = about["machine"]
        out.append(f"{about['date']}; {m['cpu']}, {m['threads']} threads, {m['system']}, Python {m['python']}; "
                   + ", ".join(f"{name} {number}" for name, number in about["versions"].items()) + ".")  # fmt: skip
        out.append("Times are this machine's on that day, and it may have been busy: the ratios are what counts.")
    for part, rows in parts.items():
        columns = {"training": TRAINING, "decoding": DECODING, "tokenizers": TOKENIZERS, "quality": QUALITY}[part]
        shown = over_seeds(rows) if part == "quality" else rows
        title, what = ABOUT[part].split(": ", 1)
        out += [f"## {title}", what[0].upper() + what[1:], table(shown, columns)]
        if part == "training" and (summary := fastest(rows)):
            out.append(summary)
    return "\n\n".join(out) + "\n"
