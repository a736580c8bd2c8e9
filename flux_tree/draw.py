"""Pictures of trees, with matplotlib."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._native import lib, pointer
from .errors import DestinationError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .topology import Labels

__all__ = ["draw_tree", "new_figure", "save_figure", "save_tree", "tree_layout", "tree_rows"]

#: Points between neighbours from which on there is room for a rank in a node, or beside it.
ROOM_INSIDE, ROOM_BESIDE = 14.0, 7.0
#: Inches; beyond, a drawing gets denser instead of larger.
MAX_WIDTH, MAX_HEIGHT = 24.0, 16.0

NODE = "#3b6ea5"
EDGE = "#9aa5b1"


def tree_rows(parents: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the row of each rank in a drawing with one rank per line, parents first.

    Parameters
    ----------
    parents : ndarray of int32, shape (n,)
        A good tree; ranks with parent -2 take no part.

    Returns
    -------
    ndarray of int32, shape (n,)
        0 for the root; -1 for ranks that take no part.
    """
    order = np.empty(len(parents), np.int32)
    count = lib.tree_preorder(
        pointer("int32_t *", parents), len(parents), pointer("int32_t *", order)
    )
    if count < 0:
        raise MemoryError(f"tree: out of memory for {len(parents)} ranks")
    rows = np.full(len(parents), -1, np.int32)
    rows[order[:count]] = np.arange(count, dtype=np.int32)
    return rows


