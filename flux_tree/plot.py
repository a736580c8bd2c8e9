"""A broadcast as a picture: when each rank waited and received, beside the tree."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import draw
from .errors import DestinationError, UsageError
from .plan import ABSENT
from .units import format_bytes, format_seconds

if TYPE_CHECKING:
    from ._records import Result

__all__ = ["check_picture", "plot_result"]

#: Fields between which a bar has one colour, in the order of time: from, to, colour, legend.
RECEIVER_PARTS = (
    ("started", "first_byte", "#d3d8de", "waits for the first byte"),
    ("first_byte", "last_byte", "#3b6ea5", "receives"),
    ("last_byte", "verified", "#e08214", "checks the whole"),
    ("verified", "renamed", "#b8dcc4", "done, waits for the others"),
)
ROOT_PARTS = (("started", "verified", "#7b6ba8", "rank 0 reads the source"), RECEIVER_PARTS[3])
LIMIT = "#c0392b"
PREDICTED = "#1b1b1b"
RELAY = "#a9b4c0"

# inches
WIDTH = 11.0
ROW, MIN_ROWS, MAX_ROWS = 0.2, 0.7, 9.5
TOP, BOTTOM = 1.05, 0.6
TITLE, SUBTITLE, LEGEND, HEADINGS = 0.08, 0.34, 0.56, 0.9
TREE_MIN, TREE_MAX, TREE_STEP = 1.1, 3.0, 0.28
SIDE, LABELS = 0.15, 0.65
MORE_TREES = 1.8
#: What is shorter than this part of the whole time cannot be seen, and needs no legend.
VISIBLE = 0.002
#: The largest mark of what was predicted, and how much of a bar's height it has, points.
MARK, MARK_PART = 4.5, 0.45
#: Points that a label of a rank needs above and below each other.
LABEL_STEP = 9.0
#: The other trees of a plan are drawn too, up to these many trees and ranks.
MAX_TREES, MAX_TREE_RANKS = 5, 64


def plot_result(result: Result, path: str | PathLike[str]) -> None:
    """Draw when each rank received, beside the tree, into a file.

    One bar a rank, in the order of the plan's first tree, which stands at the left with its ranks
    in line with the bars. The limit is a vertical line, and if it is predicted when a rank should
    have had all, a mark is there. The other trees of a plan of few ranks and trees are drawn below.

    Parameters
    ----------
    result : Result
        Of a broadcast.
    path : path-like
        File to write; its ending chooses the format: .png, .svg, .pdf.

    Raises
    ------
    UsageError
        If matplotlib is missing, or does not write such files.
    DestinationError
        If the file cannot be written.
    """
    parents = result.plan.parents
    there = int(np.count_nonzero(parents[0] != ABSENT))
    more = len(parents) - 1 if len(parents) <= MAX_TREES and there <= MAX_TREE_RANKS else 0
    if there == 1:
        more = 0
    bars = min(max(ROW * there, MIN_ROWS), MAX_ROWS)
    height = TOP + bars + BOTTOM + (MORE_TREES if more else 0)
    tree = min(max(TREE_STEP * (result.plan.depth + 2), TREE_MIN), TREE_MAX)
    figure = draw.new_figure(WIDTH, height)
    left = SIDE + tree + LABELS

    def box(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        """Return inches from the top left corner in the figure's own terms."""
        return x / WIDTH, 1 - (y + h) / height, w / WIDTH, h / height

    rows = draw.tree_rows(parents[0])
    tree_ax = figure.add_axes(box(SIDE, TOP, tree, bars))
    time_ax = figure.add_axes(box(left, TOP, WIDTH - left - SIDE, bars))
    _draw_tree(tree_ax, result, rows, there)
    _draw_bars(time_ax, result, rows, 72 * bars / there)
    _label_rows(time_ax, result, rows, 72 * bars / there)
    for ax in (tree_ax, time_ax):
        ax.set_ylim(there - 0.5, -0.5)
    _write_title(figure, result, height)
    _write_legend(figure, time_ax, height)
    if len(parents) > 1:
        _write(figure, SIDE, HEADINGS, height, f"tree 1 of {len(parents)}", fontsize=8)
    _write(figure, left - 0.07, HEADINGS, height, "rank", fontsize=8, ha="right")
    for number in range(1, more + 1):
        w = (WIDTH - 2 * SIDE) / more
        top = TOP + bars + BOTTOM + 0.25
        ax = figure.add_axes(box(SIDE + (number - 1) * w, top, w - 0.1, MORE_TREES - 0.3))
        draw.draw_tree(ax, parents[number])
        ax.set_title(f"tree {number + 1} of {len(parents)}", fontsize=8, color="#444444")
    draw.save_figure(figure, path)


def check_picture(path: str | PathLike[str]) -> None:
    """Refuse, before any work, a picture that could not be written after it.

    Parameters
    ----------
    path : path-like
        File that is to be written.

    Raises
    ------
    UsageError
        If matplotlib is missing, or does not write such files.
    DestinationError
        If there is no such directory.
    """
    kinds = draw.new_figure(1.0, 1.0).canvas.get_supported_filetypes()
    kind = Path(path).suffix[1:].lower()
    if kind not in kinds:
        raise UsageError(
            f"'{path}': no picture of kind '{kind}', use one of {', '.join(sorted(kinds))}"
        )
    if not Path(path).parent.is_dir():
        raise DestinationError(f"'{path}': there is no directory '{Path(path).parent}', make it")


