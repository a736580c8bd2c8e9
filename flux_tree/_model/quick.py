"""Times in closed form without records of the ranks: for many sizes, chunk sizes and trees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._native import check, ffi, lib
from ..plan import Plan
from .network import Native
from .predict import BLOB_SIZE

__all__ = ["content_time", "direct_time"]


def direct_time(plan: Plan, size: int, chunk: int, native: Native) -> float:
    """Return how long the direct transport would take.

    Parameters
    ----------
    plan : Plan
        Who sends what to whom.
    size : int
        Of the payload, bytes.
    chunk : int
        Of a chunk, bytes.
    native : Native
        The network, for as many ranks.

    Returns
    -------
    float
        Seconds until the slowest rank that keeps the data has all of it.
    """
    times = np.empty(plan.size)
    fault = ffi.new("struct fault *")
    rc = lib.estimate_direct(plan._native(), native.struct, size, chunk, _pointer(times), fault)
    check(rc, fault)
    return _slowest(plan, times)


def content_time(plan: Plan, size: int, native: Native) -> float:
    """Return how long `flux archive extract` would take, of blobs that all differ.

    Parameters
    ----------
    plan : Plan
        Its one tree is the TBON; who keeps the data extracts.
    size : int
        Of the archive, bytes.
    native : Native
        The network, for as many ranks. Its ``start`` is when the first blob is asked for.

    Returns
    -------
    float
        Seconds until the slowest rank has all of it.
    """
    times = np.empty(plan.size)
    fault = ffi.new("struct fault *")
    blobs = -(-size // BLOB_SIZE)
    rc = lib.estimate_content(
        plan._native(), native.struct, min(BLOB_SIZE, size), blobs, blobs, 1, _pointer(times), fault
    )
    check(rc, fault)
    return _slowest(plan, times)


def _slowest(plan: Plan, times: NDArray[np.float64]) -> float:
    receives = plan.deliver.copy()
    receives[0] = False
    return float(times[receives].max(initial=0.0))


def _pointer(times: NDArray[np.float64]) -> Any:
    return ffi.cast("double *", times.ctypes.data)
