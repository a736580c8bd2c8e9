"""What no plan can beat, and the best chunk size."""

from __future__ import annotations

from .._native import lib
from ..errors import UsageError

__all__ = ["CHUNK_SIZE_MAX", "CHUNK_SIZE_MIN", "chunk_size", "limit"]

#: Bounds of what `chunk_size` gives, in bytes.
CHUNK_SIZE_MIN: int = lib.PLAN_CHUNK_MIN
CHUNK_SIZE_MAX: int = lib.PLAN_CHUNK_MAX


def limit(size: int, bandwidth: float, latency: float = 0.0, depth: int = 1) -> float:
    """Return the least time in which `size` bytes can reach every rank.

    Every rank must take in all bytes through its one NIC, and the last byte that the root sends
    has still to travel: bytes / bandwidth + depth x latency.

    Parameters
    ----------
    size : int
        Bytes of the payload.
    bandwidth : float
        Of one NIC, in one direction, bytes per second.
    latency : float, default 0.0
        Of one hop, seconds.
    depth : int, default 1
        Hops.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    UsageError
        If `bandwidth` is not above 0.
    """
    if not bandwidth > 0:
        raise UsageError(f"bandwidth {bandwidth!r}: must be above 0 bytes per second")
    return size / bandwidth + depth * latency


def chunk_size(size: int, depth: int, stripes: int = 1, bandwidth: float | None = None) -> int:
    """Return a good chunk size for a payload and a plan.

    A pipeline of depth D ends D chunks after its line time, and each chunk costs some overhead:
    the sum of the two is least at ``sqrt(size x overhead x bandwidth / D)``, with an overhead of
    20 us. The result is rounded to a power of two and bounded, so that the memory of a rank is
    bounded as well.

    Parameters
    ----------
    size : int
        Bytes of the payload.
    depth : int
        Of the plan, hops.
    stripes : int, default 1
        Trees of the plan; each receives into a chunk of its own.
    bandwidth : float, optional
        Of one NIC, bytes per second. 1 Gbit/s is reckoned with, if not given.

    Returns
    -------
    int
        Bytes, a power of two from `CHUNK_SIZE_MIN` to `CHUNK_SIZE_MAX`.
    """
    return int(lib.plan_chunk_size(size, depth, stripes, bandwidth or 0.0))
