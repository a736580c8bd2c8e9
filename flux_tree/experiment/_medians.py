"""The tables of a report: medians by tree and size."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..units import format_bytes, format_seconds
from ._compare import Series, by_series, by_shape, format_ratio, labels, spread
from ._table import DELIVERY, Table

__all__ = ["Group", "MedianTable", "Value", "median_tables"]


class Value(NamedTuple):
    """A cell of a table.

    Attributes
    ----------
    median : str
        The time.
    range : str
        From the lowest to the highest; empty for one iteration.
    ratio : str
        As a multiple of the line time; empty if unknown.
    best : bool
        Whether it is the least of its column in its group.
    """

    median: str
    range: str
    ratio: str
    best: bool


class Group(NamedTuple):
    """The rows of one series.

    Attributes
    ----------
    label : str
        What the series is; empty if there is only one.
    rows : list of (str, list of Value or None)
        The tree, and a value for each size; None where there is none.
    """

    label: str
    rows: list[tuple[str, list[Value | None]]]


class MedianTable(NamedTuple):
    """Medians of one event to some number of nodes.

    Attributes
    ----------
    event : str
        The event; "distribute" for the distribution as a whole.
    nodes : int
        Number of nodes.
    sizes : list of str
        A column for each.
    groups : list of Group
        The rows.
    """

    event: str
    nodes: int
    sizes: list[str]
    groups: list[Group]


def median_tables(table: Table) -> list[MedianTable]:
    """Return the medians of all events, without what failed; first those of the distribution.

    Parameters
    ----------
    table : Table
        The events.

    Returns
    -------
    list of MedianTable
    """
    good = table.ok()
    tables = []
    for event in [DELIVERY, *good.values("event")]:
        rows = table.deliveries().ok() if event == DELIVERY else good.where(event=event)
        tables += [_table(rows.where(nodes=n), event, n) for n in rows.values("nodes")]
    return tables


def _table(rows: Table, event: str, nodes: int) -> MedianTable:
    sizes = rows.values("bytes")
    groups = by_series(rows)
    names = labels(groups)
    found = []
    for series, members in groups.items():
        found.append(Group(names[series] if len(groups) > 1 else "", _rows(members, sizes, series)))
    return MedianTable(event, nodes, [format_bytes(size) for size in sizes], found)


def _rows(table: Table, sizes: list[int], series: Series) -> list[tuple[str, list[Value | None]]]:
    times = {
        shape: {
            size: spread(row.time_seconds for row in there)
            for size in sizes
            if len(there := members.where(bytes=size))
        }
        for shape, members in by_shape(table).items()
    }
    limits = {row.bytes: row.limit_seconds for row in table if row.limit_seconds > 0}
    best = {
        size: min((t[size].median for t in times.values() if size in t), default=math.nan)
        for size in sizes
    }
    rows: list[tuple[str, list[Value | None]]] = []
    for shape, known in times.items():
        values: list[Value | None] = []
        for size in sizes:
            point = known.get(size)
            if point is None:
                values.append(None)
                continue
            ratio = format_ratio(point.median / limits[size]) if size in limits else ""
            values.append(
                Value(
                    format_seconds(point.median),
                    point.range,
                    ratio,
                    len(times) > 1 and point.median == best[size],
                )
            )
        rows.append((shape, values))
    return rows
