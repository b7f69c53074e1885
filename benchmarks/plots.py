"""Plots of the results, with matplotlib where it is installed: SVG, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.machine import summary

# Okabe and Ito's palette
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
REFERENCE = {  # what the bars are relative to; `memory` has curves
    "decode": "HF float32",
    "forward": "HF float32",
    "batch": "HF float32",
    "tokenizer": "tokenizers",
    "learn": "tokenizers",
    "speculative": "minineo, plain",
    "score": "its forward passes",
    "steps": "before",
    "layers": "the reference",
    "threads": "minineo, 1 thread",
    "train": "HF float32",
    "startup": "HF float32",
    "gpu": "HF eager",
}
Report = dict[str, Any]


def draw(reports: dict[str, Report], folder: Path) -> None:
    """Write a plot for each part."""
    if find_spec("matplotlib") is None:
        print('  no plots, since matplotlib cannot be imported: pip install -e ".[bench]"')
        return
    import matplotlib as mpl

    mpl.use("svg")
    # letters stay letters (a small file), and the same figures make the same file
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "minineo", "font.size": 9})
    for part, report in reports.items():
        figure = None
        if part in REFERENCE:
            figure = bars(report, REFERENCE[part])
        elif part == "memory" and report["data"].get("growth"):
            figure = growth(report)
        if figure is not None:
            below = figure.axes[0].get_position().y0 - 0.6 / figure.get_figheight()  # 0.6 inches hold the axis label
            figure.text(0.01, below, summary(report["machine"]), fontsize=6, color="#555555", va="top")
            path = folder / f"{part}.svg"
            figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
            print(f"  written: {path}")


def bars(report: Report, reference: str) -> Any:
    """Speed relative to one peer (None if it did not run), a group for each piece of work; a line at the limit."""
    from matplotlib.figure import Figure

    best = {(t["work"], t["peer"]): min(t["runs"]) for t in report["timings"]}
    works = [work for work in dict.fromkeys(work for work, _ in best) if (work, reference) in best]
    peers = [peer for peer in dict.fromkeys(peer for _, peer in best) if peer != report["limit"]]
    if not works:
        return None
    figure = Figure(figsize=(7.5, 0.8 + 0.17 * len(works) * (len(peers) + 1)))
    axes = figure.add_subplot()
    height = 1 / (len(peers) + 1)
    for i, peer in enumerate(peers):
        rows = [
            (row, best[work, reference] / best[work, peer]) for row, work in enumerate(works) if (work, peer) in best
        ]
        places = [row + i * height for row, _ in rows]
        drawn = axes.barh(places, [ratio for _, ratio in rows], height, label=peer, color=COLOURS[i % len(COLOURS)])
        axes.bar_label(
            drawn, fmt=lambda ratio: f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}", padding=2, fontsize=7
        )
    limits = [(row, best.get((work, report["limit"]))) for row, work in enumerate(works)]
    every = [
        best[work, reference] / seconds for (work, peer), seconds in best.items() if peer in peers and work in works
    ]
    left, right = 0.7 * min(every), 1.6 * max(every)  # where no product is left to do, the limit is far outside
    lines = [(row, min(best[works[row], reference] / seconds, right)) for row, seconds in limits if seconds]
    if lines:
        starts = [row - height / 2 for row, _ in lines]
        ends = [row + (len(peers) - 0.5) * height for row, _ in lines]
        ratios = [ratio for _, ratio in lines]
        axes.vlines(ratios, starts, ends, color="black", label=f"limit: {report['limit']}")
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if left <= tick <= right]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1.0, color="#999999", linewidth=0.8, zorder=0)
    axes.set_yticks([row + (len(peers) - 1) * height / 2 for row in range(len(works))], works)
    axes.invert_yaxis()
    axes.set_xlabel(f"times as fast as {reference} (longer is better)")
    axes.set_title(report["title"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def growth(report: Report) -> Any:
    """Time and memory over the length, both axes logarithmic: the slope is the exponent."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8))
    figure.subplots_adjust(bottom=0.2, wspace=0.3)
    for column, (what, title, scale) in enumerate((("seconds", "seconds", 1.0), ("bytes", "memory, MB", 1e-6))):
        axes = figure.add_subplot(1, 2, column + 1)
        for i, (name, curve) in enumerate(report["data"]["growth"].items()):
            points = [(x, scale * y) for x, y in zip(curve["length"], curve[what], strict=True) if y]
            if not points:
                continue
            style = "-" if "local" in name else "--"
            axes.plot(*zip(*points, strict=True), style, marker="osD^"[i % 4], color=COLOURS[i], label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        lengths = next(iter(report["data"]["growth"].values()))["length"]
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xlabel("tokens")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)
    return figure