def tree_layout(parents: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return where to put each rank: leaves side by side, every parent over its children's middle.

    Parameters
    ----------
    parents : ndarray of int32, shape (n,)
        A good tree; ranks with parent -2 take no part.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        x from 0 to the number of leaves less 1, and the depth; NaN for ranks that take no part.
    """
    rows = tree_rows(parents)
    order = np.argsort(rows, kind="stable")[np.count_nonzero(rows < 0) :].tolist()
    up = parents.tolist()
    depth = [0] * len(up)
    low: dict[int, float] = {}  # x of the first and of the last child
    high: dict[int, float] = {}
    for rank in order[1:]:
        depth[rank] = depth[up[rank]] + 1
    xy = np.full((len(up), 2), np.nan)
    free = len(set(order) - {up[rank] for rank in order}) - 1  # leaves are placed from the right
    for rank in reversed(order):
        if rank in low:
            x = (low[rank] + high[rank]) / 2
        else:
            x = float(free)
            free -= 1
        xy[rank] = x, depth[rank]
        high.setdefault(up[rank], x)
        low[up[rank]] = x
    return xy


def draw_tree(
    ax: Axes,
    parents: NDArray[np.int32],
    *,
    orient: str = "down",
    rows: NDArray[np.int32] | None = None,
    colors: Any = None,
    labels: Labels = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Any:
    """Draw a tree onto the axes of a figure.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw. Its frame and ticks are taken away, save what is right of rows.
    parents : ndarray of int32, shape (n,)
        A good tree, of a topology or one of a plan; ranks with parent -2 are left out.
    orient : {"down", "rows"}, default "down"
        The root above its children; or one line per rank, root first, with the depth to the
        right, to stand beside a timeline that has the same rows.
    rows : ndarray of int32, shape (n,), optional
        For "rows", the y of each rank; `tree_rows` of the parents if not given.
    colors : array_like, shape (n,), optional
        One colour per rank, or numbers for `cmap`.
    labels : sequence of str or callable, optional
        What to write at each rank. Without, the ranks, where there is room for them.
    cmap : str, default "viridis"
        Colour map, where `colors` are numbers.
    vmin, vmax : float, optional
        Ends of the colour map; those of the numbers if not given.

    Returns
    -------
    matplotlib.collections.PathCollection
        The nodes, as for a colour bar.

    Raises
    ------
    UsageError
        If matplotlib is missing, or `orient` is none of the two.
    """
    if orient not in ("down", "rows"):
        raise UsageError(f"tree: orient '{orient}' is unknown, use 'down' or 'rows'")
    _require_matplotlib()
    from matplotlib.collections import LineCollection

    xy = tree_layout(parents)
    if orient == "rows":
        xy = np.column_stack((xy[:, 1], tree_rows(parents) if rows is None else rows))
    there = np.flatnonzero(parents != lib.TREE_ABSENT)
    child = there[there > 0]
    top, bottom = xy[parents[child]], xy[child]
    if orient == "rows":  # down the parent's column, then right to the child
        corner = np.column_stack((top[:, 0], bottom[:, 1]))
        lines = np.stack((top, corner, bottom), axis=1)
    else:
        lines = np.stack((top, bottom), axis=1)
    if orient == "down":
        ax.set_xlim(np.nanmin(xy[:, 0]) - 0.7, np.nanmax(xy[:, 0]) + 0.7)
        ax.set_ylim(np.nanmax(xy[:, 1]) + 0.35, -0.35)
    room = _room(ax, xy[there])
    ax.add_collection(
        LineCollection(list(lines), colors=EDGE, linewidths=min(0.8, room / 12), zorder=1)
    )
    nodes = ax.scatter(
        xy[there, 0],
        xy[there, 1],
        s=(0.7 * min(max(room, 1.0), 20.0 if orient == "down" else 8.0)) ** 2,
        c=NODE if colors is None else np.asarray(colors)[there],
        cmap=None if colors is None or np.asarray(colors).dtype.kind not in "iuf" else cmap,
        vmin=vmin,
        vmax=vmax,
        zorder=2,
    )
    if labels is not None or room >= (ROOM_INSIDE if orient == "down" else ROOM_BESIDE):
        inside = orient == "down" and labels is None and colors is None
        _write_labels(ax, xy, there, labels, inside=inside, slanted=orient == "down")
    if not ax.yaxis_inverted():  # a timeline that shares the axis may have turned it over before
        ax.invert_yaxis()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_frame_on(False)
    return nodes


def save_tree(
    path: str | PathLike[str],
    parents: NDArray[np.int32],
    *,
    colors: Any = None,
    labels: Labels = None,
    title: str = "",
) -> None:
    """Draw a tree into a file of its own, of the kind that its name says.

    Parameters
    ----------
    path : path-like
        File to write, such as ``tree.svg`` or ``tree.png``.
    parents : ndarray of int32, shape (n,)
        A good tree; ranks with parent -2 are left out.
    colors, labels
        As in `draw_tree`.
    title : str, optional
        What to write above.

    Raises
    ------
    UsageError
        If matplotlib is missing, or does not write such files.
    DestinationError
        If the file cannot be written.
    """
    xy = tree_layout(parents)
    xy = xy[~np.isnan(xy[:, 0])]
    width = min(MAX_WIDTH, max(4.0, 0.36 * (1 + xy[:, 0].max())))
    height = min(MAX_HEIGHT, max(2.0, 0.7 * (1 + xy[:, 1].max()) + 0.4))
    figure = new_figure(width, height)
    ax = figure.add_axes((0.02, 0.03, 0.96, 0.97 - 0.4 / height))
    draw_tree(ax, parents, colors=colors, labels=labels)
    ax.set_title(title, fontsize=10)
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that belongs to no window.

    Parameters
    ----------
    width, height : float
        In inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        If matplotlib is missing.
    """
    _require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def save_figure(figure: Any, path: str | PathLike[str]) -> None:
    """Write `figure` to a file of the kind that its name says.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : path-like
        File to write.

    Raises
    ------
    UsageError
        If matplotlib does not write such files.
    DestinationError
        If the file cannot be written.
    """
    kind = Path(path).suffix[1:].lower()
    kinds = figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise UsageError(
            f"'{path}': no picture of kind '{kind}', use one of {', '.join(sorted(kinds))}"
        )
    try:
        figure.savefig(path, format=kind, dpi=120, bbox_inches="tight")
    except OSError as exc:
        raise DestinationError(f"'{path}': {exc.strerror or exc}, give another file") from exc


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError(
            'pictures need matplotlib, which is not installed: pip install "flux-tree[plot]"'
        ) from None


def _room(ax: Axes, xy: NDArray[np.float64]) -> float:
    """Return how many points there are between neighbours, across or along."""
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return 72 * min(
        float(box.width / (1 + np.ptp(xy[:, 0]))), float(box.height / (1 + np.ptp(xy[:, 1])))
    )


def _write_labels(
    ax: Axes,
    xy: NDArray[np.float64],
    there: NDArray[np.intp],
    labels: Labels,
    *,
    inside: bool,
    slanted: bool,
) -> None:
    for rank in there.tolist():
        text = str(rank) if labels is None else labels(rank) if callable(labels) else labels[rank]
        if inside:
            ax.annotate(text, xy[rank], fontsize=6.5, ha="center", va="center", color="white")
        else:
            ax.annotate(
                text,
                xy[rank],
                xytext=(6, -3 if slanted else 0),
                textcoords="offset points",
                fontsize=6.5,
                rotation=-30 if slanted else 0,
                rotation_mode="anchor",
                va="center",
                color="#222222",
                zorder=3,
            )
