"""The pictures that answer the questions of an experiment: time against the tree and its load.

Each function returns None where there is nothing to compare, and says why through `notes`.
"""

from __future__ import annotations

import math
from typing import Any

from ..units import format_bytes, format_seconds
from ._compare import (
    AUDIENCES,
    DATA,
    OWN,
    Series,
    Spread,
    by_series,
    by_shape,
    labels,
    load_of,
    spread,
)
from ._figures import (
    GREY,
    LIMIT,
    Picture,
    Sheet,
    dot,
    finish,
    line,
    literal,
    marks,
    slant,
)
from ._table import Table, natural

__all__ = ["MAX_PANELS", "against_load", "against_tree", "largest", "limits_of", "times_of"]

#: More panels than this make no picture any more; the tables have the rest.
MAX_PANELS = 16
#: Of more trees than this the names would cover each other.
MAX_NAMES = 20
#: Marks of several series stand beside each other over this part of the room of a tree.
BESIDE = 0.5
#: Names along an axis are slanted from this many on, and have panels of full width from the other.
SLANT_FROM, WIDE_FROM = 5, 11
#: Colours of backends and transports.
SERIES = ("#3b6ea5", "#e08214", "#2a8f6b", "#7b6ba8", "#b0413e", "#8c6d31", "#4d9db4", "#5c6670")


def largest(deliveries: Table, nodes: int) -> Table:
    """Return the deliveries to some number of nodes of the largest size that most trees have.

    Parameters
    ----------
    deliveries : Table
        As from `Table.deliveries`, without those that failed.
    nodes : int
        Number of nodes.
    """
    rows = deliveries.where(nodes=nodes)
    shapes = {size: len(by_shape(rows.where(bytes=size))) for size in rows.values("bytes")}
    most = max(shapes.values(), default=0)
    return rows.where(bytes=max((size for size, n in shapes.items() if n == most), default=0))


def times_of(table: Table) -> Spread:
    """Return the spread of the times of some rows."""
    return spread(row.time_seconds for row in table)


def limits_of(rows: Table) -> list[float]:
    """Return the line times that some rows have, those that differ by less than 1 % once."""
    found: list[float] = []
    for limit in sorted({row.limit_seconds for row in rows if row.limit_seconds > 0}):
        if not found or limit > 1.01 * found[-1]:
            found.append(limit)
    return found


def against_tree(deliveries: Table, nodes: int, notes: list[str]) -> Picture | None:
    """Draw how long each tree took, at the largest size.

    Parameters
    ----------
    deliveries : Table
        Without those that failed.
    nodes : int
        Number of nodes.
    notes : list of str
        Gets a line if there is no picture.
    """
    rows = largest(deliveries, nodes)
    shapes = list(by_shape(rows))
    if len(shapes) < 2:
        notes.append(f"Time against topology, {nodes} nodes: there is only one tree.")
        return None
    limits = limits_of(rows)
    panels = _panels(rows)
    colors = _colors(rows)
    text = "line time" if len(limits) > 1 else f"line time, {format_seconds(sum(limits))}"
    title = f"{format_bytes(rows.values('bytes')[0])} to {nodes} nodes, by tree"
    slanted = len(shapes) >= SLANT_FROM
    sheet = _sheet(
        title,
        panels,
        _handles(colors) + ([line(text)] if limits else []),
        wide=len(shapes) >= WIDE_FROM,
        bottom=0.72 if slanted else 0.4,
    )
    for ax, table in zip(sheet.axes, panels.values()):
        for series, members in by_series(table).items():
            number = list(colors).index(_source(series))
            beside = BESIDE * (number / (len(colors) - 1) - 0.5) if len(colors) > 1 else 0.0
            found = _by_tree(members)
            marks(
                ax,
                [shapes.index(shape) + beside for shape in found],
                list(found.values()),
                color=colors[_source(series)],
                **_look(series),
            )
        for limit in limits:
            ax.axhline(limit, color=LIMIT, linewidth=1.2, zorder=1)
        ax.set_xticks(range(len(shapes)), [literal(shape) for shape in shapes])
        if slanted:
            slant(ax)
        ax.set_xlim(-0.6, len(shapes) - 0.4)
    sheet.times([*(row.time_seconds for row in rows), *limits])
    caption = (
        "Lower is faster. A mark is the median of the iterations, its whisker goes from the"
        " fastest to the slowest."
    )
    if limits:
        caption += " The red line is the line time: the data once through one NIC."
    return finish(sheet, f"time-by-topology-nodes-{nodes}", title, caption)


