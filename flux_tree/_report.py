"""The report that the first shell of a job writes about its broadcast, as a result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _records
from ._native import lib
from ._records import Result
from .errors import (
    BroadcastError,
    Cancelled,
    DestinationError,
    FluxTreeError,
    PlanError,
    SourceError,
    UsageError,
)
from .plan import ABSENT, Plan

__all__ = ["EVENTLOG", "REPORT", "error_of", "job_failure", "load", "parse", "records"]

#: The keys of a job in the KVS, as the service job-info names them.
REPORT = "guest.tree-bcast"
EVENTLOG = "eventlog"

VERSION = 1
_ERRORS: dict[str, type[FluxTreeError]] = {"source": SourceError, "destination": DestinationError}


def records(jobid: int | str, handle: Any = None, bandwidth: float | None = None) -> Result:
    """Return what the ranks of an earlier broadcast measured, from the KVS of Flux.

    Parameters
    ----------
    jobid : int or str
        Of a job that `flux_tree.broadcast` submitted, or ``flux run -o tree-bcast``, in any form
        that Flux has for it. It may run still, or have ended.
    handle : flux.Flux, optional
        The instance that ran the job; the one around, if not given.
    bandwidth : float, optional
        Of one NIC, bytes per second, to reckon the limit with.

    Returns
    -------
    Result
        Of a broadcast that failed: what was measured until then, with `Result.error` set.

    Raises
    ------
    UsageError
        If there is no such job, or it has made no broadcast, or is not that far yet.
    BroadcastError, Cancelled
        If the job ended before there was anything to report.

    Examples
    --------
    >>> print(flux_tree.records("ƒ26ZPmnkR5"))
    """
    from ._flux import connect, import_flux

    import_flux()
    from flux.job import JobID

    handle = connect(handle)
    try:
        number = JobID(jobid)
        name = str(number.f58)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(
            f"job {str(jobid)!r}: no id of a job, give one as 'flux jobs' does"
        ) from None
    text = _lookup(handle, number, name, REPORT)
    if text is not None:
        return parse(text, f"job {name}", jobid=name, bandwidth=bandwidth)
    events = _lookup(handle, number, name, EVENTLOG)
    if events is None:
        raise UsageError(f"job {name}: there is no such job in this instance")
    jobspec = json.loads(_lookup(handle, number, name, "jobspec") or "{}")
    if "tree-bcast" not in _at(jobspec, "attributes", "system", "shell", "options"):
        raise UsageError(f"job {name}: it made no broadcast, it has no option tree-bcast")
    raise job_failure(name, [json.loads(line) for line in events.splitlines()])


def load(path: str | Path, bandwidth: float | None = None) -> Result:
    """Return the result in a file; see `Result.load`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else "not a text"
        raise UsageError(f"report {path}: cannot be read ({why})") from None
    return parse(text, f"report {path}", bandwidth=bandwidth)


def parse(
    text: str, what: str, *, jobid: str | None = None, bandwidth: float | None = None
) -> Result:
    """Return a report as a result.

    Parameters
    ----------
    text : str
        The report, JSON.
    what : str
        What it is, for messages: "job ƒ...".
    jobid : str, optional
        Of the job, if it is known.
    bandwidth : float, optional
        Of one NIC, bytes per second, to reckon the limit with.

    Returns
    -------
    Result
        Its ``error`` is set if the broadcast failed.

    Raises
    ------
    UsageError
        If it is no such report, or of another version.
    """
    if bandwidth is not None and not bandwidth > 0:
        raise UsageError(f"bandwidth {bandwidth!r}: must be above 0 bytes per second")
    try:
        data = json.loads(text)
        version = data["version"]
        if version != VERSION:
            raise UsageError(f"{what}: a report of version {version}, this flux-tree knows 1")
        plan = _plan(data)
        return Result(
            plan=plan,
            records=_table(data["fields"], data["records"], plan),
            source=data["source"],
            destination=data["destination"],
            bytes=data["bytes"],
            files=data["files"],
            chunk_size=data["chunk_size"],
            engine="flux",
            security=data["security"],
            bandwidth=bandwidth,
            elapsed=data["elapsed"],
            transport=data["transport"],
            jobid=jobid,
            hosts=tuple(data["hosts"]),
            error=None if data["ok"] else str(error_of(data)),
            why=data.get("why"),
        )
    except PlanError as exc:
        raise UsageError(f"{what}: no report of a broadcast ({exc})") from None
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        raise UsageError(f"{what}: no report of a broadcast ({exc!r})") from None


