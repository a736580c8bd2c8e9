"""The one call that a user makes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from . import _local
from ._payload import Payload
from ._records import Result
from .errors import UsageError
from .model import chunk_size as best_chunk_size
from .plan import Plan
from .strategies import Strategy
from .strategies import plan as make_plan
from .topology import Topology

__all__ = ["broadcast"]

SECURITY = ("tls", "none")

#: More threads than this are of no use to a rank.
MAX_WORKERS = 16


def broadcast(
    source: str | os.PathLike[str] | Payload,
    destination: str | os.PathLike[str],
    strategy: str | Strategy | Plan = "two-tree",
    *,
    ranks: int | None = None,
    topology: Topology | str | None = None,
    members: Iterable[int] | None = None,
    chunk_size: int | None = None,
    security: str = "tls",
    overwrite: bool = False,
    timeout: float = 60.0,
    workers: int | None = None,
    bandwidth: float | None = None,
    measure_clock: bool = False,
    progress: Callable[[NDArray[np.void]], None] | None = None,
) -> Result:
    """Broadcast a file or a directory from rank 0 to every rank, and time each of them.

    The ranks are processes of this machine, each with a destination of its own. Rank 0 reads the
    source; if it is among the members (it is, unless `members` or the strategy say otherwise), it
    makes a copy at its own destination like all others. Either every rank gets the data under its
    final name, or none does.

    Parameters
    ----------
    source : path-like or Payload
        A regular file or a directory; or one that was scanned already, to know its size before.
    destination : path-like
        As in ``cp``: an existing directory receives the source under its own name, anything else
        is the new name. ``{rank}`` stands for the rank, and is needed with more than one.
    strategy : str, Strategy or Plan, default "two-tree"
        By name (``flux-tree strategies`` lists them), an object of a class of your own, or a
        finished plan.
    ranks : int, optional
        How many. As many as the topology or the plan has, or 8.
    topology : Topology or str, optional
        The tree that strategies such as "tbon" and "leaves" start from, as a spec ("kary:2") or a
        `Topology`. Flux's own default, "kary:32", if not given.
    members : iterable of int, optional
        The ranks that want the data; all, if not given.
    chunk_size : int, optional
        Bytes; chosen from the size of the payload and the depth of the plan, if not given.
    security : {"tls", "none"}, default "tls"
        "none" turns the encryption of the data off, never the authentication.
    overwrite : bool, default False
        Replace destinations that exist, instead of refusing.
    timeout : float, default 60.0
        Seconds without progress after which a rank gives up.
    workers : int, optional
        Threads of each rank that move data, at most 16; the processors divided by the ranks, up to
        4, if not given.
    bandwidth : float, optional
        Of one NIC, bytes per second, to reckon the limit with. Measured, one stream through the
        loopback interface, if not given.
    measure_clock : bool, default False
        Measure the offsets of the ranks' clocks although they share one.
    progress : callable, optional
        Called about 20 times a second with the records (`flux_tree.RECORD_DTYPE`) as they are;
        ``records["bytes_in"]`` grows up to the size of the payload on each receiving rank.

    Returns
    -------
    Result

    Raises
    ------
    UsageError, PlanError, TopologyError
        If a parameter makes no sense.
    SourceError
        If the source cannot be read, holds what cannot travel, or changes meanwhile.
    DestinationError
        If a destination exists, or cannot be written.
    BroadcastError
        If a rank is lost or the transfer fails.

    Examples
    --------
    >>> result = flux_tree.broadcast("model", "/tmp/rank-{rank}", "chain", ranks=8)
    >>> result.summary()["slowest_s"]
    """
    begin = time.monotonic()
    if security not in SECURITY:
        raise UsageError(f"security {security!r}: must be one of {', '.join(SECURITY)}")
    if not timeout > 0:
        raise UsageError(f"timeout {timeout!r}: must be above 0 seconds")
    if workers is not None and (workers != int(workers) or workers < 1):
        raise UsageError(f"workers {workers!r}: must be a whole number of at least 1")
    if bandwidth is not None and not bandwidth > 0:
        raise UsageError(f"bandwidth {bandwidth!r}: must be above 0 bytes per second")
    plan = _make_plan(strategy, topology, ranks, members)
    text = os.fsdecode(destination)
    if not text or "\0" in text:
        raise UsageError(f"destination {text!r}: no path, give a file or a directory")
    count = int(np.count_nonzero(plan.present))
    if count > 1 and "{rank}" not in text:
        raise UsageError(
            f"destination {text}: {count} ranks on one machine would write to the same place: "
            f"put {{rank}} into it, as in {text.rstrip('/')}-{{rank}}"
        )
    payload = source if isinstance(source, Payload) else Payload.scan(source)
    if chunk_size is None:
        chunk_size = best_chunk_size(payload.bytes, plan.depth, plan.stripes)
    payload = payload.with_chunk_size(chunk_size)
    if workers is None:
        workers = min(4, max(1, (os.cpu_count() or 1) // count))
    records = _local.run(
        plan,
        payload,
        [text.replace("{rank}", str(r)) for r in range(plan.size)],
        security=security,
        overwrite=overwrite,
        timeout=timeout,
        workers=min(int(workers), MAX_WORKERS),
        measure_clock=measure_clock,
        progress=progress,
    )
    elapsed = time.monotonic() - begin
    return Result(
        plan=plan,
        records=records,
        source=payload.source,
        destination=text,
        bytes=payload.bytes,
        files=payload.files,
        chunk_size=payload.chunk_size,
        engine="local",
        security=security,
        bandwidth=_local.loopback_bandwidth() if bandwidth is None else bandwidth,
        elapsed=elapsed,
        measured=bandwidth is None,
    )


def _make_plan(
    strategy: str | Strategy | Plan,
    topology: Topology | str | None,
    ranks: int | None,
    members: Iterable[int] | None,
) -> Plan:
    """Return the plan that the parameters of `broadcast` describe."""
    if ranks is not None and ranks < 1:
        raise UsageError(f"ranks {ranks}: must be at least 1")
    if isinstance(strategy, Plan):
        if ranks is not None and ranks != strategy.size:
            raise UsageError(f"ranks {ranks}: the plan is one of {strategy.size}, leave it out")
        return strategy
    if isinstance(topology, Topology):
        if ranks is not None and ranks != topology.size:
            raise UsageError(f"ranks {ranks}: the topology has {topology.size}, leave it out")
    else:
        topology = Topology.from_spec(topology or "kary:32", 8 if ranks is None else ranks)
    return make_plan(strategy, topology, members)
