"""What the data say, in sentences: the headlines of a report."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..units import format_bytes, format_seconds
from ._compare import (
    DATA,
    OWN,
    Measure,
    Spread,
    by_series,
    by_shape,
    format_ratio,
    labels,
    series_of,
    shape_of,
    spread,
)
from ._measured import Measured
from ._pictures import largest
from ._table import Row, Table

__all__ = ["Finding", "findings"]

#: Two medians that differ by less than this part are called the same.
SAME = 0.03


class Finding(NamedTuple):
    """One thing that the data say.

    Attributes
    ----------
    about : str
        What of.
    text : str
        What, in a sentence or two.
    """

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about[:1].upper()}{self.about[1:]}: {self.text}"


def findings(measured: Measured) -> list[Finding]:
    """Return what the data say: fastest and slowest tree, the limit, zeros, depth, failures.

    Parameters
    ----------
    measured : Measured
        What was read.

    Returns
    -------
    list of Finding
        The most important ones first.
    """
    deliveries = measured.table.deliveries()
    good = deliveries.ok()
    found = _failures(measured.table)
    if len(good):
        nodes = max(good.values("nodes"))
        rows = largest(good, nodes)
        everybody = rows.where(_to_all)
        found += [
            *_trees(everybody),
            *_transports(rows),
            *_zeros(rows),
            *_only_zeros(rows),
            *_trees(rows.where(lambda row: not _to_all(row))),
            *_creation(measured.table.ok(), rows),
            *_depth(measured, rows),
        ]
    found += _pings(measured)
    return found


def _trees(rows: Table) -> list[Finding]:
    """Fastest and slowest tree of each series, and how far the fastest is from the line time."""
    groups = by_series(rows)
    names = labels(groups)
    found = []
    for series, table in groups.items():
        if series.data == "zeros" and series._replace(data="random") in groups:
            continue  # `_zeros` says what is different
        points = _points(table)
        fast, slow = _ends(points)
        if fast == slow:
            text = f"{fast} takes {points[fast]}."
        else:
            text = _two(fast, points[fast], slow, points[slow])
        ratios = [row.limit_ratio for row in table if shape_of(row) == fast]
        if not all(map(math.isnan, ratios)):
            text += f" At best that is {format_ratio(spread(ratios).median)} times the line time."
        found.append(Finding(f"{_to(table)}, {names[series]}", text))
    return found


def _points(table: Table) -> dict[str, Spread]:
    return {s: spread(row.time_seconds for row in t) for s, t in by_shape(table).items()}


def _ends(points: dict[str, Spread]) -> tuple[str, str]:
    """Return the fastest and the slowest tree."""
    by_median = sorted(points, key=lambda shape: points[shape].median)
    return by_median[0], by_median[-1]


def _two(fast: str, first: Spread, slow: str, last: Spread) -> str:
    """Compare the fastest tree with the slowest, in the light of their spread."""
    times = f"{fast} {first}, {slow} {last}"
    factor = last.median / first.median if first.median else math.inf
    if first.number > 1 and last.low <= first.high:
        return f"no tree stands out from the spread of the iterations: {times}."
    if factor < 1 + SAME:
        return f"all trees take the same time: {times}."
    text = f"{fast} is the fastest, {slow} takes {format_ratio(factor)} times as long: {times}."
    return text if first.number > 1 else f"{text} One iteration each: the spread is not known."


def _transports(rows: Table) -> list[Finding]:
    """The best of the direct transport beside the best of the content cache, to all ranks."""
    found = []
    for data in rows.values("data"):
        best: dict[str, tuple[float, Row]] = {}
        for transport in ("direct", "content"):
            there = rows.where(_to_all, data=data, transport=transport)
            groups: dict[tuple[str, str, str], list[Row]] = {}
            for row in there:
                groups.setdefault((row.backend, row.strategy, shape_of(row)), []).append(row)
            medians = [
                (spread(row.time_seconds for row in members).median, members[0])
                for members in groups.values()
            ]
            if medians:
                best[transport] = min(medians, key=lambda pair: pair[0])
        if len(best) < 2:
            continue
        (d, direct), (c, content) = best["direct"], best["content"]
        found.append(
            Finding(
                f"{_to(rows)}, {DATA.get(data, data)}, direct or content",
                f"the best of direct ({_named(direct)}) takes {format_seconds(d)}, the best of"
                f" content ({content.topology}) {format_seconds(c)}: {_times(c / d)}, not counting"
                " that its archive has to be made.",
            )
        )
    return found


def _zeros(rows: Table) -> list[Finding]:
    """How much longer random data take than zeros, and what the tree matters with either."""
    found = []
    for transport in rows.values("transport"):
        groups = by_series(rows.where(transport=transport))
        ratios: list[float] = []
        parts = []
        for series, table in groups.items():
            random = groups.get(series._replace(data="random"))
            if series.data != "zeros" or random is None:
                continue
            zeros, others = _points(table), _points(random)
            both = [shape for shape in zeros if shape in others and zeros[shape].median]
            ratios += [others[shape].median / zeros[shape].median for shape in both]
            if len(both) > 1:
                parts.append(
                    [p[_ends(p)[1]].median / p[_ends(p)[0]].median for p in (others, zeros)]
                )
        if not ratios:
            continue
        low, high = format_ratio(min(ratios)), format_ratio(max(ratios))
        text = (
            f"random data take {low if low == high else f'{low} to {high}'} times as long as zeros."
        )
        if parts:
            most = [format_ratio(max(part[i] for part in parts)) for i in (0, 1)]
            text += (
                f" The slowest tree takes {most[0]} times as long as the fastest with random data,"
                f" {most[1]} times with zeros."
            )
        if transport == "content":
            text += " The content store keeps equal blobs once, so zeros hardly travel."
        found.append(Finding(f"{_to(rows)}, {transport}, random data or zeros", text))
    return found


def _only_zeros(rows: Table) -> list[Finding]:
    """A warning, where the content cache had nothing but zeros to move."""
    content = rows.where(transport="content")
    if content.values("data") != ["zeros"]:
        return []
    return [
        Finding(
            "Zeros only",
            "the content store keeps equal blobs once, so one blob of zeros went over the network,"
            " whatever the size. Only random data show what the network does under a tree.",
        )
    ]


def _depth(measured: Measured, rows: Table) -> list[Finding]:
    """What the deepest ranks wait for, compared with those right under the root."""
    size, nodes = rows.values("bytes")[0], rows.values("nodes")[0]
    there = [
        arrival
        for arrival in measured.arrivals
        if (arrival.bytes, arrival.nodes) == (size, nodes)
        and arrival.rank
        and not math.isnan(arrival.verified_seconds)
        and _to_all(arrival)
    ]
    if any(arrival.data == "random" for arrival in there):
        there = [arrival for arrival in there if arrival.data == "random"]
    found = []
    for series, name in labels(series_of(arrival) for arrival in there).items():
        times: dict[str, dict[int, list[float]]] = {}
        for arrival in there:
            if series_of(arrival) == series:
                levels = times.setdefault(shape_of(arrival), {})
                levels.setdefault(arrival.depth, []).append(arrival.verified_seconds)
        shape = max(times, key=lambda shape: max(times[shape]))
        first, last = min(times[shape]), max(times[shape])
        if last == first:
            continue
        early, late = (float(np.median(times[shape][depth])) for depth in (first, last))
        hop = format_seconds(abs(late - early) / (last - first))
        found.append(
            Finding(
                f"Depth, {name}, {shape}",
                f"ranks at depth {first} have everything after {format_seconds(early)}, those at"
                f" depth {last} after {format_seconds(late)}:"
                f" {hop} {'more' if late >= early else 'less'} a hop.",
            )
        )
    return found


def _creation(table: Table, rows: Table) -> list[Finding]:
    """What making the archive costs before anything is distributed."""
    size, nodes = rows.values("bytes")[0], rows.values("nodes")[0]
    there = table.where(nodes=nodes, bytes=size, transport="content")
    create = there.where(event="create-archive")
    distribute = there.where(event="distribute-all-nodes")
    if not len(create) or not len(distribute):
        return []
    a, b = (spread(row.time_seconds for row in t).median for t in (create, distribute))
    return [
        Finding(
            f"{_to(rows)}, making the archive",
            f"{format_seconds(a)} before anything is distributed, {format_ratio(a / b)} times what"
            " distributing it takes (medians over all trees).",
        )
    ]


def _pings(measured: Measured) -> list[Finding]:
    """How the round trip grows with the payload."""
    found = []
    for nodes in sorted({p.nodes for p in measured.pings})[-1:]:
        pings = [p for p in measured.pings if p.nodes == nodes and p.service == "broker" and p.rank]
        sizes = sorted({p.bytes for p in pings})
        parts = [
            f"{format_seconds(float(np.median([p.time_seconds for p in pings if p.bytes == s])))}"
            f" with {format_bytes(s)}"
            for s in (sizes[:1] + sizes[-1:] if len(sizes) > 1 else sizes)
        ]
        if parts:
            found.append(
                Finding(f"Pings, {nodes} nodes", f"a round trip takes {', '.join(parts)} (median).")
            )
    return found


def _failures(table: Table) -> list[Finding]:
    cells = table.cells()
    bad = {row.cell for row in table.failed()}
    if not bad:
        return []
    return [
        Finding(
            "Failures",
            f"{len(bad)} of {len(cells)} cells failed, and their failed events are in no median.",
        )
    ]


def _to(rows: Table) -> str:
    return f"{format_bytes(rows.values('bytes')[0])} to {rows.values('nodes')[0]} nodes"


def _to_all(row: Measure) -> bool:
    return series_of(row).strategy in ("all", "tbon", OWN)


def _times(factor: float) -> str:
    """Return how much longer something takes, in words."""
    return "the same" if abs(factor - 1) < SAME else f"{format_ratio(factor)} times as long"


def _named(row: Row) -> str:
    own = series_of(row).strategy == OWN
    return row.strategy if own else row.topology
