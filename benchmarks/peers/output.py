"""The figures as a table, a picture and JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flux_tree.draw import new_figure, save_figure

from .bench import Figures, median

#: Below this share of idle time the processors were the limit, not the NICs.
BUSY = 0.1

SLOWEST, COMMAND, CREATED = "#3b6ea5", "#9dbbd8", "#d9e3ec"

Runs = dict[str, list[Figures]]


def table(runs: Runs, line: float) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    runs : dict
        The figures of each repetition, by peer.
    line : float
        Line time, seconds.

    Returns
    -------
    list of str
    """
    heads = ("slowest", "command", "and create")
    top = f"{'':20}" + "".join(f"{h + ' s':>14}{'ratio':>7}" for h in heads)
    lines = [f"{top}{'cpu s':>8}{'idle':>6}{'sent':>7}"]
    for name, figures in runs.items():
        f = median(figures)
        times = "".join(_time(t, line) for t in (f.slowest, f.command, f.created))
        note = "  processors were the limit" if f.idle < BUSY else ""
        lines.append(f"{name:20}{times}{f.cpu:8.1f}{f.idle:6.0%}{f.sent:7.2f}{note}")
    return lines


def _time(seconds: float | None, line: float) -> str:
    return f"{'-':>14}{'-':>7}" if seconds is None else f"{seconds:14.2f}{seconds / line:7.2f}"


def save_plot(path: str, runs: Runs, line: float, title: str) -> None:
    """Draw the times of all peers, slowest last, as ratios to line time.

    Parameters
    ----------
    path : str
        File to write.
    runs, line
        As in `table`.
    title : str
        What to write above.

    Raises
    ------
    UsageError, DestinationError
        As of `flux_tree.draw.save_figure`.
    """
    got = sorted(((n, median(f)) for n, f in runs.items()), key=lambda x: x[1].first)
    height = 1.2 + 0.26 * len(got)
    figure = new_figure(8.0, height)
    ax = figure.add_axes((0.2, 0.5 / height, 0.75, 1 - 1.0 / height))
    bars = (("created", CREATED), ("command", COMMAND), ("slowest", SLOWEST))
    labels = {
        "slowest": "until the slowest host has it",
        "command": "the whole command",
        "created": "with the archive made",
    }
    for key, color in bars:  # each over the ones that include it
        values = [(i, getattr(f, key) / line) for i, (_, f) in enumerate(got) if getattr(f, key)]
        if values:
            ax.barh(*zip(*values), height=0.7, color=color, label=labels[key])
    for i, (_, f) in enumerate(got):
        end = max(t for t in (f.slowest, f.command, f.created) if t) / line
        note = ", processors busy" if f.idle < BUSY else ""
        ax.annotate(
            f"{f.first / line:.2f}{note}",
            (end, i),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
        )
    ax.axvline(1.0, color="#222222", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlim(0.7, 2 * ax.get_xlim()[1])
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_yticks(range(len(got)), [name for name, _ in got], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("time / line time", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=7, frameon=False, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def save_json(path: str, runs: Runs, about: dict[str, Any]) -> None:
    """Write all figures.

    Parameters
    ----------
    path : str
        File to write.
    runs : dict
        The figures of each repetition, by peer.
    about : dict
        What was measured, where.
    """
    peers = {
        name: {**asdict(median(figures)), "runs": [asdict(f) for f in figures]}
        for name, figures in runs.items()
    }
    part = Path(f"{path}.{os.getpid()}")
    part.write_text(json.dumps({**about, "peers": peers}, indent=1) + "\n")
    part.replace(path)
