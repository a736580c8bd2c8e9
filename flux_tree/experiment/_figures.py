"""The frame that all pictures of a report have: title, legend, panels; and their colours."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import draw
from ._compare import Spread
from ._table import natural

__all__ = [
    "GREY",
    "GRID",
    "LETTER",
    "LIMIT",
    "TEXT",
    "Picture",
    "Sheet",
    "colors_of",
    "dot",
    "finish",
    "line",
    "literal",
    "marks",
    "slant",
    "whiskers",
]

#: Also in `flux_tree.plot`: what the limit is drawn in.
LIMIT = "#c0392b"
GRID = "#e6e6e6"
TEXT = "#444444"
GREY = "#6b7580"
BINOMIAL = "#e08214"
OTHERS = ("#7b6ba8", "#b0413e", "#8c6d31", "#d3699a", "#5c6670")

# inches
WIDTH = 6.6
RIGHT = 0.1
TITLE, LEGEND_ROW, HEADING = 0.32, 0.19, 0.28
#: Of one character, and of a handle with its gaps, of a legend.
LETTER, HANDLE = 0.066, 0.38
#: From here on, times are drawn on a logarithmic axis.
LOG_FROM = 25.0


@dataclass(frozen=True)
class Picture:
    """A picture that is ready.

    Attributes
    ----------
    name : str
        Of its file, without the ending.
    title : str
        What it shows.
    caption : str
        How to read it, in a line.
    svg : bytes
        The picture.
    """

    name: str
    title: str
    caption: str
    svg: bytes


class Sheet:
    """A figure with a title, a legend above, and panels in a grid.

    Parameters
    ----------
    title : str
        What it shows.
    headings : sequence of str
        One for each panel, "" for none.
    columns : int, default 1
        Panels beside each other.
    height : float, default 2.3
        Of a panel, in inches.
    legend : sequence of (handle, str), optional
        What colours and marks stand for.
    left : float, default 0.62
        Room for what stands left of each panel, in inches.
    bottom : float, default 0.48
        The same below.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    axes : list of matplotlib.axes.Axes
        One for each panel.
    columns : int
        As given.
    """

    def __init__(
        self,
        title: str,
        headings: Sequence[str],
        *,
        columns: int = 1,
        height: float = 2.3,
        legend: Sequence[tuple[Any, str]] = (),
        left: float = 0.62,
        bottom: float = 0.48,
    ) -> None:
        self.columns = columns
        rows = math.ceil(len(headings) / columns)
        heading = HEADING if any(headings) else 0.08
        longest = max((len(text) for _, text in legend), default=0)
        ncols = max(1, int((WIDTH - 0.1) / (LETTER * longest + HANDLE)))
        above = TITLE + LEGEND_ROW * math.ceil(len(legend) / ncols)
        total = above + rows * (heading + height + bottom)
        width = (WIDTH - RIGHT) / columns - left
        self.figure = draw.new_figure(WIDTH, total)
        self.figure.text(
            0.05 / WIDTH, 1 - 0.05 / total, literal(title), fontsize=10, fontweight="bold", va="top"
        )
        if legend:
            self.figure.legend(
                [handle for handle, _ in legend],
                [literal(text) for _, text in legend],
                loc="upper left",
                bbox_to_anchor=(0.05 / WIDTH, 1 - TITLE / total),
                ncol=min(ncols, len(legend)),
                fontsize=7.5,
                frameon=False,
                handlelength=1.3,
                handletextpad=0.5,
                columnspacing=1.2,
                labelspacing=0.35,
                borderaxespad=0.0,
                borderpad=0.0,
            )
        self.axes = []
        for number, text in enumerate(headings):
            row, column = divmod(number, columns)
            top = above + row * (heading + height + bottom) + heading
            ax = self.figure.add_axes(
                (
                    (left + column * (left + width)) / WIDTH,
                    1 - (top + height) / total,
                    width / WIDTH,
                    height / total,
                )
            )
            ax.set_title(literal(text), fontsize=8.5, color=TEXT, loc="left", pad=5)
            ax.tick_params(labelsize=8, color=TEXT)
            ax.grid(axis="y", color=GRID, linewidth=0.6)
            ax.set_axisbelow(True)
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
            for side in ("left", "bottom"):
                ax.spines[side].set_color("#9aa5b1")
            self.axes.append(ax)

    def times(
        self,
        values: Iterable[float],
        *,
        label: str = "seconds",
        axis: str = "y",
        bars: bool = False,
    ) -> bool:
        """Give all panels one axis for these values: from 0, or logarithmic if they differ much.

        Parameters
        ----------
        values : iterable of float
            All that is drawn.
        label : str, default "seconds"
            What they are.
        axis : {"x", "y"}, default "y"
            Which axis.
        bars : bool, default False
            They are bars, which have to begin at 0.

        Returns
        -------
        bool
            Whether it is logarithmic.
        """
        known = [v for v in values if v > 0]
        if not known:
            return False
        low, high = min(known), max(known)
        log = not bars and high > LOG_FROM * low
        for number, ax in enumerate(self.axes):
            limits = getattr(ax, f"set_{axis}lim")
            if log:
                getattr(ax, f"set_{axis}scale")("log")
                limits(low / 1.4, high * 1.4)
                _plain_log(getattr(ax, f"{axis}axis"), low, high)
            else:
                limits(0, high * 1.06)
            if axis == "x" or number % self.columns == 0:
                self.label(number, label, axis)
        return log

    def label(self, number: int, text: str, axis: str) -> None:
        """Write what an axis is in."""
        getattr(self.axes[number], f"set_{axis}label")(literal(text), fontsize=8.5, color=TEXT)


def finish(sheet: Sheet, name: str, title: str, caption: str) -> Picture:
    """Return a sheet as a picture."""
    with tempfile.TemporaryDirectory(prefix="flux-tree-") as folder:
        path = Path(folder) / "picture.svg"
        draw.save_figure(sheet.figure, path)
        return Picture(name, title, caption, path.read_bytes())


def colors_of(shapes: Iterable[str]) -> dict[str, Any]:
    """Return a colour for each tree: kary in order of K from dark to light, the others apart."""
    import matplotlib

    names = sorted(set(shapes), key=natural)
    kary = [name for name in names if name.startswith("kary-")]
    found: dict[str, Any] = {}
    for place, name in enumerate(kary):
        found[name] = matplotlib.colormaps["viridis"](0.92 * place / max(len(kary) - 1, 1))
    others = [name for name in names if name not in found and name != "binomial"]
    for place, name in enumerate(others):
        found[name] = OTHERS[place % len(OTHERS)]
    if "binomial" in names:
        found["binomial"] = BINOMIAL
    return {name: found[name] for name in names}


def dot(text: str, color: Any) -> tuple[Any, str]:
    """Return what a legend shows for a tree."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, marker="o", markersize=4.5, linestyle="none"), text


