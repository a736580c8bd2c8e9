"""The tables of an experiment as CSV: events, pings and ranks.

The first columns are those of the ``topologies-events.csv`` of the flux-distribute study, so that
files of either kind load in the other's tools.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import SourceError
from ._measured import Arrival, Ping
from ._table import GIB, NAN, Row, Table, audience_of, topology_name

__all__ = ["arrivals_csv", "events_csv", "events_from_csv", "pings_csv", "pings_from_csv"]

MIB = 2**20

#: The columns of the study's table of pings, and one more.
PING_COLUMNS = (
    "uid",
    "topology",
    "topology-uid",
    "iteration",
    "nodes",
    "rank",
    "service",
    "message_size_bytes",
    "message_size_mb",
    "time_ms",
    "time_seconds",
    "hops",
    "backend",
)
ARRIVAL_COLUMNS = (
    "backend",
    "nodes",
    "topology",
    "strategy",
    "transport",
    "bytes",
    "data",
    "iteration",
    "rank",
    "depth",
    "first_byte_seconds",
    "verified_seconds",
    "bytes_in",
    "retries",
)

STUDY_COLUMNS = ("uid", "topology", "iteration", "nodes", "event", "size_gb", "time_seconds")
MORE_COLUMNS = (
    "bytes",
    "data",
    "strategy",
    "transport",
    "backend",
    "status",
    "error",
    "ranks",
    "fastest_seconds",
    "median_seconds",
    "p95_seconds",
    "limit_seconds",
    "limit_ratio",
)
COLUMNS = (*STUDY_COLUMNS, *MORE_COLUMNS)


def events_csv(table: Table) -> str:
    """Return a table as CSV: an index, the study's columns, then those that it has not."""
    rows = ([_cell(getattr(row, name)) for name in COLUMNS] for row in table)
    return _text(COLUMNS, rows)


def events_from_csv(text: str, name: str) -> Table:
    """Return the table in a CSV of `events_csv` or of the study.

    Parameters
    ----------
    text, name : str
        Its content; what a message calls the file.

    Raises
    ------
    SourceError
        If a column of the study is missing, or a value is none.
    """
    return Table(_parse(text, name, ("topology", *STUDY_COLUMNS[2:]), _read_row))


def pings_csv(pings: Iterable[Ping]) -> str:
    """Return pings as CSV in the study's columns, and the backend."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", *PING_COLUMNS])
    for index, p in enumerate(pings):
        size = p.bytes / MIB
        mb = int(size) if size.is_integer() else size
        uid = f"flux-ping-{p.service}-size-{mb}-rank-{p.rank}"
        where = [uid, p.topology, f"{p.topology}-{p.nodes}", p.iteration, p.nodes, p.rank]
        times = [p.time_seconds * 1000, p.time_seconds, p.hops, p.backend]
        writer.writerow([index, *where, p.service, p.bytes, mb, *times])
    return out.getvalue()


def pings_from_csv(text: str, name: str) -> list[Ping]:
    """Return the pings in a CSV of `pings_csv` or of the study.

    Parameters
    ----------
    text, name : str
        Its content; what a message calls the file.

    Raises
    ------
    SourceError
        If a column is missing, or a value is none.
    """
    return _parse(text, name, ("topology", *PING_COLUMNS[3:8], *PING_COLUMNS[10:12]), _read_ping)


def arrivals_csv(arrivals: Iterable[Arrival]) -> str:
    """Return when each rank received, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", *ARRIVAL_COLUMNS])
    for index, arrival in enumerate(arrivals):
        values = (getattr(arrival, column) for column in ARRIVAL_COLUMNS)
        cells = ("" if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in values)
        writer.writerow([index, *cells])
    return out.getvalue()


def _text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", *columns])
    writer.writerows([index, *row] for index, row in enumerate(rows))
    return out.getvalue()


def _parse(
    text: str,
    name: str,
    needed: Iterable[str],
    read: Callable[[Mapping[str, str]], Any],
) -> list[Any]:
    """Return what `read` makes of each line of a CSV.

    Parameters
    ----------
    text, name : str
        Its content; what a message calls the file.
    needed : iterable of str
        Columns that it must have.
    read : callable
        Gets a line as a mapping; raises ValueError or KeyError for a bad value.

    Raises
    ------
    SourceError
        Naming the column that is missing, or the line that is bad.
    """
    reader = csv.DictReader(io.StringIO(text))
    found = []
    try:
        header = reader.fieldnames or []
        missing = [column for column in needed if column not in header]
        if missing:
            raise SourceError(
                f"'{name}': no column '{missing[0]}', give a table of events or of pings,"
                " as the flux-distribute study or 'flux-tree experiment analyze' write it"
            )
        for record in reader:
            found.append(read({key: value or "" for key, value in record.items() if key}))
    except (ValueError, KeyError, OverflowError, csv.Error) as exc:
        raise SourceError(
            f"'{name}' line {reader.line_num}: {exc}, mend it or take it out"
        ) from None
    return found


def _read_row(record: Mapping[str, str]) -> Row:
    def number(column: str) -> float:
        value = record.get(column, "")
        return float(value) if value else NAN

    event = record["event"]
    size = record.get("bytes", "")
    return Row(
        topology=record["topology"].replace(":", "-", 1),
        iteration=int(record["iteration"]),
        nodes=int(record["nodes"]),
        event=event,
        time_seconds=number("time_seconds"),
        bytes=int(size) if size else round(float(record["size_gb"]) * GIB),
        data=record.get("data") or "zeros",
        strategy=record.get("strategy") or audience_of(event),
        transport=record.get("transport") or "content",
        backend=record.get("backend") or "study",
        status=record.get("status") or "ok",
        error=record.get("error", ""),
        ranks=int(record["ranks"]) if record.get("ranks") else None,
        fastest_seconds=number("fastest_seconds"),
        median_seconds=number("median_seconds"),
        p95_seconds=number("p95_seconds"),
        limit_seconds=number("limit_seconds"),
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _read_ping(record: Mapping[str, str]) -> Ping:
    return Ping(
        topology=topology_name(record["topology"]),
        nodes=int(record["nodes"]),
        iteration=int(record["iteration"]),
        rank=int(record["rank"]),
        service=record["service"],
        bytes=int(record["message_size_bytes"]),
        time_seconds=float(record["time_seconds"]),
        hops=int(record["hops"]),
        backend=record.get("backend") or "study",
    )