def _draw_tree(ax: Any, result: Result, rows: NDArray[np.int32], there: int) -> None:
    plan = result.plan
    colors = np.where(plan.deliver | (np.arange(plan.size) == 0), draw.NODE, RELAY)
    ax.set_ylim(there - 0.5, -0.5)
    draw.draw_tree(
        ax, plan.parents[0], orient="rows", rows=rows, colors=colors, labels=lambda _: ""
    )
    deepest = int(plan.depths[0].max())
    ax.set_xlim(-0.4, max(deepest, 1) + 0.4)


def _draw_bars(ax: Any, result: Result, rows: NDArray[np.int32], points: float) -> None:
    records = result.records
    took_part = rows >= 0
    root = records["rank"] == 0
    thick = 0.72 if took_part.sum() <= 100 else 1.0  # gaps of less than a pixel flicker
    predicted = np.full(len(records), np.nan)
    if result.explanation is not None:
        predicted = result.explanation.predicted
    times = (predicted, *(records[name] for name in ("started", "verified", "renamed")))
    end = max(result.limit or 0.0, *map(_last, times))
    for mask, parts in ((took_part & ~root, RECEIVER_PARTS), (took_part & root, ROOT_PARTS)):
        for start, stop, color, text in parts:
            low, span = records[start][mask], (records[stop] - records[start])[mask]
            known = np.isfinite(span)
            if not known.any():
                continue
            ax.barh(
                rows[mask][known],
                span[known],
                thick,
                low[known],
                color=color,
                linewidth=0,
                label=text if span[known].max() >= VISIBLE * end else None,
            )
    marked = took_part & np.isfinite(predicted)
    if marked.any():
        ax.plot(
            predicted[marked],
            rows[marked],
            "D",
            color=PREDICTED,
            markersize=min(MARK, MARK_PART * points),
            markeredgecolor="white",
            markeredgewidth=min(0.6, 0.06 * points),
            label="predicted",
            zorder=4,
        )
    if result.limit is not None:
        ax.axvline(
            result.limit,
            color=LIMIT,
            linewidth=1.4,
            label=f"the limit, {format_seconds(result.limit)}",
            zorder=3,
        )
    ax.set_xlim(0, 1.02 * end or 1.0)
    ax.set_xlabel("seconds since the broadcast began", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _last(times: NDArray[np.float64]) -> float:
    return float(np.max(times, initial=0.0, where=np.isfinite(times)))


def _label_rows(ax: Any, result: Result, rows: NDArray[np.int32], points: float) -> None:
    """Name the rank of each row, or of every so many rows where there is no room."""
    order = np.argsort(rows, kind="stable")[np.count_nonzero(rows < 0) :]
    step = 1
    while step * points < LABEL_STEP:
        step = step * 2 if str(step)[0] != "2" else step * 5 // 2
    plan = result.plan
    texts = [
        f"{rank}" if plan.deliver[rank] or rank == 0 else f"relay {rank}"
        for rank in order[::step].tolist()
    ]
    ax.set_yticks(np.arange(0, len(order), step), texts, fontsize=7)
    ax.tick_params(axis="y", length=0)


def _write_title(figure: Any, result: Result, height: float) -> None:
    s = result.summary()
    percent = s["limit_percent"]
    slowest = "nobody got it"
    if s["slowest_s"] is not None:
        slowest = f"slowest {format_seconds(s['slowest_s'])} (rank {s['slowest_rank']})"
    parts = [
        *(["FAILED"] if result.error else []),
        slowest,
        *([] if percent is None else [f"{percent:.3g}% of the limit"]),
        f"{s['stripes']} tree{'' if s['stripes'] == 1 else 's'}, depth {s['depth']}",
        f"security {s['security']}",
        f"engine {s['engine']}",
        *([f"transport {s['transport']}"] if s["engine"] == "flux" else []),
    ]
    title = f"{s['strategy']}: {format_bytes(s['bytes'])} to {result.plan.audience}"
    _write(figure, SIDE, TITLE, height, title, fontsize=12, fontweight="bold", color="black")
    _write(figure, SIDE, SUBTITLE, height, "   ".join(parts), fontsize=9)


def _write_legend(figure: Any, ax: Any, height: float) -> None:
    handles, texts = ax.get_legend_handles_labels()
    unique = dict(zip(texts, handles))
    figure.legend(
        unique.values(),
        unique.keys(),
        loc="upper left",
        bbox_to_anchor=(SIDE / WIDTH, 1 - LEGEND / height),
        ncols=len(unique),
        fontsize=7.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.5,
        borderaxespad=0.0,
        borderpad=0.0,
    )


def _write(figure: Any, x: float, y: float, height: float, text: str, **style: Any) -> None:
    """Write text whose top stands `y` inches below that of the figure."""
    style = {"color": "#444444", "va": "top", **style}
    text = text.replace("$", r"\$")  # a strategy of a user's file is no formula
    figure.text(x / WIDTH, 1 - y / height, text, **style)
