"""The picture of every strategy's ratio to the limit."""

from __future__ import annotations

from ..units import format_bytes
from ._compare import OWN, by_series, by_shape, format_ratio, labels, series_of, spread
from ._figures import (
    GREY,
    GRID,
    LETTER,
    LIMIT,
    TEXT,
    Picture,
    Sheet,
    colors_of,
    dot,
    finish,
    line,
    literal,
    whiskers,
)
from ._pictures import largest
from ._table import Row, Table, natural

__all__ = ["against_limit"]


def against_limit(deliveries: Table, nodes: int, notes: list[str]) -> Picture | None:
    """Draw every strategy's time as a multiple of the line time, one dot a tree."""
    rows = largest(deliveries, nodes).where(lambda row: row.limit_ratio > 0)
    if not len(rows):
        notes.append(
            f"Ratio to the line time, {nodes} nodes: the bandwidth of a NIC is not known"
            " (--bandwidth gives it)."
        )
        return None
    names = labels(by_series(rows))
    lines: dict[str, list[Row]] = {}
    for row in rows:
        own = series_of(row).strategy == OWN
        name = names[series_of(row)]
        lines.setdefault(name.replace(OWN, row.strategy) if own else name, []).append(row)
    colors = colors_of(
        shape for shape, t in by_shape(rows).items() if series_of(t.rows[0]).strategy != OWN
    )
    handles = [*(dot(shape, color) for shape, color in colors.items()), line("line time")]
    size = format_bytes(rows.values("bytes")[0])
    title = f"{size} to {nodes} nodes, as a multiple of the line time"
    left = 0.25 + LETTER * max(map(len, lines))
    sheet = Sheet(title, [""], height=0.3 + 0.36 * len(lines), legend=handles, left=left)
    ax = sheet.axes[0]
    keys = sorted(lines, key=natural)
    for place, key in enumerate(keys):
        groups = by_shape(Table(lines[key]))
        points = {s: spread(row.limit_ratio for row in group) for s, group in groups.items()}
        for shape, point in points.items():
            ax.errorbar(
                [point.median],
                [place],
                xerr=whiskers([point]),
                color=colors.get(shape, GREY),
                marker="o",
                markersize=5,
                elinewidth=0.9,
                zorder=3,
            )
        best = min(points, key=lambda shape: points[shape].median)
        text = format_ratio(points[best].median) + (f" ({best})" if len(points) > 1 else "")
        ax.annotate(
            literal(text),
            (points[best].median, place),
            xytext=(-3, 6),
            textcoords="offset points",
            fontsize=7.5,
            color=TEXT,
        )
    ax.axvline(1, color=LIMIT, linewidth=1.2, zorder=1)
    sheet.times([1.0, *(row.limit_ratio for row in rows)], label="x line time", axis="x")
    ax.set_yticks(range(len(keys)), [literal(key) for key in keys])
    ax.set_ylim(len(keys) - 0.5, -0.7)
    ax.grid(axis="x", color=GRID, linewidth=0.6)
    return finish(
        sheet,
        f"ratio-to-line-time-nodes-{nodes}",
        title,
        "The line time is what one NIC needs to receive the data once; no broadcast of data that"
        " must all travel is below 1. The number is that of the fastest tree.",
    )