def against_load(deliveries: Table, nodes: int, notes: list[str]) -> Picture | None:
    """Draw how long it took against how often the busiest rank has to send the whole data.

    Parameters
    ----------
    deliveries, nodes, notes
        As for `against_tree`.
    """
    rows = largest(deliveries, nodes)
    points: dict[Series, list[tuple[float, Spread, str]]] = {}
    for series, table in by_series(rows).items():
        found = [
            (load_of(shape, nodes, series.strategy), point, shape)
            for shape, point in _by_tree(table).items()
        ]
        points[series] = sorted(point for point in found if not math.isnan(point[0]))
    loads = sorted({load for found in points.values() for load, _, _ in found})
    if len(loads) < 2:
        notes.append(f"Time against fan-out, {nodes} nodes: there is only one fan-out.")
        return None
    limits = limits_of(rows)
    panels = _panels(rows)
    colors = _colors(rows)
    title = f"{format_bytes(rows.values('bytes')[0])} to {nodes} nodes, by fan-out"
    sheet = _sheet(
        title,
        panels,
        _handles(colors) + ([line("fan-out x line time")] if limits else []),
        wide=len(loads) >= WIDE_FROM,
    )
    ends = (loads[0], loads[-1])
    for number, (ax, table) in enumerate(zip(sheet.axes, panels.values())):
        there = {series: points[series] for series in by_series(table)}
        for series, found in there.items():
            color = colors[_source(series)]
            marks(ax, [p[0] for p in found], [p[1] for p in found], color=color, **_look(series))
        for limit in limits:
            ax.plot(ends, [limit * x for x in ends], color=LIMIT, linewidth=1.2, zorder=1)
        _name_points(ax, there)
        if loads[-1] > 16 * max(loads[0], 1):
            ax.set_xscale("log", base=2)
            ax.minorticks_off()
        ticks = loads if len(loads) <= 16 else loads[:: len(loads) // 12]
        ax.set_xticks(ticks, [f"{load:.3g}" for load in ticks])
        ax.margins(x=0.09)
        if number + sheet.columns >= len(panels):
            sheet.label(number, "fan-out of the busiest rank", "x")
    top = [x * y for x in limits for y in ends]
    steep = sheet.times([*(row.time_seconds for row in rows), *top])
    for ax in sheet.axes:  # room for the names
        ax.set_ylim(top=ax.get_ylim()[1] * (3.0 if steep else 1.3))
    caption = (
        "The fan-out is how often the busiest rank sends the whole data: it has that many children."
        " Where the NIC decides, times follow"
        + (" the red line, the fan-out times the line time." if limits else " the fan-out.")
    )
    return finish(sheet, f"time-by-fanout-nodes-{nodes}", title, caption)


def _panels(rows: Table) -> dict[str, Table]:
    """Return the rows of each panel: for whom the data is, and what data."""
    audiences: dict[str, str] = {}
    for series in by_series(rows):
        everybody = series.strategy in ("all", "tbon", OWN)
        audiences[series.strategy] = "all" if everybody else series.strategy
    kinds, whom = rows.values("data"), list(dict.fromkeys(audiences.values()))
    panels = {}
    for audience in whom:
        strategies = [s for s, a in audiences.items() if a == audience]
        for data in kinds:
            words = [AUDIENCES.get(audience, audience)] if len(whom) > 1 else []
            words += [DATA.get(data, data)] if len(kinds) > 1 else []
            found = [
                row
                for series, table in by_series(rows.where(data=data)).items()
                if series.strategy in strategies
                for row in table
            ]
            panels[", ".join(words)] = Table(found)
    return panels


def _sheet(
    title: str,
    panels: dict[str, Table],
    handles: list[tuple[Any, str]],
    *,
    wide: bool,
    bottom: float = 0.48,
) -> Sheet:
    """Return a sheet for the panels: random data beside zeros if there is room."""
    both = len(panels) % 2 == 0 and not wide
    return Sheet(
        title,
        list(panels),
        columns=2 if both else 1,
        height=2.7 if len(panels) == 1 else 2.0,
        legend=handles,
        bottom=bottom,
    )


def _source(series: Series) -> Series:
    """Return what has a colour of its own: backend and transport."""
    return Series(series.backend, series.transport, "all", "random")


def _colors(rows: Table) -> dict[Series, str]:
    sources = dict.fromkeys(_source(series) for series in by_series(rows))
    return {source: SERIES[i % len(SERIES)] for i, source in enumerate(sources)}


def _handles(colors: dict[Series, str]) -> list[tuple[Any, str]]:
    names = labels(colors)
    return [dot(names[source], color) for source, color in colors.items()] if len(names) > 1 else []


def _look(series: Series) -> dict[str, Any]:
    """Return line and mark: strategies have no order that a line could follow."""
    own = series.strategy == OWN
    return {"linestyle": "none" if own else "-", "marker": "D" if own else "o"}


def _by_tree(table: Table) -> dict[str, Spread]:
    """Return the times of each tree."""
    return {shape: times_of(members) for shape, members in by_shape(table).items()}


def _name_points(ax: Any, points: dict[Series, list[tuple[float, Spread, str]]]) -> None:
    """Write the names of trees above the uppermost mark of their load."""
    top: dict[float, tuple[float, list[str]]] = {}
    for found in points.values():
        for load, point, shape in found:
            high, names = top.get(load, (0.0, []))
            top[load] = (max(high, point.high), [*dict.fromkeys([*names, shape])])
    if len(top) > MAX_NAMES:
        return
    upright = len(top) > SLANT_FROM
    for load, (high, names) in top.items():
        names = sorted(names, key=natural)
        text = names[:2] + (["..."] if len(names) > 2 else [])
        ax.annotate(
            literal((", " if upright else "\n").join(text)),
            (load, high),
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=6.5,
            ha="center",
            va="bottom",
            color=GREY,
            rotation=90 if upright else 0,
        )
