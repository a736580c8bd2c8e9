"""The pictures of what grows: time against the size of the data, and the number of nodes."""

from __future__ import annotations

from ..units import format_bytes
from ._compare import by_series, by_shape, labels
from ._figures import LIMIT, Picture, Sheet, colors_of, dot, finish, line, marks, slant
from ._pictures import MAX_PANELS, limits_of, times_of
from ._table import Table

__all__ = ["against_nodes", "against_size"]


def against_size(deliveries: Table, nodes: int, notes: list[str]) -> Picture | None:
    """Draw how long each tree took against the size of the data.

    Parameters
    ----------
    deliveries : Table
        To that number of nodes, on one backend, without those that failed.
    nodes : int
        Number of nodes.
    notes : list of str
        Gets a line if there is no picture.
    """
    backend = deliveries.values("backend")[0]
    if len(deliveries.values("bytes")) < 2:
        notes.append(f"Time against size, {nodes} nodes, {backend}: there is only one size.")
        return None
    title = f"{nodes} nodes, {backend}, by size of the data"
    sheet, steep = _draw(deliveries, "bytes", title)
    caption = "A straight line is a constant rate; what it has at size 0 is latency."
    if steep:
        caption = "What rises like the size is a constant rate, what stays level is latency."
    return finish(sheet, f"time-by-size-nodes-{nodes}-{backend}", title, caption)


def against_nodes(deliveries: Table, notes: list[str]) -> Picture | None:
    """Draw how long each tree took against the number of nodes, at the largest size.

    Parameters
    ----------
    deliveries : Table
        On one backend, without those that failed.
    notes : list of str
        Gets a line if there is no picture.
    """
    backend = deliveries.values("backend")[0]
    counts = {s: len(deliveries.where(bytes=s).values("nodes")) for s in deliveries.values("bytes")}
    size = max(counts, key=lambda size: (counts[size], size))
    if counts[size] < 2:
        notes.append(f"Time against the number of nodes, {backend}: there is only one.")
        return None
    title = f"{format_bytes(size)}, {backend}, by number of nodes"
    sheet, _ = _draw(deliveries.where(bytes=size), "nodes", title)
    caption = "Where one NIC decides, a tree stays level; latency grows with the depth."
    return finish(sheet, f"time-by-nodes-{backend}", title, caption)


def _draw(rows: Table, field: str, title: str) -> tuple[Sheet, bool]:
    """Draw times against a field, a panel for each series; say whether the axis is logarithmic."""
    groups = dict(list(by_series(rows).items())[:MAX_PANELS])
    names = labels(groups)
    colors = colors_of(by_shape(rows))
    handles = [dot(shape, color) for shape, color in colors.items()]
    limits = limits_of(rows)
    if limits:
        handles.append(line("line time"))
    headings = [names[s] if len(groups) > 1 else "" for s in groups]
    columns = 2 if len(groups) > 1 else 1
    sheet = Sheet(title, headings, columns=columns, height=2.0, legend=handles)
    for ax, table in zip(sheet.axes, groups.values()):
        for shape, members in by_shape(table).items():
            places = members.values(field)
            points = [times_of(members.where(**{field: place})) for place in places]
            marks(ax, places, points, 3.0, color=colors[shape], linestyle="-")
        known = {getattr(r, field): r.limit_seconds for r in table if r.limit_seconds > 0}
        at = sorted(known)
        ax.plot(at, [known[x] for x in at], color=LIMIT, linewidth=1.2, zorder=1)
    steep = sheet.times([*(row.time_seconds for row in rows), *limits])
    for number in range(len(sheet.axes)):
        _number_axis(sheet, number, rows.values(field), field == "bytes", steep)
    return sheet, steep


def _number_axis(sheet: Sheet, number: int, values: list[int], sizes: bool, log: bool) -> None:
    """Number the x axis with the sizes or the nodes that there are."""
    ax = sheet.axes[number]
    low, high = min(values), max(values)
    log = low > 0 and (log or high > 20 * low)
    if log:
        ax.set_xscale("log", base=2)
        ax.minorticks_off()
    else:
        ax.set_xlim(0, high * 1.04)
    ticks: list[int] = []
    for value in values:
        room = value / ticks[-1] >= 1.3 if ticks and log else True
        if room and (log or len(values) <= 10 or len(ticks) * high <= 8 * value):
            ticks.append(value)
    texts = [format_bytes(v) if sizes else str(v) for v in ticks]
    units = {text.partition(" ")[2] for text in texts}
    if len(units) == 1:
        texts = [text.partition(" ")[0] for text in texts]
    unit = f", {units.pop()}" if sizes and len(units) == 1 else ""
    sheet.label(number, f"size of the data{unit}" if sizes else "nodes", "x")
    ax.set_xticks(ticks, texts)
    if max(map(len, texts)) * len(ticks) > 40:
        slant(ax)
