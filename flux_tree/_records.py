"""What each rank measured of its own part in a broadcast, and what that comes to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._model.limit import limit
from ._native import ffi, lib

if TYPE_CHECKING:
    from ._model.explain import Explanation
    from ._model.network import Network
    from .plan import Plan

__all__ = ["DTYPE", "STATES", "Result", "allocate"]

#: Names of the values of the field ``state``.
STATES = ("waiting", "running", "received", "complete", "failed")

#: Fields that hold times: seconds since the broadcast began, by the root's clock; NaN if never.
TIMES = ("started", "connected", "first_byte", "last_byte", "verified", "renamed")

_BASES = {"int32_t": "<i4", "uint64_t": "<u8", "double": "<f8"}


def _dtype() -> np.dtype[Any]:
    """Return the layout of ``struct record`` as numpy sees it, taken from the C declaration."""
    names, formats, offsets = [], [], []
    struct = ffi.typeof("struct record")
    for name, info in struct.fields:
        kind: Any
        if info.type.kind == "array" and info.type.item.cname == "char":
            kind = f"S{info.type.length}"
        elif info.type.kind == "array":
            kind = (_BASES[info.type.item.cname], (info.type.length,))
        else:
            kind = _BASES[info.type.cname]
        names.append(name)
        formats.append(kind)
        offsets.append(info.offset)
    size = ffi.sizeof(struct)
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    return np.dtype(spec)  # type: ignore[call-overload]


#: One record. Times (`TIMES`) are seconds since the broadcast began, by the root's clock.
#:
#: ============  =====================================================================
#: rank          the rank
#: state         index into `STATES`
#: deliver       1 if the rank keeps the data, 0 if it only relays it
#: kind, errnum  of a failure: what it is about, and the errno value
#: started       began to connect
#: connected     the first parent has greeted it
#: first_byte    first byte of the payload
#: last_byte     last byte of the payload
#: verified      all of it checked against the root's digest
#: renamed       it stands under its final name
#: alive         when it was last at work, seconds by its own clock; 0 if it has not begun
#: bytes_in      payload bytes received
#: bytes_out     payload bytes sent
#: chunks_in     chunks received
#: chunks_out    chunks sent
#: bytes_kept    payload bytes that were there before, checked, and not asked for
#: bad_chunks    chunks that came, or were read back from disk, with a wrong checksum, and were
#:               asked for again
#: retries       parents lost, each replaced by an ancestor
#: moves         parents left for an ancestor that was faster
#: refused       connections turned away
#: wait_data     seconds with nothing to receive
#: wait_link     of these, seconds in which the rest of a chunk was on its way
#: wait_disk     seconds in file system calls, all threads together
#: cpu           seconds of processor time
#: memory        most resident memory, bytes
#: clock_offset  root's clock less this rank's, seconds (already applied to the times)
#: clock_error   how far `clock_offset` may be off, +- seconds
#: parents       last parent in each tree; -1 at the root, -2 where there is no such tree
#: links         per tree, seconds in which the rest of a chunk was on its way from that parent
#: text          what went wrong, one line
#: ============  =====================================================================
DTYPE: np.dtype[Any] = _dtype()


def allocate(n: int) -> NDArray[np.void]:
    """Return records of `n` ranks that have not begun.

    Parameters
    ----------
    n : int
        Ranks.

    Returns
    -------
    ndarray of DTYPE, shape (n,)
    """
    records = np.zeros(n, DTYPE)
    reset(records)
    return records


def reset(records: NDArray[np.void]) -> None:
    """Make `records`, in place, those of ranks that have not begun.

    Parameters
    ----------
    records : ndarray of DTYPE, shape (n,)
    """
    records[:] = np.zeros((), DTYPE)
    records["rank"] = np.arange(len(records))
    records["parents"] = lib.TREE_ABSENT
    for name in TIMES:
        records[name] = -1.0


def failures(records: NDArray[np.void]) -> dict[int, str]:
    """Return the ranks that failed, in order, and what went wrong for each.

    Parameters
    ----------
    records : ndarray of DTYPE, shape (n,)

    Returns
    -------
    dict of int to str
    """
    failed = records[records["state"] == lib.RECORD_FAILED]
    return {int(r["rank"]): os.fsdecode(r["text"]) for r in failed}


@dataclass(frozen=True)
class Result:
    """A broadcast that is over, or one that was predicted: the same for every engine.

    Attributes
    ----------
    plan : Plan
        What moved where.
    records : ndarray of DTYPE, shape (n,)
        What each rank measured. Times that never came are NaN.
    source : str
        What was broadcast.
    destination : str
        Where to, as it was given.
    bytes : int
        Of the payload: the data of all files, without holes.
    files : int
        Regular files in it.
    chunk_size : int
        Bytes.
    engine : str
        What moved the bytes: "local", processes of this machine; "lab", the same, each on a host
        of a `flux_tree.lab.Lab`; or "flux", the shells of a job.
    security : str
        "tls" or "none".
    bandwidth : float or None
        Of one NIC, bytes per second, as given or measured: what the limit is reckoned with. None
        if nobody knows.
    elapsed : float
        Seconds that the whole call took, with starting and ending the ranks; in a job, from the
        first word of the first shell to the end of the broadcast.
    transport : str
        "direct", the plan's own connections, or "content", the content cache of Flux.
    measured : bool
        The bandwidth was measured, not given.
    jobid : str or None
        Of the job of Flux that did it, where there was one and it is known.
    hosts : tuple of str or None
        The host of each rank, in a job or a lab.
    error : str or None
        Why the broadcast failed; None for one that worked. Only `flux_tree.records` and `load`
        return results of failed ones.
    why : str or None
        Why the strategy "auto" has chosen this plan; None if it was not asked.
    network : Network or None
        What `explanation` is to reckon with; None for what it finds by itself. Of a prediction,
        what it was reckoned with.
    """

    plan: Plan
    records: NDArray[np.void]
    source: str
    destination: str
    bytes: int
    files: int
    chunk_size: int
    engine: str
    security: str
    bandwidth: float | None
    elapsed: float
    transport: str = "direct"
    measured: bool = False
    jobid: str | None = None
    hosts: tuple[str, ...] | None = None
    error: str | None = None
    why: str | None = None
    network: Network | None = None

    @classmethod
    def load(cls, path: str | Path, bandwidth: float | None = None) -> Result:
        """Return the result that a job wrote with ``-o tree-bcast.report=FILE``.

        Parameters
        ----------
        path : str or Path
            The file.
        bandwidth : float, optional
            Of one NIC, bytes per second, to reckon the limit with.

        Returns
        -------
        Result

        Raises
        ------
        UsageError
            If the file cannot be read, or is no such report.
        """
        from ._report import load

        return load(path, bandwidth)

    def __str__(self) -> str:
        """Return the table of the ranks and the figures that count, as ``flux-tree`` prints."""
        from ._table import result_text

        return result_text(self)

    @cached_property
    def failures(self) -> dict[int, str]:
        """The ranks that failed, in order, and why; with ``on_failure="continue"`` all others
        have the data all the same.
        """
        return failures(self.records)

    @cached_property
    def delivered(self) -> NDArray[np.int32]:
        """The ranks that keep the data and have it under its final name."""
        has = (self.records["deliver"] == 1) & (self.records["state"] == lib.RECORD_COMPLETE)
        return np.flatnonzero(has).astype(np.int32)

    @cached_property
    def receivers(self) -> NDArray[np.void]:
        """Records of the ranks that got the data from another one and keep it."""
        mask = (self.records["rank"] > 0) & (self.records["deliver"] == 1)
        return self.records[mask] if mask.any() else self.records[:1]

    @cached_property
    def limit(self) -> float | None:
        """Seconds that it takes at least: `flux_tree.model.limit` of what the rank lacked that
        had the least of it before; None if unknown.
        """
        if self.bandwidth is None:
            return None
        return limit(self.bytes - int(self.receivers["bytes_kept"].min()), self.bandwidth)

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Bytes per second at which each rank received, first byte to last; NaN if it did not."""
        r = self.records
        span = r["last_byte"] - r["first_byte"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(span > 0, r["bytes_in"] / span, np.nan)

    @cached_property
    def explanation(self) -> Explanation | None:
        """What was predicted, where the time went, and who was slow; None for a prediction.

        As of `flux_tree.model.explain`.
        """
        from ._model.explain import explain

        return None if self.engine == "model" else explain(self)

    def summary(self) -> dict[str, Any]:
        """Return the main figures.

        Returns
        -------
        dict
            ``strategy``, ``why``, ``engine``, ``transport``, ``security``, ``jobid``, ``error``,
            ``ranks`` (that took part), ``stripes``, ``depth``, ``bytes``, ``files``,
            ``chunk_size``; seconds until the data was verified: ``slowest_s`` with
            ``slowest_rank``, ``median_s``, ``p95_s``,
            ``fastest_s`` (of a failed broadcast: of the ranks that got it, None if none
            did); ``elapsed_s`` of the whole call; ``limit_s``, ``limit_ratio`` (slowest_s /
            limit_s) and ``limit_percent`` (100 / limit_ratio), None where the limit is unknown or
            0; ``bandwidth`` in bytes/s; ``predicted_s``, what `explanation` predicts of the slowest
            rank, and ``predicted_ratio`` (slowest_s / predicted_s), None if nothing is predicted;
            ``parts``, where the time of the slowest rank went, in seconds by the names of
            `explanation`, None if no rank got the data; ``slow_ranks``, a list of ``rank``,
            ``host``, ``rate`` and ``expected`` in bytes/s, and ``reason``; ``cpu_s`` of all ranks;
            ``memory`` of the largest rank in bytes; ``clock_error_s``, the largest; ``retries``,
            ``moves``, ``bad_chunks`` and ``bytes_kept``, sums; ``delivered``, how many ranks keep
            the data and have it; ``failures``, a list of ``rank``, ``host`` and ``text``, why.
        """
        r = self.receivers
        r = r[np.isfinite(r["verified"]) & (r["state"] != lib.RECORD_FAILED)]
        times = r["verified"]
        slowest = float(np.max(times)) if len(r) else None
        ratio = slowest / self.limit if slowest is not None and self.limit else None
        slowest_rank = int(r["rank"][np.argmax(times)]) if len(r) else None
        took_part = self.records[self.records["state"] > 0]
        explained = self.explanation
        predicted, parts, slow = None, None, []
        if explained is not None:
            predicted, slow = explained.time, [rank.to_dict() for rank in explained.slow]
            parts = None if slowest_rank is None else explained.of(slowest_rank)
        return {
            "strategy": self.plan.strategy,
            "why": self.why,
            "engine": self.engine,
            "transport": self.transport,
            "security": self.security,
            "jobid": self.jobid,
            "error": self.error,
            "ranks": len(took_part),
            "stripes": self.plan.stripes,
            "depth": self.plan.depth,
            "bytes": self.bytes,
            "files": self.files,
            "chunk_size": self.chunk_size,
            "slowest_s": slowest,
            "slowest_rank": slowest_rank,
            "median_s": float(np.median(times)) if len(r) else None,
            "p95_s": float(np.percentile(times, 95)) if len(r) else None,
            "fastest_s": float(np.min(times)) if len(r) else None,
            "elapsed_s": self.elapsed,
            "limit_s": self.limit,
            "limit_ratio": ratio,
            "limit_percent": 100 / ratio if ratio else None,
            "bandwidth": self.bandwidth,
            "predicted_s": predicted,
            "predicted_ratio": slowest / predicted if slowest is not None and predicted else None,
            "parts": parts,
            "slow_ranks": slow,
            "cpu_s": float(took_part["cpu"].sum()),
            "memory": int(took_part["memory"].max(initial=0)),
            "clock_error_s": float(took_part["clock_error"].max(initial=0.0)),
            "retries": int(took_part["retries"].sum()),
            "moves": int(took_part["moves"].sum()),
            "bad_chunks": int(took_part["bad_chunks"].sum()),
            "bytes_kept": int(took_part["bytes_kept"].sum()),
            "delivered": len(self.delivered),
            "failures": [
                {"rank": rank, "host": self.hosts and self.hosts[rank], "text": text}
                for rank, text in self.failures.items()
            ],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the records of the ranks that took part, as plain Python values.

        Returns
        -------
        list of dict
            The fields of `DTYPE`, ``rate`` in bytes/s, ``predicted``, seconds until ``verified``,
            and, where they are known, ``host``; times that never came, or were not predicted, are
            None. If the broadcast or a rank failed also ``text``, what went wrong.
        """
        rows = []
        explained = self.explanation
        predicted = np.full(len(self.records), np.nan)
        if explained is not None:
            predicted = explained.predicted
        for record, rate, time in zip(self.records, self.rates, predicted):
            if record["state"] == 0:
                continue
            row: dict[str, Any] = {name: record[name].item() for name in _PLAIN}
            row["state"] = STATES[record["state"]]
            row["deliver"] = bool(record["deliver"])
            for name in _BY_TREE:
                row[name] = record[name][: self.plan.stripes].tolist()
            row["rate"] = float(rate)
            row["predicted"] = float(time)
            if self.hosts is not None:
                row["host"] = self.hosts[record["rank"]]
            if self.error is not None or self.failures:
                row["text"] = record["text"].decode(errors="replace")
            for name, value in row.items():
                if isinstance(value, float) and np.isnan(value):
                    row[name] = None
            rows.append(row)
        return rows

    def to_json(self) -> str:
        """Return ``{"summary": ..., "records": [...], "plan": ..., ...}`` as JSON text."""
        return json.dumps(
            {
                "summary": self.summary(),
                "records": self.rows(),
                "plan": self.plan.to_dict(),
                "source": self.source,
                "destination": self.destination,
            }
        )

    def plot(self, path: str | Path) -> None:
        """Draw when each rank received, beside the tree, into a file.

        Parameters
        ----------
        path : str or Path
            Its ending chooses the format: .png, .svg, .pdf.

        Raises
        ------
        UsageError
            If matplotlib is not installed, or the ending is none that it knows.
        """
        from .plot import plot_result

        plot_result(self, path)


_BY_TREE = [name for name in DTYPE.names or () if DTYPE[name].shape]
_PLAIN = [name for name in DTYPE.names or () if name not in (*_BY_TREE, "text", "kind", "errnum")]
