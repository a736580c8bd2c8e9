"""The numbers of a network, measured: what `flux_tree.model.predict` reckons with.

>>> network = flux_tree.calibration.calibrate_flux(flux.Flux())
>>> network.save()

Each function takes some seconds, and returns a `Network` with all that it could measure; the rest
are typical numbers. docs/calibrate.md has what is measured, and how.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

from . import _calibrate_brokers, _in_flux, _local
from ._calibrate_brokers import BrokerCosts, BrokerTimes, broker_costs
from ._calibrate_direct import (
    MAX_RANKS,
    REPEAT,
    Send,
    chain,
    direct_costs,
    edge_latency,
    payload_rate,
    start_time,
)
from ._calibrate_disk import write_rate
from ._calibrate_engines import Jobs, Processes, payload_folder
from ._model.network import Network
from .errors import FluxTreeError, LabError, UsageError

if TYPE_CHECKING:
    from .lab import Lab

__all__ = ["calibrate_flux", "calibrate_lab", "calibrate_local"]

#: Round trips between brokers, of which the shortest counts.
PINGS = 20
#: Of the NICs between brokers whose own costs are measured, bytes per second.
FAST = 1.25e9

Say = Callable[[str], None]


def calibrate_local(
    ranks: int = 4, *, disk: str | os.PathLike[str] | None = None, progress: Say | None = None
) -> Network:
    """Measure what broadcasts between processes of this machine are made of.

    Parameters
    ----------
    ranks : int, default 4
        How many take part, 2 or more.
    disk : path-like, optional
        A folder: what can be written to it is measured as well.
    progress : callable, optional
        Called with a few words on each thing that is measured next.

    Returns
    -------
    Network
        What brokers cost is typical.

    Raises
    ------
    UsageError
        If there are too few ranks, or the folder cannot be written to.
    FluxTreeError
        If a broadcast fails.
    """
    _check_ranks("ranks", ranks)
    progress = progress or _say_nothing
    rate = None if disk is None else _disk(disk, progress)
    bandwidth = _loopback(progress)
    network = Network(bandwidth, disk=rate, processors=os.cpu_count(), origin=_origin("loopback"))
    with payload_folder() as folder:
        return _direct(Processes(folder), ranks, network, progress)


def calibrate_lab(
    lab: Lab, *, disk: str | os.PathLike[str] | None = None, progress: Say | None = None
) -> Network:
    """Measure what broadcasts in a lab are made of, and its brokers, if flux is on PATH.

    Parameters
    ----------
    lab : Lab
        Open. Racks, uplinks and slow NICs, if it was made with them, are not measured.
    disk : path-like, optional
        A folder: what can be written to it is measured as well.
    progress : callable, optional
        Called with a few words on each thing that is measured next.

    Returns
    -------
    Network
        Its processors are those of this machine, which all hosts share; the burst is what the
        lab's NICs were made with.

    Raises
    ------
    UsageError
        If the folder cannot be written to.
    LabError
        If the brokers cannot be measured.
    FluxTreeError
        If a broadcast fails.
    """
    from .lab._network import burst_bytes
    from .units import format_rate

    progress = progress or _say_nothing
    rate = None if disk is None else _disk(disk, progress)
    progress("one stream between two hosts")
    where = f"lab of {lab.hosts} hosts at {format_rate(lab.rate, bits=True)}"
    network = Network(
        lab.goodput(),
        burst=burst_bytes(lab.rate) * lab.goodput() / lab.rate,
        disk=rate,
        processors=os.cpu_count(),
        origin=_origin(where),
    )
    with payload_folder() as folder:
        network = _direct(Processes(folder, lab), lab.hosts, network, progress)
    if shutil.which("flux") is None:
        return network
    progress("brokers of Flux, in a lab whose NICs are no limit to them")
    return replace(network, **_lab_brokers(max(lab.rate, FAST))._asdict())


def calibrate_flux(
    handle: Any = None,
    nodes: int | None = None,
    *,
    disk: str | os.PathLike[str] | None = None,
    progress: Say | None = None,
    notify: Say | None = None,
) -> Network:
    """Measure what broadcasts between the nodes of an instance of Flux are made of.

    It takes some jobs of a moment each, and extractions of small archives on one node. The data is
    made on this node, which must be the first one.

    Parameters
    ----------
    handle : flux.Flux, optional
        The instance; the one around, if not given.
    nodes : int, optional
        How many take part, 2 or more: the first that are up. All, if not given.
    disk : path-like, optional
        A folder of this node: what can be written to it is measured as well.
    progress : callable, optional
        Called with a few words on each thing that is measured next.
    notify : callable, optional
        Called with a line when a job has to wait for nodes, and on what cannot be measured.

    Returns
    -------
    Network
        Each node has processors of its own, unless nodes are brokers that share a machine. What
        brokers cost is typical where the instance belongs to somebody else.

    Raises
    ------
    UsageError
        If no instance can be reached, it has too few nodes, this is not the first of them, or the
        folder cannot be written to.
    FluxTreeError
        If a broadcast fails.
    """
    from ._flux import connect

    handle = connect(handle)
    chosen = _in_flux.choose_nodes(handle, nodes)
    _check_ranks("nodes", len(chosen.ranks))
    if handle.get_rank() != chosen.ranks[0] and socket.gethostname() != chosen.hosts[0]:
        raise UsageError(
            f"calibrate: its data is made on the first node, run it there ({chosen.hosts[0]})"
        )
    progress, notify = progress or _say_nothing, notify or _say_nothing
    rate = None if disk is None else _disk(disk, progress)
    with payload_folder() as folder:
        send = Jobs(folder, handle, notify)
        if set(chosen.hosts) == {socket.gethostname()}:
            bandwidth = _loopback(progress)
        else:
            progress("one stream between two nodes")
            bandwidth = payload_rate(send)
        network = Network(
            bandwidth,
            latency=_ping(handle, chosen.ranks[1]),
            disk=rate,
            processors=_processors(chosen.hosts),
            origin=_origin(f"flux, {len(chosen.ranks)} nodes"),
        )
        network = _direct(send, len(chosen.ranks), network, progress)
    progress("brokers of Flux")
    env = {**os.environ, "FLUX_URI": handle.attr_get("local-uri")}
    try:
        rank = _child_of_root(handle, chosen.ranks)
        times = _calibrate_brokers.extraction_times(rank, network.bandwidth, env)
    except FluxTreeError as exc:
        notify(f"{exc}: typical numbers stand for what brokers cost")
        return network
    return replace(network, **broker_costs(times, network.bandwidth, network.latency)._asdict())


def _direct(send: Send, ranks: int, network: Network, progress: Say) -> Network:
    """Measure what the direct transport costs.

    If ranks did not compare their clocks, they are on one machine, and the latency stays as it is.
    """
    progress(f"how {ranks} ranks begin")
    begun = [send(chain(ranks), 1) for _ in range(REPEAT)]
    latency = edge_latency(begun)
    if latency is not None:
        network = replace(network, latency=latency)
    else:
        network = replace(network, processors=os.cpu_count())
    progress("what connections, chunks and bytes cost")
    costs = direct_costs(send, min(ranks, MAX_RANKS), network.bandwidth)
    network = replace(network, **costs._asdict())
    return replace(network, start=start_time(begun, network))


def _loopback(progress: Say) -> float:
    progress("the loopback interface")
    return statistics.median(_local.loopback_bandwidth() for _ in range(REPEAT))


def _disk(folder: str | os.PathLike[str], progress: Say) -> float:
    progress(f"what can be written to {os.fspath(folder)}")
    return write_rate(folder)


def _lab_brokers(rate: float) -> BrokerCosts:
    """Measure the brokers of an instance between two hosts.

    What they cost is hidden where NICs are slow and let a burst through after each pause.
    """
    from .lab import Lab
    from .lab._processes import python_command

    with Lab(2, rate) as lab:
        bandwidth = lab.goodput()
        command = python_command("flux_tree._calibrate_brokers", repr(bandwidth))
        process = lab.flux(
            command,
            env={**os.environ, "TMPDIR": str(lab.folder)},  # its files go with the lab
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = process.communicate()
    if process.returncode:
        last = err.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise LabError(f"lab: its brokers cannot be measured ({last[0]})")
    return broker_costs(BrokerTimes(*json.loads(out)), bandwidth, 0.0)


def _ping(handle: Any, rank: int) -> float:
    """Return half of the shortest round trip to another broker, through brokers."""
    times = []
    with handle.in_reactor():  # else flux-python takes Ctrl-C away from Python
        for i in range(PINGS):
            begin = time.perf_counter()
            handle.rpc("broker.ping", {"seq": i, "pad": ""}, nodeid=rank).get()
            times.append(time.perf_counter() - begin)
    return min(times) / 2


def _processors(hosts: Sequence[str]) -> int | None:
    """Return how many processors all brokers share; None where each has a host of its own."""
    different = len(set(hosts))
    return None if different == len(hosts) else different * (os.cpu_count() or 1)


def _child_of_root(handle: Any, ranks: Sequence[int]) -> int:
    """Return a broker that is next to that of rank 0."""
    from .topology import Topology

    parents = Topology.from_instance(handle).parents
    for rank in ranks:
        if parents[rank] == 0:
            return rank
    raise FluxTreeError("brokers: none of the nodes is next to rank 0")


def _check_ranks(name: str, count: int) -> None:
    if count < 2:
        what = f"{count} {name if count != 1 else name[:-1]}"
        raise UsageError(f"calibrate: {what}, between which there is nothing: give 2 or more")


def _origin(where: str) -> str:
    return f"{where}, {time.strftime('%Y-%m-%d')}"


def _say_nothing(_: str) -> None:
    pass
