"""The pictures of a report, as SVG: ink that is readable on light and dark paper, and no background of their own."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

INK = "#808080"  # 4:1 against white and against the dark page
COLOURS = {"pretrain": "#9db8d9", "midtrain": "#5b8fc9", "finetune": "#e0a030", "reinforce": "#d1495b"}
TARGET = 0.95  # of the default run, on every skill

Draw = Callable[[Any], None]


def loss_picture(stages: dict[str, Any]) -> str:
    """The loss of all stages over tokens."""

    def draw(axes: Any) -> None:
        from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

        at = 0.0
        for name, stage in stages.items():
            if curve := stage["curve"]:
                xs, ys = [(at + p["tokens"]) / 1e6 for p in curve], [p["loss"] for p in curve]
                axes.plot(xs, ys, color=COLOURS[name], label=name, linewidth=1.2, marker="o" if len(xs) < 8 else None)
                at += curve[-1]["tokens"]
        axes.set(xlabel="million tokens", ylabel="loss (nats a token)", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        _legend(axes)

    return _svg([draw])


def reward_picture(log: Sequence[dict[str, float]]) -> str:
    """Reward and groups that teach nothing over the steps; beside it how the policy changes."""

    def lines(keys: Sequence[tuple[str, str, str]], **limits: Any) -> Draw:
        def draw(axes: Any) -> None:
            steps = [e["step"] for e in log]
            for key, label, colour in keys:
                axes.plot(steps, [e[key] for e in log], color=colour, label=label, marker="o" if len(steps) < 8 else None)
            axes.set(xlabel="step", **limits)
            axes.legend(frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1.0), ncol=2, fontsize=8)

        return draw

    reward = (("reward", "reward", COLOURS["reinforce"]), ("all_right", "groups all right", COLOURS["midtrain"]),
              ("all_wrong", "groups all wrong", COLOURS["finetune"]))  # fmt: skip
    policy = (("entropy", "entropy (nats a token)", COLOURS["midtrain"]), ("kl", "KL from the start", COLOURS["reinforce"]),
              ("cut", "replies cut off", COLOURS["finetune"]))  # fmt: skip
    return _svg([lines(reward, ylim=(-0.03, 1.03)), lines(policy)])


def skills_picture(stages: dict[str, Any]) -> str:
    """A line for every skill, a dot for every stage; the last one with its 95 % interval and its figure."""
    shown = {k: s for k, s in stages.items() if s.get("skills")}
    last = list(shown)[-1]
    names = list(shown[last]["skills"])

    def draw(axes: Any) -> None:
        axes.axvline(TARGET, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        for y, name in enumerate(names):
            scores = {stage: s["skills"][name] for stage, s in shown.items() if name in s["skills"]}
            rates = [score["rate"] for score in scores.values()]
            axes.plot([min(rates), max(rates)], [y, y], color=INK, linewidth=1, alpha=0.5)
            for stage, score in scores.items():
                axes.plot(score["rate"], y, "o", color=COLOURS[stage], markersize=7 if stage == last else 5)
            final = scores[last]
            axes.plot([final["low"], final["high"]], [y, y], color=COLOURS[last], linewidth=3, alpha=0.5, solid_capstyle="round")
            axes.text(1.05, y, f"{final['rate']:.1%}", va="center", color=INK, fontsize=9)
        for stage in shown:
            axes.plot([], [], "o", color=COLOURS[stage], label=f"after {stage}")
        axes.set(yticks=range(len(names)), yticklabels=[n.replace("_", " ") for n in names], xlim=(-0.02, 1.02),
                 ylim=(len(names) - 0.4, -0.6), xticks=[0, 0.25, 0.5, 0.75, TARGET], xticklabels=["0", "25 %", "50 %", "75 %", "95 %"])  # fmt: skip
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=4, labelcolor=INK, handletextpad=0.2)

    return _svg([draw], 0.34 * len(names) + 0.9)


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=INK)


def _svg(draws: Sequence[Draw], height: float = 3.2) -> str:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    style: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with plt.rc_context(style | {"svg.hashsalt": "sprout"}):
        figure, many = plt.subplots(1, len(draws), figsize=(8.0, height), squeeze=False)
        for axes, draw in zip(many[0], draws, strict=True):
            draw(axes)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]
