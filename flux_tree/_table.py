"""Results as text: the table of the ranks, and the figures that count.

The command line prints the same cells, and on a terminal lays them out itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .units import format_bytes, format_idset, format_rate, format_seconds

if TYPE_CHECKING:
    from ._records import Result

__all__ = [
    "Column",
    "ResultTable",
    "failure_lines",
    "figure_lines",
    "result_figures",
    "result_header",
    "result_table",
    "result_text",
    "table_lines",
]

#: Characters between columns.
GAP = 2

#: More reasons why ranks failed are not told one by one.
MAX_REASONS = 16
#: Of more ranks than this, only as many, the slowest, get a row.
MAX_ROWS = 16
#: Of more parents than this, the rest are counted.
MAX_PARENTS = 4
#: Parts of the time below so many percent are left out.
LEAST_SHARE = 1


class Column(NamedTuple):
    """A column of a table.

    Attributes
    ----------
    title : str
        Its header.
    right : bool
        Numbers stand at the right.
    drop : int
        Where a terminal is too narrow, the columns with the highest go first; 0 always stays.
    least : int
        If above 0, cells may go over several lines on a terminal, of at least that width.
    """

    title: str
    right: bool = False
    drop: int = 0
    least: int = 0


class ResultTable(NamedTuple):
    """The table of a result's ranks.

    Attributes
    ----------
    columns : list of Column
        The columns.
    cells : list of list of str
        Of each row.
    styles : list of str
        Of each row, for a terminal, as rich names them.
    remark : str
        What is not shown; "" if all is.
    """

    columns: list[Column]
    cells: list[list[str]]
    styles: list[str]
    remark: str


COLUMNS = (
    Column("RANK", right=True),
    Column("HOST", drop=5),
    Column("PARENTS"),
    Column("CONN/s", right=True, drop=4),
    Column("FIRST/s", right=True),
    Column("LAST/s", right=True),
    Column("CHECKED/s", right=True),
    Column("MODEL/s", right=True, drop=6),
    Column("MB/s", right=True),
    Column("IN/MiB", right=True, drop=2),
    Column("OUT/MiB", right=True),
    Column("WAIT/s", right=True, drop=1),
    Column("DISK/s", right=True, drop=3),
)
HOST, MODEL = 1, 7
#: So many columns, the last ones, are only measured, never predicted.
MEASURED = 2


def table_lines(columns: Sequence[Column], cells: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as plain text: a header, columns set apart by two spaces, nothing cut off.

    Parameters
    ----------
    columns : sequence of Column
        The columns.
    cells : iterable of sequences of str
        Of each row, one for each column.

    Returns
    -------
    list of str
        The lines.
    """
    rows = [[c.title for c in columns], *cells]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = []
    for row in rows:
        line = (" " * GAP).join(
            cell.rjust(width) if c.right else cell.ljust(width)
            for cell, width, c in zip(row, widths, columns)
        )
        lines.append(line.rstrip())
    return lines


