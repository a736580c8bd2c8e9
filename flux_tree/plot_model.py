"""Predictions as a picture: how times grow with the ranks, and with the size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from . import draw
from ._model.compare import default_strategies
from ._model.curves import curves
from ._model.network import Network
from .plot import LIMIT
from .topology import Topology
from .units import format_bytes, format_rate, format_seconds

__all__ = ["plot_predictions"]

#: Colours that are told apart by colour-blind people too: M. Okabe, K. Ito, Color Universal Design
#: (2008), but yellow, and vermillion, which is too near to that of the limit.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7a5c3e")
#: Lines of one colour differ in their dashes and marks.
DASHES = (("-", "o"), ((0, (4, 1.5)), "s"), ((0, (1.5, 1.2)), "^"))
ARCHIVE: dict[str, Any] = {"color": "#222222", "linestyle": "-.", "linewidth": 2.0}
ARCHIVE_LABEL, LIMIT_LABEL = "flux archive, best TBON", "the limit"
GRID, TEXT = "#e6e6e6", "#444444"

# inches
WIDTH, HEIGHT = 12.2, 5.4
PANEL_WIDTH, PANEL_HEIGHT = 3.7, 3.9
LEFT, TOP, LABELS = 0.65, 0.95, 1.75
TITLE, SUBTITLE = 0.08, 0.36
#: Points between labels, and from the end of a line to its label.
LABEL_STEP, LABEL_GAP = 10.0, 16.0
MOST_TICKS = 7


class Line(NamedTuple):
    """A line of a panel."""

    label: str
    times: Sequence[float]
    style: dict[str, Any]


def plot_predictions(
    path: str | PathLike[str],
    n: int,
    size: int,
    network: Network,
    strategies: Iterable[Any] | None = None,
    topology: Topology | None = None,
    *,
    chunk_size: int | str | None = None,
    security: str = "tls",
) -> None:
    """Draw the times of strategies in closed form, over the number of ranks and over the size.

    The left panel has `size` bytes to 2, 4, 8 ... `n` ranks, the right one other sizes to `n`
    ranks. Beside the strategies there are `flux archive` on the topology that is best at each
    point, and the limit.

    Parameters
    ----------
    path : path-like
        File to write; its ending chooses the format: .png, .svg, .pdf.
    n : int
        Ranks, 2 or more.
    size : int
        Of the payload, bytes, above 0.
    network : Network
        Between which machines.
    strategies, topology, chunk_size, security
        As for `flux_tree.model.compare`.

    Raises
    ------
    UsageError
        If nothing moves, matplotlib is missing, or does not write such files.
    DestinationError
        If the file cannot be written.
    """
    chosen = default_strategies(topology) if strategies is None else strategies
    found = curves(n, size, network, chosen, topology, chunk_size=chunk_size, security=security)
    figure = draw.new_figure(WIDTH, HEIGHT)
    _write(figure, TITLE, f"{format_bytes(size)} to {n:,} ranks", fontsize=12, fontweight="bold")
    _write(figure, SUBTITLE, _numbers(network, security), fontsize=9, color=TEXT)
    ax = _panel(figure, 0, f"{format_bytes(size)}, by the number of ranks")
    _draw(ax, found.ranks, _lines(found.by_ranks, found.archive_by_ranks, found.limit_by_ranks))
    _ticks(ax, _count_ticks(found.ranks), "{:,}".format)
    ax.set_xlabel("ranks", fontsize=8.5, color=TEXT)
    ax = _panel(figure, 1, f"{n:,} ranks, by the size")
    _draw(ax, found.sizes, _lines(found.by_size, found.archive_by_size, found.limit_by_size))
    _ticks(ax, _size_ticks(found.sizes), format_bytes)
    ax.axvline(size, color="#c9ced4", linewidth=1.2, zorder=0)
    draw.save_figure(figure, path)


def _lines(direct: dict[str, list[float]], archive: list[float], least: list[float]) -> list[Line]:
    lines = []
    for number, (name, times) in enumerate(direct.items()):
        again, place = divmod(number, len(COLORS))
        dashes, marker = DASHES[again % len(DASHES)]
        style = {"color": COLORS[place], "linestyle": dashes, "marker": marker}
        lines.append(Line(name, times, style))
    lines.append(Line(ARCHIVE_LABEL, archive, ARCHIVE))
    lines.append(Line(LIMIT_LABEL, least, {"color": LIMIT, "linestyle": ":", "linewidth": 2.0}))
    return lines


def _panel(figure: Any, number: int, heading: str) -> Any:
    left = LEFT + number * (PANEL_WIDTH + LABELS + LEFT)
    bottom = HEIGHT - TOP - PANEL_HEIGHT
    ax = figure.add_axes(
        (left / WIDTH, bottom / HEIGHT, PANEL_WIDTH / WIDTH, PANEL_HEIGHT / HEIGHT)
    )
    ax.set_title(heading, fontsize=9.5, color=TEXT, loc="left")
    ax.set_ylabel("seconds", fontsize=8.5, color=TEXT)
    ax.grid(color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def _draw(ax: Any, across: Sequence[int], lines: Sequence[Line]) -> None:
    """Draw lines on logarithmic axes, each with its name at its end."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    for line in lines:
        style = {"linewidth": 1.3, "markersize": 3.2, "clip_on": False, **line.style}
        ax.plot(across, line.times, **style)
    times = np.array([line.times for line in lines])
    ax.set_xlim(across[0] if len(across) > 1 else across[0] / 2, across[-1])
    ax.set_ylim(np.nanmin(times) / 1.5, np.nanmax(times) * 1.5)
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    )
    ax.yaxis.set_minor_formatter(NullFormatter())
    ends = [line for line in lines if np.isfinite(line.times[-1])]
    step = LABEL_STEP / (72 * PANEL_HEIGHT)
    points = [ax.transLimits.transform((0, np.log10(line.times[-1])))[1] for line in ends]
    gap = LABEL_GAP / (72 * PANEL_WIDTH)
    for line, at, to in zip(ends, points, spread(points, step)):
        place: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False}
        color = line.style["color"]
        ax.plot((1.0, 1 + 0.8 * gap), (at, to), color=color, linewidth=0.7, **place)
        ax.text(1 + gap, to, _literal(line.label), fontsize=8, color=color, va="center", **place)


