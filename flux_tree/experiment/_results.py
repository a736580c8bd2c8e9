"""The folder of an experiment, read: ``results.jsonl`` and ``environment.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ._measured import Arrival, Measured, Ping, read_text
from ._table import Row, Table, row_events, topology_name

__all__ = ["ENVIRONMENT", "RESULTS", "read_results"]

RESULTS = "results.jsonl"
ENVIRONMENT = "environment.json"


def read_results(folder: Path) -> Measured:
    """Read the folder of an experiment.

    A last line without its end is one that was being written when the experiment was killed, and
    is left out. Of a cell that was run again, the last line counts.

    Parameters
    ----------
    folder : Path
        With ``results.jsonl``, and ``environment.json`` if there is one.

    Returns
    -------
    Measured

    Raises
    ------
    SourceError
        If a file cannot be read, or a line is no result.
    """
    measured = Measured(folder.resolve().name, "an experiment of flux-tree")
    measured.environment = _environment(folder / ENVIRONMENT)
    cells: dict[str, tuple[list[Row], list[Ping], list[Arrival]]] = {}
    lines = read_text(folder / RESULTS).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            cell = str(entry["cell"])
            found = _rows(entry), _pings(entry), _arrivals(entry)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
            if number == len(lines):  # it has no newline at its end
                measured.notes.append(
                    f"The last line of {RESULTS} is cut off: the cell that it was for is left out."
                )
                continue
            reason = f"no {exc}" if isinstance(exc, KeyError) else f"{exc}"
            raise SourceError(
                f"'{folder / RESULTS}' line {number}: not the result of a cell ({reason}),"
                " take the line out"
            ) from None
        cells[cell] = found
    measured.table = Table(row for rows, _, _ in cells.values() for row in rows)
    measured.pings = [ping for _, pings, _ in cells.values() for ping in pings]
    measured.arrivals = [a for _, _, arrivals in cells.values() for a in arrivals]
    return measured


def _rows(entry: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a cell; one that failed has at least one, without a time."""
    identity = {**_identity(entry), "status": str(entry["status"]), "error": entry["error"] or ""}
    limit = _number(entry.get("limit_s"))
    rows = []
    for event in entry.get("events") or ():
        name = str(event["event"])
        ranks = event.get("ranks")
        rows.append(
            Row(
                **identity,
                event=name,
                time_seconds=_number(event["time_s"]),
                ranks=None if ranks is None else int(ranks),
                fastest_seconds=_number(event.get("fastest_s")),
                median_seconds=_number(event.get("median_s")),
                p95_seconds=_number(event.get("p95_s")),
                limit_seconds=limit if name.startswith("distribute") else math.nan,
            )
        )
    if identity["status"] != "ok":
        event = "ping" if identity["transport"] == "ping" else row_events(identity["strategy"])
        if all(row.event != event for row in rows):
            rows.append(Row(**identity, event=event, time_seconds=math.nan))
    return rows


def _pings(entry: Mapping[str, Any]) -> list[Ping]:
    if entry["status"] != "ok":
        return []
    return [
        Ping(
            topology=topology_name(str(entry["topology"] or "")),
            nodes=int(entry["nodes"]),
            iteration=int(ping.get("iteration", entry["iteration"])),
            rank=int(ping["rank"]),
            service=str(ping["service"]),
            bytes=int(ping["bytes"]),
            time_seconds=float(ping["time_s"]),
            hops=int(ping["hops"]),
            backend=str(entry["backend"]),
        )
        for ping in entry.get("pings") or ()
    ]


def _arrivals(entry: Mapping[str, Any]) -> list[Arrival]:
    if entry["status"] != "ok":
        return []
    identity = _identity(entry)
    return [
        Arrival(
            **identity,
            rank=int(record["rank"]),
            depth=int(record["depth"]),
            first_byte_seconds=_number(record.get("first_byte")),
            verified_seconds=_number(record.get("verified")),
            bytes_in=record.get("bytes_in"),
            retries=int(record.get("retries") or 0),
        )
        for record in entry.get("records") or ()
        if record.get("depth") is not None
    ]


def _identity(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what names a cell; a topology of none, where a strategy follows no TBON, is ""."""
    return {
        "topology": topology_name(str(entry["topology"] or "")),
        "iteration": int(entry["iteration"]),
        "nodes": int(entry["nodes"]),
        "bytes": int(entry["bytes"] or 0),
        "data": str(entry["data"]),
        "strategy": str(entry["strategy"] or ""),
        "transport": str(entry["transport"]),
        "backend": str(entry["backend"]),
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _environment(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(read_text(path))
    except ValueError as exc:
        raise SourceError(f"'{path}': not JSON ({exc}), mend it or take it away") from None
    if not isinstance(found, dict):
        raise SourceError(f"'{path}': not a JSON object, mend it or take it away")
    return found