def error_of(report: Mapping[str, Any]) -> FluxTreeError:
    """Return the exception for a report of a failure: the one that the local engine would raise.

    Parameters
    ----------
    report : mapping
        With ``error``: ``rank``, ``host``, ``kind`` and ``text``.

    Returns
    -------
    UsageError, SourceError, DestinationError or BroadcastError
        With the reasons of all ranks that failed in ``failures``.
    """
    failures = _failures(report)
    error = report["error"]
    if error is None:
        return BroadcastError("the broadcast failed, and nobody said why", failures=failures)
    kind = _ERRORS.get(error["kind"], BroadcastError)
    if str(error["text"]).startswith("option tree-bcast"):  # what only the shells could know
        kind = UsageError
    if error["rank"] < 0:
        return kind(error["text"], failures=failures)
    host = f" ({error['host']})" if error["host"] else ""
    text = f"rank {error['rank']}{host}: {error['text']}"
    return kind(text, rank=error["rank"], failures=failures)


def job_failure(name: str, events: list[dict[str, Any]]) -> FluxTreeError:
    """Return the exception for a job that has left no report.

    Parameters
    ----------
    name : str
        The job's id.
    events : list of dict
        Its main eventlog (RFC 21).

    Returns
    -------
    BroadcastError, Cancelled or UsageError
        The last if the job may write one still.
    """
    for event in events:
        context = event.get("context", {})
        if event["name"] == "exception" and context["severity"] == 0:
            note = " ".join(context.get("note", "").split()) or context["type"]
            if context["type"] == "cancel":
                return Cancelled(f"job {name} was cancelled: {note}")
            return BroadcastError(f"job {name}: {note}")
    if all(event["name"] != "clean" for event in events):
        return UsageError(f"job {name}: its broadcast is not over yet, ask again later")
    return BroadcastError(
        f"job {name}: ended without a broadcast, the plugin tree-bcast was not loaded:"
        " see 'flux-tree doctor'"
    )


def _failures(report: Mapping[str, Any]) -> dict[int, str]:
    """Return why each rank that failed did so."""
    state, text = (report["fields"].index(name) for name in ("state", "text"))
    failed = int(lib.RECORD_FAILED)
    return {rank: row[text] for rank, row in enumerate(report["records"]) if row[state] == failed}


def _plan(data: Mapping[str, Any]) -> Plan:
    """Return the plan; of a broadcast that failed before it had one, one without receivers."""
    if data["plan"] is not None or data["ok"]:
        return Plan.from_json(data["plan"])
    return Plan([-1] + [ABSENT] * (len(data["records"]) - 1), strategy=data["strategy"])


def _lookup(handle: Any, jobid: int, name: str, key: str) -> str | None:
    """Return a key of a job as text; None if there is no such key or job."""
    request = {"id": int(jobid), "keys": [key], "flags": 0}
    try:
        with handle.in_reactor():  # else flux-python takes Ctrl-C away from Python
            value: str = handle.rpc("job-info.lookup", request).get()[key]
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BroadcastError(f"job {name}: cannot be looked up ({exc.strerror})") from None
    return value


def _table(fields: list[str], rows: list[list[Any]], plan: Plan) -> NDArray[np.void]:
    """Return the records of a report as an array of DTYPE."""
    table = _records.allocate(plan.size)
    if len(rows) != plan.size:
        raise ValueError(f"{len(rows)} records of {plan.size} ranks")
    for name, *values in zip(fields, *rows):
        if name == "text":
            table[name] = [str(value).encode(errors="replace") for value in values]
        elif name in (table.dtype.names or ()) and table.dtype[name].shape:
            for rank, by_tree in enumerate(values):
                table[name][rank, : len(by_tree)] = by_tree
        elif name in (table.dtype.names or ()):
            table[name] = values
    for name in _records.TIMES:
        table[name][table[name] < 0] = np.nan
    return table


def _at(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key, {}) if isinstance(data, Mapping) else {}
    return data
