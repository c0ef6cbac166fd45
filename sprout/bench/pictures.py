"""The rows of a bench as a picture: bars of ratios, a panel for each part and size."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from sprout.bench.parts import Row
from sprout.bench.tables import over_seeds

OURS, PEER, INK = "#2e7d4f", "#9db8d9", "#404040"
Panel = tuple[str, list[tuple[str, float, bool]]]  # title; label, value, whether it is ours


def panels(parts: Mapping[str, Sequence[Row]]) -> list[Panel]:
    """What there is to draw, all as 'longer is better'. Absent contenders have no bar."""
    out: list[Panel] = []
    for part, rows in parts.items():
        groups: dict[str, list[tuple[str, float, bool]]] = {}
        for row in over_seeds(rows) if part == "quality" else rows:
            if not row["ratio"] or row["contender"] == "limit":  # the limit would be the longest bar by far
                continue
            name = row["contender"]
            if part in ("training", "decoding"):
                chats = f", {row['chats']} chats" if row.get("chats", 1) > 1 else ""
                title, value = f"{part}, {row['size']}{chats}: speed, Sprout's is 1", 1 / row["ratio"]
            elif part == "quality":
                title, value = f"after {row['seconds']:g} s: Sprout's bits per byte over its own", 1 / row["ratio"]
            else:
                peer = "rustbpe" if row["what"] == "learn" else "one thread" if name.endswith("threads") else "tiktoken"
                title, value = f"{row['what']}, {row['text']}: speed, {peer}'s is 1", row["ratio"]
            groups.setdefault(title, []).append((name, value, name.lower().startswith(("sprout", "ours"))))
        out += [(title, bars) for title, bars in groups.items() if len(bars) > 1]
    return out


def draw(parts: Mapping[str, Sequence[Row]]) -> bytes:
    """A PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = panels(parts)
    heights = [0.28 * len(bars) + 0.75 for _, bars in found] or [1.0]
    figure = Figure(figsize=(8.0, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    many: Any = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, bars) in zip(many, found, strict=False):
        names, values = [name for name, _, _ in bars], [value for _, value, _ in bars]
        axes.barh(names, values, color=[OURS if own else PEER for _, _, own in bars])
        axes.invert_yaxis()
        axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        for y, value in enumerate(values):
            axes.text(value, y, f" {value:.2f}", va="center", color=INK, fontsize=8)
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.set_xlim(0, 1.12 * max(values))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    if not found:
        many[0].text(0.5, 0.5, "nobody to compare with was there", ha="center", va="center")
        many[0].axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
