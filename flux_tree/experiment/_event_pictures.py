"""The pictures of the study, one for each event and number of nodes; ranks, pings and trees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import draw
from ..errors import FluxTreeError
from ..topology import Topology
from ..units import format_bytes
from ._compare import Series, by_series, by_shape, labels, series_of, shape_of, spread, tree_of
from ._figures import Picture, Sheet, colors_of, dot, finish, marks, whiskers
from ._measured import Arrival, Ping
from ._pictures import MAX_PANELS, largest
from ._table import Table, natural, spec_of

__all__ = ["by_depth", "event_picture", "ping_picture", "tree_sheet"]

#: Trees in the sheet that draws them, and ranks from which on a tree is not drawn.
MAX_TREES, MAX_RANKS = 24, 2048
#: More dots than this in a panel are drawn as pixels, or the picture gets large.
MAX_DOTS = 500


def event_picture(table: Table, event: str, nodes: int) -> Picture:
    """Draw one event to some number of nodes as the study does: bars by size, a colour a topology.

    Random data and zeros stand beside each other, everything else that differs below.

    Parameters
    ----------
    table : Table
        Rows that did not fail.
    event : str
        The event, of which there are rows.
    nodes : int
        Number of nodes.
    """
    rows = table.where(event=event, nodes=nodes)
    groups = by_series(rows)
    names = labels(groups)
    both = len(rows.values("data")) > 1
    columns = 2 if both else 1
    panels = _panels(list(groups), both)
    shapes = list(by_shape(rows))
    colors = colors_of(shapes)
    title = f"{event}, {nodes} nodes"
    headings = [names[s] if s and len(groups) > 1 else "" for s in panels]
    sheet = Sheet(
        title,
        headings,
        columns=columns,
        height=1.9,
        legend=[dot(shape, color) for shape, color in colors.items()],
    )
    sizes = rows.values("bytes")
    width = 0.84 / len(shapes)
    for number, (ax, series) in enumerate(zip(sheet.axes, panels)):
        if series is None:
            ax.set_axis_off()
            continue
        for place, (shape, members) in enumerate(by_shape(groups[series]).items()):
            place = shapes.index(shape)
            there = members.values("bytes")
            points = [
                spread(row.time_seconds for row in members.where(bytes=size)) for size in there
            ]
            offset = (place - (len(shapes) - 1) / 2) * width
            ax.bar(
                [sizes.index(size) + offset for size in there],
                [p.median for p in points],
                width,
                color=colors[shape],
                yerr=whiskers(points),
                error_kw={"elinewidth": 0.7, "ecolor": "#30363d"},
                linewidth=0,
            )
        ax.set_xticks(range(len(sizes)), [format_bytes(size) for size in sizes])
        ax.tick_params(axis="x", length=0, rotation=35 if columns > 1 and len(sizes) > 4 else 0)
        ax.set_xlim(-0.55, len(sizes) - 0.45)
        if number + columns >= len(panels):
            sheet.label(number, "size of the data", "x")
    sheet.times([row.time_seconds for row in rows], bars=True)
    return finish(
        sheet,
        f"{event}-nodes-{nodes}",
        title,
        "Bars are medians of the iterations; the thin lines go from the fastest to the slowest.",
    )


def by_depth(
    arrivals: list[Arrival], deliveries: Table, nodes: int, notes: list[str]
) -> Picture | None:
    """Draw when each rank had everything, by its depth, at the largest size.

    Parameters
    ----------
    arrivals : list of Arrival
        Of cells that did not fail, on one backend.
    deliveries : Table
        The deliveries to that number of nodes, on that backend.
    nodes : int
        Number of nodes.
    notes : list of str
        Gets a line if there is no picture.
    """
    sizes = largest(deliveries, nodes).values("bytes")
    backend = deliveries.values("backend")[0]
    found: dict[Series, dict[str, list[Arrival]]] = {}
    for a in arrivals:
        if a.nodes == nodes and a.bytes in sizes and a.rank and not math.isnan(a.verified_seconds):
            found.setdefault(series_of(a), {}).setdefault(shape_of(a), []).append(a)
    if not found:
        notes.append(
            f"Receive by depth, {nodes} nodes, {backend}: ranks were not timed one by one."
        )
        return None
    panels = sorted(found, key=lambda s: (s.backend, s.transport, s.strategy, s.data))[:MAX_PANELS]
    names = labels(panels)
    colors = colors_of({shape for shapes in found.values() for shape in shapes})
    title = f"{format_bytes(sizes[0])} to {nodes} nodes, {backend}, by the depth of the rank"
    columns = 2 if len(panels) > 1 else 1
    sheet = Sheet(
        title,
        [names[s] if len(panels) > 1 else "" for s in panels],
        columns=columns,
        height=2.1,
        legend=[dot(shape, color) for shape, color in colors.items()],
    )
    values = []
    for number, (ax, series) in enumerate(zip(sheet.axes, panels)):
        for place, shape in enumerate(sorted(found[series], key=natural)):
            members = found[series][shape]
            depth = np.array([a.depth for a in members], float)
            time = np.array([a.verified_seconds for a in members])
            values.extend(time.tolist())
            beside = 0.3 * ((place + 0.5) / len(found[series]) - 0.5)
            ax.plot(
                depth + beside,
                time,
                ".",
                color=colors[shape],
                alpha=0.35,
                markersize=3,
                zorder=2,
                rasterized=len(found[series]) * len(members) > MAX_DOTS,
            )
            levels = np.unique(depth)
            middle = [float(np.median(time[depth == level])) for level in levels]
            style = "-" if len(levels) > 1 else "none"
            ax.plot(
                levels + beside,
                middle,
                "o",
                color=colors[shape],
                linestyle=style,
                linewidth=1.1,
                markersize=3.5,
                zorder=3,
            )
        ax.xaxis.get_major_locator().set_params(integer=True)
        sheet.label(number, "depth in the tree", "x")
    sheet.times(values)
    return finish(
        sheet,
        f"receive-by-depth-nodes-{nodes}-{backend}",
        title,
        "Small dots are ranks, the line their median. A level line: the depth costs nothing, all"
        " receive at the same time; a rise is what each further hop adds.",
    )


def ping_picture(pings: list[Ping], nodes: int) -> Picture | None:
    """Draw the round trip to each broker by its depth, a panel for each service and size."""
    there = [ping for ping in pings if ping.nodes == nodes]
    keys = sorted({(p.backend, p.service, p.bytes) for p in there})[:MAX_PANELS]
    if not keys:
        return None
    colors = colors_of({p.topology for p in there})
    several = len({key[0] for key in keys}) > 1
    headings = [
        f"{service}, {format_bytes(size)}" + (f", {backend}" if several else "")
        for backend, service, size in keys
    ]
    title = f"Round trip of a ping, {nodes} nodes"
    sheet = Sheet(
        title,
        headings,
        columns=2 if len(keys) > 1 else 1,
        height=1.9,
        legend=[dot(shape, color) for shape, color in colors.items()],
    )
    for number, (ax, key) in enumerate(zip(sheet.axes, keys)):
        members = [p for p in there if (p.backend, p.service, p.bytes) == key]
        for topology in sorted({p.topology for p in members}, key=natural):
            times: dict[int, list[float]] = {}
            for ping in members:
                if ping.topology == topology:
                    times.setdefault(_ping_depth(ping, members), []).append(ping.time_seconds * 1e3)
            levels = sorted(times)
            points = [spread(times[level]) for level in levels]
            marks(ax, levels, points, 3.5, color=colors[topology], linestyle="-")
        ax.set_ylim(0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        sheet.label(number, "depth of the broker in the TBON", "x")
        sheet.label(number, "milliseconds", "y")
    return finish(
        sheet,
        f"pings-nodes-{nodes}",
        title,
        "The payload travels there and back. Marks are medians over the brokers of a depth,"
        " whiskers go from the fastest to the slowest; the axes differ from panel to panel.",
    )


def tree_sheet(shapes: Iterable[str], nodes: int) -> Picture | None:
    """Draw the trees over some number of nodes beside each other."""
    trees = []
    for shape in sorted(set(shapes), key=natural)[:MAX_TREES]:
        tree = tree_of(shape, nodes) if nodes <= MAX_RANKS else None
        if tree is not None:
            trees.append((shape, *tree))
    if not trees:
        return None
    columns = min(4 if nodes <= 40 else 3, len(trees))
    headings = [
        shape + (f", tree 1 of {stripes}" if stripes > 1 else "") for shape, _, stripes in trees
    ]
    title = f"The trees over {nodes} nodes"
    sheet = Sheet(title, headings, columns=columns, height=1.35, left=0.12, bottom=0.12)
    for ax, (_, parents, _) in zip(sheet.axes, trees):
        draw.draw_tree(ax, parents)
    return finish(
        sheet,
        f"trees-nodes-{nodes}",
        title,
        "Rank 0, at the top, has the data. Width is fan-out, height is depth.",
    )


def _panels(series: list[Series], both: bool) -> list[Any]:
    """Return the series of each panel; random beside zeros, None where one is not there."""
    if not both:
        return series[:MAX_PANELS]
    rows = list(dict.fromkeys(s._replace(data="") for s in series))
    return [
        s._replace(data=data) if s._replace(data=data) in series else None
        for s in rows[: MAX_PANELS // 2]
        for data in ("random", "zeros")
    ]


def _ping_depth(ping: Ping, members: list[Ping]) -> int:
    """Return how deep a broker stands: by its tree, or else by its hops beyond the fewest."""
    try:
        depths = Topology.from_spec(spec_of(ping.topology), ping.nodes).depth
        return int(depths[ping.rank])
    except (FluxTreeError, IndexError):
        return ping.hops - min(p.hops for p in members)