def line(text: str) -> tuple[Any, str]:
    """Return what a legend shows for the line of the limit."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=LIMIT, linewidth=1.2), text


def whiskers(points: Sequence[Spread]) -> list[list[float]] | None:
    """Return how far the values reach below and above their medians; None for single values."""
    if all(p.number == 1 for p in points):
        return None
    return [[p.median - p.low for p in points], [p.high - p.median for p in points]]


def marks(
    ax: Any, places: Sequence[float], points: Sequence[Spread], size: float = 4.5, **style: Any
) -> None:
    """Draw medians, with whiskers from the lowest to the highest.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where.
    places : sequence of float
        The x of each.
    points : sequence of Spread
        The y of each.
    size : float, default 4.5
        Of the marks.
    **style
        Colour, line and marker, as matplotlib names them; no line, dots if not given.
    """
    ax.errorbar(
        places,
        [p.median for p in points],
        whiskers(points),
        **{"linestyle": "none", "linewidth": 1.0, "marker": "o", **style},
        markersize=size,
        elinewidth=0.9,
        zorder=3,
    )


def slant(ax: Any) -> None:
    """Write what stands along the x axis slanted, so that more of it fits."""
    for tick in ax.get_xticklabels():
        tick.set(rotation=45, ha="right", rotation_mode="anchor")


def literal(text: str) -> str:
    """Return text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _plain_log(axis: Any, low: float, high: float) -> None:
    """Number a logarithmic axis as people write numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1, 2, 5) if high < 300 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
