"""The one call that a user makes: between processes of this machine, or inside Flux."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
from numpy.typing import NDArray

from . import _in_flux
from ._between import between_processes
from ._payload import Payload
from ._racks import Racks
from ._records import Result
from ._registry import is_reference
from ._transfer import Transfer, check_bandwidth
from .errors import UsageError
from .plan import Plan
from .strategies import Strategy
from .topology import Topology

if TYPE_CHECKING:
    from ._job import BroadcastFuture

__all__ = ["broadcast", "broadcast_async"]

TRANSPORTS = ("direct", "content")


def broadcast(
    source: str | os.PathLike[str] | Payload | None,
    destination: str | os.PathLike[str],
    strategy: str | Strategy | Plan | None = None,
    *,
    handle: Any = None,
    nodes: int | None = None,
    ranks: int | None = None,
    topology: Topology | str | None = None,
    members: Iterable[int] | None = None,
    racks: Racks | None = None,
    chunk_size: int | None = None,
    security: str = "tls",
    overwrite: bool = False,
    timeout: float = 60.0,
    workers: int | None = None,
    on_failure: str = "abort",
    min_ranks: int | None = None,
    resume: bool = False,
    fsync: bool = False,
    digest: str | None = None,
    bandwidth: float | None = None,
    measure_clock: bool = False,
    progress: Callable[[NDArray[np.void]], None] | None = None,
    transport: str = "direct",
    archive: str | None = None,
    interface: str | None = None,
    window: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> Result:
    """Broadcast a file or a directory from rank 0 to every rank, and time each of them.

    Without `handle`, the ranks are processes of this machine. With it, they are the shells of a
    job that is submitted to that instance of Flux, one on each node, and this waits for its end.
    Rank 0 reads the source; if it is among the members (it is, unless `members` or the strategy
    say otherwise), it makes a copy at its own destination like all others. Either every rank gets
    the data under its final name, or none does, unless `on_failure` says otherwise.

    Parameters
    ----------
    source : path-like or Payload
        A regular file or a directory; or one that was scanned already, to know its size before.
        In Flux, of the first node. None with `archive`. Or what a registry has,
        ``oci://HOST[:PORT]/NAME[:TAG][@sha256:HEX]``, as a text (``oci+http://`` without TLS):
        rank 0 pulls it, and the others receive while it does; its files go into the directory
        `destination`, which is made if it does not exist. An image becomes an OCI layout.
    destination : path-like
        As in ``cp``: an existing directory receives the source under its own name, anything else
        is the new name. ``{rank}`` stands for the rank, and is needed where ranks share a machine.
        In Flux also the shell's templates, such as ``{{tmpdir}}``.
    strategy : str, Strategy or Plan, optional
        By name (``flux-tree strategies`` lists them), an object of a class of your own, or a
        finished plan. "auto" takes the one that is predicted to be fastest, and `Result.why` says
        why. "two-tree" if not given; with ``transport="content"``, "all".
    handle : flux.Flux, optional
        The instance of Flux to run in.
    nodes : int, optional
        Flux only: how many; the first of the instance that are up. All, if not given.
    ranks : int, optional
        How many. As many as the topology or the plan has, or 8. In Flux the same as `nodes`.
    topology : Topology or str, optional
        The tree that strategies such as "tbon" and "leaves" start from, as a spec ("kary:2") or a
        `Topology`. Flux's own default, "kary:32", if not given; in Flux, the instance's own.
    members : iterable of int, optional
        The ranks that want the data; all, if not given.
    racks : str or sequence, optional
        For the strategies "auto" and "rack": which ranks stand together behind one uplink. The
        rack of each rank, shape (n,), as numbers or names. In Flux also a pattern for the names of
        hosts, such as ``^(r[0-9]+)``, or a file of lines ``node[0-15] rack0``.
    chunk_size : int, optional
        Bytes; chosen from the size of the payload and the depth of the plan, if not given, or by
        the strategy "auto".
    security : {"tls", "none"}, default "tls"
        "none" turns the encryption of the data off, never the authentication.
    overwrite : bool, default False
        Replace destinations that exist, instead of refusing.
    timeout : float, default 60.0
        Seconds without progress after which a rank gives up, and without any sign of life after
        which it is given up and killed.
    workers : int, optional
        Threads of each rank that move data, at most 16; the processors divided by the ranks, up to
        4, if not given.
    on_failure : {"abort", "continue"}, default "abort"
        What a rank that fails, dies or hangs means for the rest: "abort" ends all; "continue" goes
        on without it, and `Result.failures` says why. Without rank 0 nobody goes on.
    min_ranks : int, optional
        With ``on_failure="continue"``: how many of the ranks that keep the data must get it, else
        the broadcast fails and none has it; 1, if not given.
    resume : bool, default False
        Use what an interrupted run with `resume` left, or what stands at the destination: it is
        checked, and only the rest is fetched. What is right already stays as it is. After a
        failure what has come stays, for the next run.
    fsync : bool, default False
        Have data and names on disk before the broadcast ends.
    digest : str, optional
        ``sha256:`` and 64 hexadecimal digits: what the source, one regular file, must come to.
    bandwidth : float, optional
        Of one NIC, bytes per second, to choose chunks by and to reckon the limit with. If not
        given, one stream through the loopback interface is measured; in Flux, the limit is unknown
        then.
    measure_clock : bool, default False
        Not in Flux: measure the offsets of the ranks' clocks although they share one.
    progress : callable, optional
        Called some times a second with the records (`flux_tree.RECORD_DTYPE`) as they are;
        ``records["bytes_in"]`` grows up to the size of the payload on each receiving rank. In
        Flux, the fields ``state`` and ``bytes_in`` alone are filled in before the end.
    transport : {"direct", "content"}, default "direct"
        Flux only: "content" goes through the content cache of the brokers, along their tree. A
        source becomes an archive of Flux for as long as that takes.
    archive : str, optional
        Flux only: the name of an archive that is there, to be extracted in the directory
        `destination`, instead of a source.
    interface : str, optional
        Flux only: the network interface that the ranks use; that of the TBON, if not given.
    window : int, optional
        Flux only, with ``transport="content"``: requests of a rank at the same time.
    notify : callable, optional
        Flux only: called with one line when the job has to wait for nodes.

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
        If a rank is lost or the transfer fails, or too few ranks are left; in Flux also if the job
        does. Its ``failures`` has all ranks that failed.
    Cancelled
        If somebody cancelled the job.
    KeyboardInterrupt
        After a Ctrl-C, when everything is cleaned up; in Flux, when the job has gone.

    Examples
    --------
    >>> result = flux_tree.broadcast("model", "/tmp/rank-{rank}", "chain", ranks=8)
    >>> result.summary()["slowest_s"]
    >>> print(flux_tree.broadcast("model", "/tmp/model", handle=flux.Flux()))
    """
    if handle is not None:
        if measure_clock:
            raise UsageError("measure_clock: not in Flux, where clocks are compared if they differ")
        from ._flux import import_flux

        import_flux()
        from ._job import run

        return run(
            handle,
            lambda: broadcast_async(
                source,
                destination,
                strategy,
                handle=handle,
                nodes=_one_of(nodes, ranks),
                topology=topology,
                members=members,
                racks=racks,
                chunk_size=chunk_size,
                security=security,
                overwrite=overwrite,
                timeout=timeout,
                workers=workers,
                on_failure=on_failure,
                min_ranks=min_ranks,
                resume=resume,
                fsync=fsync,
                digest=digest,
                bandwidth=bandwidth,
                progress=progress,
                transport=transport,
                archive=archive,
                interface=interface,
                window=window,
                notify=notify,
            ),
        )
    transfer = Transfer(
        security, overwrite, timeout, workers, on_failure, min_ranks, resume, fsync, digest
    )
    _check_transport(transport)
    given = {"nodes": nodes, "archive": archive, "interface": interface, "window": window}
    given["transport"] = None if transport == "direct" else transport
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} {value!r}: only inside Flux, give handle=flux.Flux() as well")
    if source is None:
        raise UsageError("source: there is none, give a file or a directory")
    return between_processes(
        source,
        destination,
        strategy,
        topology=topology,
        ranks=ranks,
        members=members,
        racks=racks,
        chunk_size=chunk_size,
        transfer=transfer,
        bandwidth=bandwidth,
        measure_clock=measure_clock,
        progress=progress,
    )


def broadcast_async(
    source: str | os.PathLike[str] | Payload | None,
    destination: str | os.PathLike[str],
    strategy: str | Strategy | Plan | None = None,
    *,
    handle: Any = None,
    nodes: int | None = None,
    topology: Topology | str | None = None,
    members: Iterable[int] | None = None,
    racks: Racks | None = None,
    chunk_size: int | None = None,
    security: str = "tls",
    overwrite: bool = False,
    timeout: float = 60.0,
    workers: int | None = None,
    on_failure: str = "abort",
    min_ranks: int | None = None,
    resume: bool = False,
    fsync: bool = False,
    digest: str | None = None,
    bandwidth: float | None = None,
    progress: Callable[[NDArray[np.void]], None] | None = None,
    transport: str = "direct",
    archive: str | None = None,
    interface: str | None = None,
    window: int | None = None,
    notify: Callable[[str], None] | None = None,
) -> BroadcastFuture:
    """Submit a broadcast inside Flux, and return while it is under way.

    Parameters
    ----------
    source, destination, strategy, nodes, topology, members, racks, chunk_size, security, \
    overwrite, timeout, workers, on_failure, min_ranks, resume, fsync, digest, bandwidth, \
    progress, transport, archive, interface, window, notify
        As of `broadcast`. Callbacks are called while somebody waits for the future, or the
        reactor runs.
    handle : flux.Flux, optional
        The instance of Flux; the one around, if not given.

    Returns
    -------
    BroadcastFuture
        A future as those of flux-python: ``then(callback)``, ``wait_for(timeout)``,
        ``is_ready()``, ``get_jobid()``, ``cancel()``, and ``get_result()`` (or ``get()``), which
        waits, and returns the `Result` or raises what `broadcast` raises.

    Raises
    ------
    UsageError, PlanError, TopologyError
        If a parameter makes no sense, or there is no Flux.
    BroadcastError
        If Flux refuses the job.

    Examples
    --------
    >>> handle = flux.Flux()
    >>> future = flux_tree.broadcast_async("model", "/tmp/model", handle=handle)
    >>> future.then(lambda f: print(f.get_result()))
    >>> handle.reactor_run()
    """
    transfer = Transfer(
        security, overwrite, timeout, workers, on_failure, min_ranks, resume, fsync, digest
    )
    check_bandwidth(bandwidth)
    _check_transport(transport)
    for name, value in (("source", source), ("archive", archive)):
        if value is not None and not os.fspath(_path(value)):
            raise UsageError(f"{name}: it is empty, give a name")
    if (source is None) == (archive is None):
        raise UsageError("source: give either a file or a directory, or the name of an archive")
    if window is not None and transport != "content":
        raise UsageError(f"window {window}: of transport 'content' only, leave it out")
    text = os.fsdecode(destination)
    if nodes is None and isinstance(strategy, Plan):
        nodes = strategy.size
    if nodes is None and isinstance(topology, Topology):
        nodes = topology.size
    from ._flux import connect, import_flux

    import_flux()
    from ._job import submit
    from ._staging import stage
    from ._submission import check_option

    handle = connect(handle)
    chosen = _in_flux.choose_nodes(handle, nodes)
    _in_flux.check_destination(text, chosen.hosts)
    options = _in_flux.plan_options(handle, chosen, strategy, topology, members, racks)
    if transport == "content" and options.get("strategy") == "auto":
        raise UsageError("strategy 'auto': of transport 'direct' only, the brokers have their tree")
    if transport == "content" and is_reference(source):
        raise UsageError(f"source {source!s}: of transport 'direct' only, use that")
    options.update(transport=transport, **transfer.options())
    more = {
        "chunk-size": chunk_size,
        "bandwidth": bandwidth,
        "interface": interface,
        "window": window,
        "archive": archive,
    }
    options.update({name: value for name, value in more.items() if value is not None})
    options["destination"] = _in_flux.absolute(text)
    check_option(options)
    close = None
    if source is not None and transport == "content":
        staged = stage(handle, _path(source), options["destination"], chosen.hosts)
        options.update(archive=staged.name, destination=staged.destination)
        close = staged.remove
    elif is_reference(source):
        transfer.check_pulled(str(source))
        options.update(file=str(source), python=sys.executable)
    elif source is not None:
        options["file"] = _in_flux.absolute(_path(source))
    try:
        return submit(
            handle,
            options,
            len(chosen.ranks),
            chosen.constraint,
            bandwidth=bandwidth,
            progress=progress,
            notify=notify,
            close=close,
        )
    except BaseException:
        if close is not None:
            close()
        raise


def _path(source: str | os.PathLike[str] | Payload) -> str:
    return source.source if isinstance(source, Payload) else os.fsdecode(source)


def _one_of(nodes: int | None, ranks: int | None) -> int | None:
    if nodes is not None and ranks is not None and nodes != ranks:
        raise UsageError(f"ranks {ranks}: in Flux they are the nodes, and nodes is {nodes}")
    return ranks if nodes is None else nodes


def _check_transport(transport: str) -> None:
    if transport not in TRANSPORTS:
        raise UsageError(f"transport {transport!r}: must be one of {', '.join(TRANSPORTS)}")
