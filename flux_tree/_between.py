"""A broadcast between processes of this machine: what `flux_tree.broadcast` does without Flux."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from . import _local
from ._model.limit import chunk_size as best_chunk_size
from ._payload import Payload
from ._racks import Racks, with_racks
from ._records import Result
from ._registry import is_reference, open_feed
from ._transfer import Transfer, check_bandwidth
from .errors import UsageError
from .plan import Plan
from .strategies import LOOPBACK, Auto, Choice, Strategy, get, known_network
from .strategies import plan as make_plan
from .topology import Topology

__all__ = ["between_processes", "local_plan", "opened"]

#: About what the loopback interface moves, bytes per second: enough to choose chunks by.
LOOPBACK_BANDWIDTH = 1.25e9

#: More threads than this are of no use to a rank.
MAX_WORKERS = 16


def between_processes(
    source: str | os.PathLike[str] | Payload,
    destination: str | os.PathLike[str],
    strategy: str | Strategy | Plan | None,
    *,
    topology: Topology | str | None,
    ranks: int | None,
    members: Iterable[int] | None,
    racks: Racks | None = None,
    chunk_size: int | None,
    transfer: Transfer,
    bandwidth: float | None,
    measure_clock: bool = False,
    progress: Callable[[NDArray[np.void]], None] | None,
    places: Sequence[tuple[int, str]] | None = None,
    hosts: Sequence[str] | None = None,
) -> Result:
    """Broadcast with the embedded engine, between processes of this machine.

    Parameters
    ----------
    source, destination, strategy, topology, ranks, members, racks, chunk_size, bandwidth, \
    measure_clock, progress
        As of `flux_tree.broadcast`.
    transfer : Transfer
        How the data is to move.
    places : sequence of (int, str), optional
        Of each rank of a lab, its network namespace (a file descriptor) and its address there.
    hosts : sequence of str, optional
        Of each rank of a lab, the name of its host.

    Returns
    -------
    Result
        Of the engine "lab" if there are places, else of "local".

    Raises
    ------
    FluxTreeError
        As of `flux_tree.broadcast`.
    """
    begin = time.monotonic()
    check_bandwidth(bandwidth)
    text = os.fsdecode(destination)
    if not text or "\0" in text:
        raise UsageError(f"destination {text!r}: no path, give a file or a directory")
    with opened(source, transfer) as source:
        plan, source = local_plan(
            source,
            strategy,
            topology=topology,
            ranks=ranks,
            members=members,
            racks=racks,
            chunk_size=chunk_size,
            security=transfer.security,
            bandwidth=bandwidth,
            hosts=hosts,
        )
        count = int(np.count_nonzero(plan.present))
        if count > 1 and "{rank}" not in text:
            raise UsageError(
                f"destination {text}: {count} ranks on one machine would write to the same place: "
                f"put {{rank}} into it, as in {text.rstrip('/')}-{{rank}}"
            )
        payload = source if isinstance(source, Payload) else Payload.scan(source)
        if chunk_size is None and isinstance(plan, Choice):
            chunk_size = plan.chunk_size
        elif chunk_size is None:
            chunk_size = best_chunk_size(
                payload.bytes, plan.depth, plan.stripes, bandwidth or LOOPBACK_BANDWIDTH
            )
        payload = payload.with_chunk_size(chunk_size)
        transfer.check(plan, payload)
        workers = transfer.workers or min(4, max(1, (os.cpu_count() or 1) // count))
        records = _local.run(
            plan,
            payload,
            [text.replace("{rank}", str(r)) for r in range(plan.size)],
            transfer,
            workers=min(int(workers), MAX_WORKERS),
            measure_clock=measure_clock,
            progress=progress,
            places=places,
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
        engine="local" if places is None else "lab",
        security=transfer.security,
        bandwidth=_loopback(plan) if bandwidth is None else bandwidth,
        elapsed=elapsed,
        measured=bandwidth is None or places is not None,
        hosts=None if hosts is None else tuple(hosts),
        why=plan.why if isinstance(plan, Choice) else None,
    )


@contextmanager
def opened(
    source: str | os.PathLike[str] | Payload, transfer: Transfer
) -> Iterator[str | os.PathLike[str] | Payload]:
    """Begin to pull a source that is in a registry; nothing is done with any other.

    Parameters
    ----------
    source : path-like or Payload
        As of `flux_tree.broadcast`.
    transfer : Transfer
        How the data is to move.

    Yields
    ------
    path-like or Payload
        A `Payload`, which is good for one broadcast, if it is pulled; else what was given.

    Raises
    ------
    UsageError
        If `transfer` has what does not go with a registry.
    SourceError
        If it cannot be had.
    """
    if not is_reference(source):
        yield source
        return
    reference = str(source)
    transfer.check_pulled(reference)
    with open_feed(reference, transfer.timeout) as feed:
        yield Payload.from_manifest(reference, feed.manifest, feed.fd)


def local_plan(
    source: str | os.PathLike[str] | Payload,
    strategy: str | Strategy | Plan | None,
    *,
    topology: Topology | str | None,
    ranks: int | None,
    members: Iterable[int] | None,
    racks: Racks | None,
    chunk_size: int | None,
    security: str,
    bandwidth: float | None,
    hosts: Sequence[str] | None = None,
) -> tuple[Plan, str | os.PathLike[str] | Payload]:
    """Return the plan of a broadcast between processes of this machine.

    Parameters
    ----------
    source, strategy, topology, ranks, members, racks, chunk_size, security, bandwidth, hosts
        As of `between_processes`.

    Returns
    -------
    plan : Plan
        A `Choice`, if the strategy is "auto".
    source : path-like or Payload
        Scanned, if the plan depends on its size.

    Raises
    ------
    FluxTreeError
        As of `flux_tree.broadcast`.
    """
    if strategy is None or isinstance(strategy, str):
        strategy = get(strategy or "two-tree")
    tree = _make_topology(strategy, topology, ranks)
    if tree is None:
        strategy = with_racks(strategy, racks, 0)
        assert isinstance(strategy, Plan)
        return strategy, source
    strategy = with_racks(strategy, racks, tree.size, hosts)
    if isinstance(strategy, Auto):
        source = source if isinstance(source, Payload) else Payload.scan(source)
        network = strategy.network
        if network is None:
            network = known_network(tree.size, bandwidth, _local.loopback_bandwidth, here=True)
            network = replace(network, processors=os.cpu_count())
        if security == "none":
            network = replace(network, encryption=None)
        chunk_size = chunk_size or strategy.chunk_size
        strategy = Auto(network, source.bytes, strategy.groups, chunk_size=chunk_size)
    return make_plan(strategy, tree, members), source


def _loopback(plan: Plan) -> float:
    """Return what one loopback stream moves; what a plan was chosen by is not measured again."""
    if isinstance(plan, Choice) and plan.network.origin.startswith(LOOPBACK):
        return plan.network.bandwidth
    return _local.loopback_bandwidth()


def _make_topology(
    strategy: Any, topology: Topology | str | None, ranks: int | None
) -> Topology | None:
    """Return the topology that the parameters of `broadcast` describe; None if there is a plan."""
    if ranks is not None and ranks < 1:
        raise UsageError(f"ranks {ranks}: must be at least 1")
    if isinstance(strategy, Plan):
        if ranks is not None and ranks != strategy.size:
            raise UsageError(f"ranks {ranks}: the plan is one of {strategy.size}, leave it out")
        return None
    if isinstance(topology, Topology):
        if ranks is not None and ranks != topology.size:
            raise UsageError(f"ranks {ranks}: the topology has {topology.size}, leave it out")
        return topology
    return Topology.from_spec(topology or "kary:32", 8 if ranks is None else ranks)
