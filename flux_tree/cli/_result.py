"""A result as text: a table of the ranks, and the figures that count."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from ..units import format_bytes, format_rate, format_seconds
from ._output import Column, say, say_figures, say_table

if TYPE_CHECKING:
    from .._records import Result

__all__ = ["say_result"]

#: Of more ranks than this, only as many, the slowest, get a row.
MAX_ROWS = 16
#: Of more parents than this, the rest are counted.
MAX_PARENTS = 4

COLUMNS = (
    Column("RANK", right=True),
    Column("PARENTS"),
    Column("CONN/s", right=True, drop=4),
    Column("FIRST/s", right=True),
    Column("LAST/s", right=True),
    Column("CHECKED/s", right=True),
    Column("MB/s", right=True),
    Column("IN/MiB", right=True, drop=2),
    Column("OUT/MiB", right=True),
    Column("WAIT/s", right=True, drop=1),
    Column("DISK/s", right=True, drop=3),
)


def say_result(result: Result, *, measured: bool) -> None:
    """Print the table of the ranks and the summary.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.
    measured : bool
        The bandwidth was measured, not given.
    """
    rows = result.rows()
    summary = result.summary()
    shown = rows
    if len(rows) > MAX_ROWS:
        shown = sorted(rows, key=lambda r: _or_nan(r["verified"], -1.0), reverse=True)[:MAX_ROWS]
    slowest = summary["slowest_rank"]
    styles = [
        "bold yellow" if r["rank"] == slowest and len(rows) > 1 else "" if r["deliver"] else "dim"
        for r in shown
    ]
    say_table(COLUMNS, [_cells(r) for r in shown], styles)
    if len(shown) < len(rows):
        say(f"the slowest {len(shown)} of {len(rows)} ranks; --json has all of them")
    say()
    say_figures(_figures(result, summary, measured))


def _cells(row: dict[str, Any]) -> list[str]:
    parents = [p for p in row["parents"] if p >= 0]
    text = ",".join(map(str, parents[:MAX_PARENTS]))
    if len(parents) > MAX_PARENTS:
        text += f",+{len(parents) - MAX_PARENTS}"
    if not parents:
        text = "root"
    elif not row["deliver"]:
        text += " relay"
    rate = row["rate"]
    received = row["rank"] > 0
    return [
        str(row["rank"]),
        text,
        _time(row["connected"]),
        _time(row["first_byte"]),
        _time(row["last_byte"]),
        _time(row["verified"]),
        "-" if rate is None else f"{rate / 1e6:.1f}",
        _mib(row["bytes_in"]) if received else "-",
        _mib(row["bytes_out"]),
        _time(row["wait_data"]) if received else "-",
        _time(row["wait_disk"]),
    ]


def _figures(result: Result, summary: dict[str, Any], measured: bool) -> list[tuple[str, str, str]]:
    size = format_bytes(result.bytes)
    rate = format_rate(result.bandwidth)
    origin = "one loopback stream, measured" if measured else "as given"
    figures = [
        ("slowest", format_seconds(summary["slowest_s"]), f"rank {summary['slowest_rank']}"),
        ("median", format_seconds(summary["median_s"]), ""),
        ("p95", format_seconds(summary["p95_s"]), "95% of the ranks are done by then"),
        ("whole call", format_seconds(summary["elapsed_s"]), "with starting and ending the ranks"),
        ("limit", format_seconds(summary["limit_s"]), f"{size} at {rate} ({origin})"),
    ]
    percent = summary["limit_percent"]
    if percent is not None:
        figures.append(("reached", f"{percent:.3g}%", _remark(summary)))
    figures.append(
        (
            "memory",
            format_bytes(summary["memory"]),
            f"a rank at most; {summary['cpu_s'] / max(summary['ranks'], 1):.3g} s of CPU each;"
            f" chunks of {format_bytes(summary['chunk_size'])}",
        )
    )
    if summary["retries"] or summary["bad_chunks"]:
        figures.append(
            (
                "repaired",
                str(summary["retries"]),
                f"parents lost and replaced, {summary['bad_chunks']} bad chunks asked for again",
            )
        )
    return figures


def _remark(summary: dict[str, Any]) -> str:
    """Return what the percentage means, and why it may be low through no fault of the plan."""
    cpus = os.cpu_count() or 1
    if summary["engine"] == "local" and summary["ranks"] > cpus:
        return f"of the limit; {summary['ranks']} ranks share {cpus} processors here"
    return "of the limit: limit / slowest"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f}"


def _or_nan(value: float | None, otherwise: float) -> float:
    return otherwise if value is None or math.isnan(value) else value