def figure_lines(figures: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return figures line by line: what it is, its value, and a few words on it.

    Parameters
    ----------
    figures : iterable of (str, str, str)
        Name, value, remark.

    Returns
    -------
    list of str
        The lines.
    """
    lines = list(figures)
    first = max(len(name) for name, _, _ in lines)
    second = max((len(value) for _, value, remark in lines if remark), default=0)
    return [
        f"{name.ljust(first)}  {value.ljust(second) if remark else value}  {remark}".rstrip()
        for name, value, remark in lines
    ]


def result_table(result: Result) -> ResultTable:
    """Return the table of a result's ranks.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.

    Returns
    -------
    ResultTable
        The column of the hosts is there if they differ, that of the model if it predicted
        anything.
    """
    rows = result.rows()
    shown = rows
    if len(rows) > MAX_ROWS:
        shown = sorted(rows, key=_lateness, reverse=True)[:MAX_ROWS]
    slowest = result.summary()["slowest_rank"]
    styles = [_style(row, row["rank"] == slowest and len(rows) > 1) for row in shown]
    kept = list(range(len(COLUMNS)))
    if result.engine == "model":
        kept = kept[:-MEASURED]
    if len(set(result.hosts or ())) < 2:
        kept.remove(HOST)
    if all(row["predicted"] is None for row in rows):
        kept.remove(MODEL)
    columns = [COLUMNS[i] for i in kept]
    cells = [[row[i] for i in kept] for row in map(_cells, shown)]
    remark = ""
    if len(shown) < len(rows):
        remark = f"the slowest {len(shown)} of {len(rows)} ranks; --json has all of them"
    return ResultTable(columns, cells, styles, remark)


def result_figures(result: Result) -> list[tuple[str, str, str]]:
    """Return the figures that count.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.

    Returns
    -------
    list of (str, str, str)
        Name, value, remark.
    """
    summary = result.summary()
    figures = []
    if result.error is not None:
        figures.append(("FAILED", result.error, ""))
    if result.failures:
        keep = int(result.plan.deliver.sum())
        without = ", ".join(map(str, list(result.failures)[:MAX_ROWS]))
        without += ", ..." if len(result.failures) > MAX_ROWS else ""
        remark = f"ranks that keep the data have it; failed: {without}"
        figures.append(("delivered", f"{summary['delivered']} of {keep}", remark))
    kept = int(result.receivers["bytes_kept"].sum())
    if kept:
        figures.append(("kept", format_bytes(kept), _kept(result, kept)))
    if summary["slowest_s"] is not None:
        figures += [
            ("slowest", format_seconds(summary["slowest_s"]), f"rank {summary['slowest_rank']}"),
            ("median", format_seconds(summary["median_s"]), ""),
            ("p95", format_seconds(summary["p95_s"]), "95% of the ranks are done by then"),
        ]
    local = result.engine != "flux"
    whole = "with starting and ending the ranks" if local else "in the job, with wiring up"
    if result.engine != "model":
        figures.append(("whole call", format_seconds(summary["elapsed_s"]), whole))
    figures.append(("limit", *_limit(result)))
    percent = summary["limit_percent"]
    if percent is not None:
        figures.append(("reached", f"{percent:.3g}%", _remark(summary)))
    if result.why is not None:
        figures.append(("chosen", "by auto", result.why))
    if result.engine == "model":
        what = "what a rank passes on when all of it is there"
        return [*figures, ("chunks", format_bytes(summary["chunk_size"]), what)]
    figures += _explained(result, summary)
    each = summary["cpu_s"] / max(summary["ranks"], 1)
    remark = f"a rank at most; {each:.3g} s of CPU each"
    if summary["chunk_size"]:  # the content cache has pieces of its own
        remark += f"; chunks of {format_bytes(summary['chunk_size'])}"
    figures.append(("memory", format_bytes(summary["memory"]), remark))
    if summary["retries"] or summary["moves"] or summary["bad_chunks"]:
        remark = (
            f"parents lost and replaced, {summary['moves']} slow ones left, "
            f"{summary['bad_chunks']} bad chunks asked for again"
        )
        figures.append(("repaired", str(summary["retries"]), remark))
    return figures


def result_text(result: Result) -> str:
    """Return a result as plain text: what it was, the table of the ranks, the figures.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.

    Returns
    -------
    str
        Lines, without the last newline.
    """
    table = result_table(result)
    lines = [result_header(result), "", *table_lines(table.columns, table.cells)]
    if table.remark:
        lines.append(table.remark)
    lines += ["", *figure_lines(result_figures(result))]
    if result.failures:
        lines += ["", *failure_lines(result.failures, result.hosts)]
    return "\n".join(lines)


def failure_lines(failures: Mapping[int, str], hosts: Sequence[str] | None = None) -> list[str]:
    """Return why ranks failed, a line for each reason; of many reasons the first ones.

    Parameters
    ----------
    failures : mapping of int to str
        As of `Result.failures`.
    hosts : sequence of str, optional
        The host of each rank, where they are known.

    Returns
    -------
    list of str
    """
    ranks: dict[str, list[int]] = {}
    for rank, text in failures.items():
        ranks.setdefault(text, []).append(rank)
    lines = []
    for text, which in list(ranks.items())[:MAX_REASONS]:
        if len(which) > 1:
            lines.append(f"ranks {format_idset(which)} failed: {text}")
        else:
            host = "" if hosts is None else f" ({hosts[which[0]]})"
            lines.append(f"rank {which[0]}{host} failed: {text}")
    more = [rank for which in list(ranks.values())[MAX_REASONS:] for rank in which]
    if more:
        lines.append(f"{len(more)} more failed, each for a reason of its own: {format_idset(more)}")
    return lines


def result_header(result: Result) -> str:
    """Return what was broadcast to whom, and what did it, in two lines.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.

    Returns
    -------
    str
    """
    files = " in 1 file" if result.files == 1 else f" in {result.files} files"
    security = "TLS 1.3" if result.security == "tls" else "not encrypted"
    kind = f"direct, {security}" if result.transport == "direct" else "content cache"
    n = int(result.plan.present.sum())
    if result.engine == "local":
        where = f"local, {n} process{'' if n == 1 else 'es'} of this machine, {security}"
    elif result.engine == "lab":
        where = f"lab, {n} host{'' if n == 1 else 's'} on this machine, {security}"
    elif result.engine == "model":
        files = ""  # the model knows no files
        method = getattr(result, "method", "")  # of a Prediction
        where = f"model, {method}, {n} rank{'' if n == 1 else 's'}, {kind}"
    else:
        job = "" if result.jobid is None else f" job {result.jobid},"
        where = f"flux,{job} {n} shell{'' if n == 1 else 's'}, {kind}"
    return (
        f"{result.plan.strategy}: {format_bytes(result.bytes)}{files}"
        f" to {result.plan.audience}\nengine: {where}"
    )


def _limit(result: Result) -> tuple[str, str]:
    if result.bandwidth is None or result.limit is None:
        return "unknown", "give the bandwidth of one NIC (--bandwidth 10Gbit/s)"
    stream = "one stream between two hosts" if result.engine == "lab" else "one loopback stream"
    origin = f"{stream}, measured" if result.measured else "as given"
    if result.engine == "model":
        network = getattr(result, "network", None)  # of a Prediction
        if network is not None and network.origin != "given":
            origin = f"measured: {network.origin}"
    size, rate = format_bytes(result.bytes), format_rate(result.bandwidth)
    return format_seconds(result.limit), f"{size} at {rate} ({origin})"


def _explained(result: Result, summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures of what was predicted, where the time went, and who was slow."""
    figures = []
    explanation = result.explanation
    predicted, ratio = summary["predicted_s"], summary["predicted_ratio"]
    if explanation is not None and predicted is not None:
        remark = f"by the model ({explanation.origin})"
        if ratio is not None:
            remark = f"{remark}; it took {ratio:.3g} times that"
        figures.append(("predicted", format_seconds(predicted), remark))
    elif explanation is not None and explanation.note:
        figures.append(("predicted", "unknown", explanation.note))
    whole = sum((summary["parts"] or {}).values())
    if whole > 0:
        shares = sorted(((100 * s / whole, n) for n, s in summary["parts"].items()), reverse=True)
        (most, name), *others = shares
        less = ", ".join(f"{n} {s:.0f}%" for s, n in others if s >= LEAST_SHARE)
        remark = f"rank {summary['slowest_rank']}" + (f"; {less}" if less else "")
        figures.append(("time went", f"{name} {most:.0f}%", remark))
    for slow in summary["slow_ranks"]:
        host = "" if slow["host"] is None else f" (host {slow['host']})"
        figures.append(("slow rank", f"{slow['rank']}{host}", slow["reason"]))
    return figures


def _kept(result: Result, kept: int) -> str:
    """Return what share of the data was there before, in words."""
    r = result.receivers
    share = kept / max(len(r) * result.bytes, 1)
    if share >= 1:
        return "all of it was there already and is right, nothing was moved"
    return f"{100 * share:.3g}% of what the ranks need was there already and is right"


def _style(row: dict[str, Any], is_slowest: bool) -> str:
    if row["state"] == "failed":
        return "red"
    return "bold yellow" if is_slowest else "" if row["deliver"] else "dim"


def _cells(row: dict[str, Any]) -> list[str]:
    parents = [p for p in row["parents"] if p >= 0]
    text = ",".join(map(str, parents[:MAX_PARENTS]))
    if len(parents) > MAX_PARENTS:
        text += f",+{len(parents) - MAX_PARENTS}"
    if not parents:
        text = "root" if row["rank"] == 0 else "-"
    elif not row["deliver"]:
        text += " relay"
    rate = row["rate"]
    received = row["rank"] > 0
    return [
        str(row["rank"]),
        row.get("host", ""),
        text,
        _time(row["connected"]),
        _time(row["first_byte"]),
        _time(row["last_byte"]),
        "failed" if row["state"] == "failed" else _time(row["verified"]),
        _time(row["predicted"]),
        "-" if rate is None else f"{rate / 1e6:.1f}",
        _mib(row["bytes_in"]) if received else "-",
        _mib(row["bytes_out"]),
        _time(row["wait_data"]) if received else "-",
        _time(row["wait_disk"]),
    ]


def _remark(summary: dict[str, Any]) -> str:
    """Return what the percentage means, and why it may be low through no fault of the plan."""
    cpus = os.cpu_count() or 1
    if summary["engine"] == "local" and summary["ranks"] > cpus:
        return f"of the limit; {summary['ranks']} ranks share {cpus} processors here"
    return "of the limit: limit / slowest"


def _lateness(row: dict[str, Any]) -> float:
    """Sort by the time until a rank was done; who never was comes first among the slowest."""
    verified = row["verified"]
    return float("inf") if verified is None else float(verified)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f}"