def spread(places: Sequence[float], step: float) -> list[float]:
    """Return places for labels from 0 to 1 that are `step` apart and as near as that allows.

    That is the isotonic regression of the places, less a step for each that is below; adjacent
    ones that are too near are put together around their mean.

    Parameters
    ----------
    places : sequence of float
        Where they should be, in any order.
    step : float
        The least distance.

    Returns
    -------
    list of float
        In the order of `places`.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[tuple[float, int]] = []  # mean, number
    for rank, i in enumerate(order):
        mean, number = places[i] - rank * step, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean = (mean * number + other * more) / (number + more)
            number += more
        blocks.append((mean, number))
    room = max(1 - (len(places) - 1) * step, 0)
    means = [min(max(mean, 0), room) for mean, number in blocks for _ in range(number)]
    found = [0.0] * len(places)
    for rank, i in enumerate(order):
        found[i] = means[rank] + rank * step
    return found


def _ticks(ax: Any, places: Sequence[int], text: Callable[[int], str]) -> None:
    from matplotlib.ticker import NullLocator

    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(places, [text(place) for place in places])
    ax.tick_params(labelsize=8)


def _count_ticks(ranks: Sequence[int]) -> list[int]:
    """Return some of the powers of two, and the last number."""
    every = -(-len(ranks) // MOST_TICKS)
    ticks = list(ranks[:-1][::every])
    while ticks and ranks[-1] < ticks[-1] * 2 ** (0.7 * every):
        ticks.pop()
    return [*ticks, ranks[-1]]


def _size_ticks(sizes: Sequence[int]) -> list[int]:
    """Return powers of two, as many as there is room for."""
    bits = range((sizes[0] - 1).bit_length(), sizes[-1].bit_length())
    every = -(-len(bits) // MOST_TICKS)
    return [1 << bit for bit in bits if bit % every == 0]


def _numbers(network: Network, security: str) -> str:
    racks = []
    if network.groups is not None and network.uplink is not None:
        uplink = format_rate(network.uplink, bits=True)
        racks = [f"{max(network.groups) + 1} racks with uplinks of {uplink}"]
    parts = [
        f"NICs of {format_rate(network.bandwidth, bits=True)}",
        f"{format_seconds(network.latency)} a hop",
        *racks,
        "TLS" if security == "tls" else "not encrypted",
        "as given" if network.origin == "given" else f"measured ({network.origin})",
        "in closed form",
    ]
    return ", ".join(parts)


def _write(figure: Any, y: float, text: str, **style: Any) -> None:
    """Write text whose top stands `y` inches below that of the figure."""
    figure.text(LEFT / WIDTH, 1 - y / HEIGHT, _literal(text), va="top", **style)


def _literal(text: str) -> str:
    return text.replace("$", r"\$")  # a strategy of a user's file is no formula
