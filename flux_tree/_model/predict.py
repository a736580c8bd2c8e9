"""Predictions: how long a plan would take on a network, as a result of the usual kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _records
from .._native import check, ffi, lib
from .._records import Result
from ..errors import UsageError
from ..plan import ABSENT, Plan
from .limit import chunk_size as best_chunk_size
from .network import Native, Network

__all__ = ["BLOB_SIZE", "METHODS", "Prediction", "predict"]

METHODS = ("simulation", "closed-form")

#: What `flux archive` cuts files into, bytes.
BLOB_SIZE = 1 << 20

#: More chunks times ranks than this are not simulated if nobody asks for it.
SIMULATE_MOST = 8_000_000


@dataclass(frozen=True)
class Prediction(Result):
    """A broadcast that was predicted: a `Result` with the engine "model".

    Attributes
    ----------
    network : Network
        What it was reckoned with.
    method : str
        "simulation" or "closed-form". In closed form only the field ``verified`` of the records,
        and what follows from the plan, is filled in.
    times : ndarray of float64, shape (n,), or None
        Of a closed form: seconds until each rank has all, -1 for one that takes no part. The
        records, 100 times as large, are made from it when somebody wants them.
    """

    network: Network | None = None
    method: str = ""
    times: NDArray[np.float64] | None = None

    def __getattr__(self, name: str) -> Any:
        """Make the records of a closed form."""
        if name != "records" or self.times is None:
            raise AttributeError(f"a Prediction has no attribute {name!r}")
        records = _in_closed_form(self.plan, self.bytes, self.chunk_size, self.times)
        object.__setattr__(self, "records", records)
        return records

    @property
    def time(self) -> float:
        """Seconds until the slowest rank has all."""
        if self.times is None:
            return float(np.nanmax(self.receivers["verified"]))
        receives = self.plan.deliver.copy()
        receives[0] = False
        return float(self.times[receives].max(initial=0.0))


def predict(
    plan: Plan,
    size: int,
    network: Network,
    *,
    method: str | None = None,
    chunk_size: int | None = None,
    transport: str = "direct",
    security: str = "tls",
    window: int = 1,
    blobs: Sequence[int] | NDArray[Any] | None = None,
) -> Prediction:
    """Return how long a plan would take.

    Parameters
    ----------
    plan : Plan
        Who sends what to whom. With ``transport="content"`` its one tree is the TBON, and the
        ranks that keep the data are those that extract.
    size : int
        Of the payload, bytes.
    network : Network
        Between which machines.
    method : {"simulation", "closed-form"}, optional
        Chunk by chunk, or by a formula. The first, if not given, unless it took minutes.
    chunk_size : int, optional
        Bytes; as a broadcast would choose it, if not given.
    transport : {"direct", "content"}, default "direct"
        "content" is `flux archive extract`, or the content transport with its `window`.
    security : {"tls", "none"}, default "tls"
        Of the direct transport.
    window : int, default 1
        With "content": blobs that a rank asks for at a time; `flux archive` has one.
    blobs : array_like of int, shape (nblobs,), optional
        With "content": what is in each blob of 1 MiB, as numbers from 0 on: equal blobs are stored,
        and travel, once. All are different, if not given.

    Returns
    -------
    Prediction

    Raises
    ------
    UsageError
        If a parameter makes no sense.

    Examples
    --------
    >>> plan = flux_tree.strategies.plan("two-tree", 1024)
    >>> flux_tree.model.predict(plan, 20 << 30, Network(bandwidth=3.1e9)).time
    """
    _check(size, method, transport, security, window, chunk_size)
    content = transport == "content"
    if blobs is not None and not content:
        raise UsageError("blobs: of transport 'content' only, leave them out")
    if content:
        chunk_size = BLOB_SIZE
    elif chunk_size is None:
        chunk_size = best_chunk_size(size, plan.depth, plan.stripes, network.bandwidth)
    if method is None:
        work = size / chunk_size * plan.size
        method = METHODS[0] if work <= SIMULATE_MOST else METHODS[1]
    native = Native(network, plan.size, encrypt=security == "tls")
    if content:
        native.struct.start = network.extract_start
        found = _content(plan, size, native, method, window, blobs)
    else:
        found = _direct(plan, size, native, method, chunk_size)
    closed = method == METHODS[1]
    prediction = Prediction(
        plan=plan,
        records=found,
        source="",
        destination="",
        bytes=size,
        files=1,
        chunk_size=chunk_size,
        engine="model",
        security=security,
        bandwidth=network.bandwidth,
        elapsed=float(np.nanmax(found if closed else found["verified"])),
        transport=transport,
        network=network,
        method=method,
        times=found if closed else None,
    )
    if closed:
        object.__delattr__(prediction, "records")
    return prediction


def _direct(plan: Plan, size: int, native: Native, method: str, chunk: int) -> NDArray[Any]:
    """Return the records of a simulation, or the times of a closed form."""
    fault = ffi.new("struct fault *")
    if method == "closed-form":
        times = np.empty(plan.size)
        check(
            lib.estimate_direct(plan._native(), native.struct, size, chunk, _doubles(times), fault),
            fault,
        )
        return times
    forecast = Forecast(plan.size)
    rc = lib.simulate_direct(plan._native(), native.struct, size, chunk, forecast.struct, fault)
    check(rc, fault)
    records = forecast.records(plan, size, -(-size // chunk))
    records["parents"][:, : plan.stripes] = plan.parents.T
    return records


def _content(
    plan: Plan, size: int, native: Native, method: str, window: int, blobs: Any
) -> NDArray[Any]:
    """Return the records of a simulation, or the times of a closed form."""
    count = -(-size // BLOB_SIZE)
    ids = np.arange(count, dtype=np.int32) if blobs is None else np.asarray(blobs)
    if ids.shape != (count,):
        raise UsageError(f"blobs: {ids.size} of them, and {size} bytes are {count}")
    if size % BLOB_SIZE and ids[-1] in ids[:-1]:
        raise UsageError("blobs: the last one is shorter, so it is equal to no other")
    ids = np.unique(ids, return_inverse=True)[1].astype(np.int32)
    fault = ffi.new("struct fault *")
    distinct = int(ids.max(initial=-1)) + 1
    if method == "closed-form":
        times = np.empty(plan.size)
        piece = min(BLOB_SIZE, size)
        rc = lib.estimate_content(
            plan._native(), native.struct, piece, count, distinct, window, _doubles(times), fault
        )
        check(rc, fault)
        return times
    forecast = Forecast(plan.size)
    last = size - (count - 1) * BLOB_SIZE
    pointer = ffi.cast("int32_t *", ids.ctypes.data)
    rc = lib.simulate_content(
        plan._native(),
        native.struct,
        BLOB_SIZE,
        last,
        pointer,
        count,
        window,
        forecast.struct,
        fault,
    )
    check(rc, fault)
    records = forecast.records(plan, size, count)
    records["parents"][:, 0] = plan.parents[0]
    return records


def _in_closed_form(plan: Plan, size: int, chunk: int, times: Any) -> NDArray[np.void]:
    """Return records of which only the end is known."""
    forecast = Forecast(plan.size)
    forecast.done[:] = times
    forecast.out[:] = plan.load * size
    records = forecast.records(plan, size, -(-size // chunk))
    records["parents"][:, : plan.stripes] = plan.parents.T
    return records


class Forecast:
    """The arrays of a ``struct forecast``.

    Parameters
    ----------
    n : int
        Ranks.
    """

    def __init__(self, n: int) -> None:
        self.struct = ffi.new("struct forecast *")
        for name in ("connected", "first", "last", "done", "out"):
            array = np.full(n, -1.0)
            setattr(self, name, array)
            setattr(self.struct, name, _doubles(array))

    connected: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    done: NDArray[np.float64]
    out: NDArray[np.float64]

    def records(self, plan: Plan, size: int, chunks: int) -> NDArray[np.void]:
        """Return what the ranks would have measured.

        Parameters
        ----------
        plan : Plan
            Who takes part.
        size : int
            Bytes of the payload.
        chunks : int
            Of it.

        Returns
        -------
        ndarray of DTYPE, shape (n,)
        """
        records = _records.allocate(plan.size)
        part = plan.present & (self.done >= 0)
        receives = part.copy()
        receives[0] = False
        records["state"][part] = _records.STATES.index("complete")
        records["deliver"] = plan.deliver
        records["started"][part] = 0.0
        records["connected"] = self.connected
        records["first_byte"] = self.first
        records["last_byte"] = self.last
        records["verified"] = self.done
        records["renamed"][part] = self.done[part].max(initial=0.0)
        records["bytes_in"][receives] = size
        records["chunks_in"][receives] = chunks
        records["bytes_out"] = np.maximum(self.out, 0)
        records["parents"] = ABSENT
        for name in _records.TIMES:
            records[name][records[name] < 0] = np.nan
        return records


def _doubles(array: NDArray[np.float64]) -> Any:
    return ffi.cast("double *", array.ctypes.data)


def _check(
    size: int,
    method: str | None,
    transport: str,
    security: str,
    window: int,
    chunk_size: int | None,
) -> None:
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
        raise UsageError(f"size {size!r}: give whole bytes, not below 0")
    if method is not None and method not in METHODS:
        raise UsageError(f"method {method!r}: use {' or '.join(METHODS)}")
    for name, value, known in (
        ("transport", transport, ("direct", "content")),
        ("security", security, ("tls", "none")),
    ):
        if value not in known:
            raise UsageError(f"{name} {value!r}: use {' or '.join(known)}")
    if window < 1 or (chunk_size is not None and chunk_size < 1):
        raise UsageError(f"window {window}, chunk size {chunk_size}: give 1 or more")
