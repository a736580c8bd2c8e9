"""What each rank measured of its own part in a broadcast, and what that comes to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._native import ffi, lib
from .model import limit

if TYPE_CHECKING:
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
#: bytes_in      payload bytes received
#: bytes_out     payload bytes sent
#: chunks_in     chunks received
#: chunks_out    chunks sent
#: bad_chunks    chunks that came with a wrong checksum, and were asked for again
#: retries       parents lost, each replaced by an ancestor
#: refused       connections turned away
#: wait_data     seconds with nothing to receive
#: wait_disk     seconds in file system calls, all threads together
#: cpu           seconds of processor time
#: memory        most resident memory, bytes
#: clock_offset  root's clock less this rank's, seconds (already applied to the times)
#: clock_error   how far `clock_offset` may be off, +- seconds
#: parents       last parent in each tree; -1 at the root, -2 where there is no such tree
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
        What moved the bytes: "local".
    security : str
        "tls" or "none".
    bandwidth : float
        Of one NIC, bytes per second, as given or measured: what the limit is reckoned with.
    elapsed : float
        Seconds that the whole call took, with starting and ending the ranks.
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
    bandwidth: float
    elapsed: float

    @cached_property
    def receivers(self) -> NDArray[np.void]:
        """Records of the ranks that got the data from another one and keep it."""
        mask = (self.records["rank"] > 0) & (self.records["deliver"] == 1)
        return self.records[mask] if mask.any() else self.records[:1]

    @cached_property
    def limit(self) -> float:
        """Seconds that the payload takes at least: `flux_tree.model.limit`."""
        return limit(self.bytes, self.bandwidth)

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Bytes per second at which each rank received, first byte to last; NaN if it did not."""
        r = self.records
        span = r["last_byte"] - r["first_byte"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(span > 0, r["bytes_in"] / span, np.nan)

    def summary(self) -> dict[str, Any]:
        """Return the main figures.

        Returns
        -------
        dict
            ``strategy``, ``engine``, ``security``, ``ranks`` (that took part), ``stripes``,
            ``depth``, ``bytes``, ``files``, ``chunk_size``; seconds until the data was verified:
            ``slowest_s`` with ``slowest_rank``, ``median_s``, ``p95_s``, ``fastest_s``;
            ``elapsed_s`` of the whole call; ``limit_s``, ``limit_ratio`` (slowest_s / limit_s) and
            ``limit_percent`` (100 / limit_ratio); ``bandwidth`` in bytes/s; ``cpu_s`` of all ranks;
            ``memory`` of the largest rank in bytes; ``clock_error_s``, the largest; ``retries``
            and ``bad_chunks``, sums.
        """
        r = self.receivers
        times = r["verified"]
        slowest = float(np.max(times))
        ratio = slowest / self.limit if self.limit > 0 else None
        took_part = self.records[self.records["state"] > 0]
        return {
            "strategy": self.plan.strategy,
            "engine": self.engine,
            "security": self.security,
            "ranks": len(took_part),
            "stripes": self.plan.stripes,
            "depth": self.plan.depth,
            "bytes": self.bytes,
            "files": self.files,
            "chunk_size": self.chunk_size,
            "slowest_s": slowest,
            "slowest_rank": int(r["rank"][np.argmax(times)]),
            "median_s": float(np.median(times)),
            "p95_s": float(np.percentile(times, 95)),
            "fastest_s": float(np.min(times)),
            "elapsed_s": self.elapsed,
            "limit_s": self.limit,
            "limit_ratio": ratio,
            "limit_percent": 100 / ratio if ratio else None,
            "bandwidth": self.bandwidth,
            "cpu_s": float(took_part["cpu"].sum()),
            "memory": int(took_part["memory"].max()),
            "clock_error_s": float(took_part["clock_error"].max()),
            "retries": int(took_part["retries"].sum()),
            "bad_chunks": int(took_part["bad_chunks"].sum()),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the records of the ranks that took part, as plain Python values.

        Returns
        -------
        list of dict
            The fields of `DTYPE`, and ``rate`` in bytes/s; times that never came are None.
        """
        rows = []
        for record, rate in zip(self.records, self.rates):
            if record["state"] == 0:
                continue
            row: dict[str, Any] = {name: record[name].item() for name in _PLAIN}
            row["state"] = STATES[record["state"]]
            row["deliver"] = bool(record["deliver"])
            row["parents"] = record["parents"][: self.plan.stripes].tolist()
            row["rate"] = float(rate)
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


_PLAIN = [name for name in DTYPE.names or () if name not in ("parents", "text", "kind", "errnum")]
