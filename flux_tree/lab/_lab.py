"""A laboratory: hosts with NICs of a given rate, on one machine."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
from numpy.typing import NDArray

from .. import _namespace, _setup
from .._between import between_processes
from .._flux import outside_flux
from .._racks import Racks
from .._stream import stream_bandwidth
from .._transfer import Transfer
from ..errors import LabError, UsageError
from ..strategies import Auto, Rack, get, known_network
from ..topology import Topology
from . import _folder, _network
from ._processes import Processes, python_command
from ._usage import Usage

if TYPE_CHECKING:
    from .._model.network import Network
    from .._payload import Payload
    from .._records import Result
    from ..plan import Plan
    from ..strategies import Strategy

__all__ = ["Lab"]

#: What the measurement of a stream takes, and moves at least.
STREAM_S, STREAM_BYTES = 1.0, 1 << 20
#: The longest name that Flux takes for the folder of a broker's sockets.
MAX_RUNDIR = 96


class Lab:
    """Hosts on this machine, each with an address and a NIC of its own, that share nothing else
    but the machine's processors, memory and file systems.

    A host is a network namespace with a name. Everything is gone when it is closed, or when this
    process dies, however that comes about: the network is removed by the kernel with its last
    process, and all programs that were started here are in one process namespace.

    Parameters
    ----------
    hosts : int
        How many, 2 to 1000.
    rate : float
        Of each NIC, in each direction, bytes per second.
    racks : int, default 1
        How many racks they stand in, neighbours together.
    uplink : float, optional
        Of the cable between each rack and the others, bytes per second in each direction; as fast
        as the machine, if not given.
    slow : mapping of int to float, optional
        Rates of single NICs, by host.

    Attributes
    ----------
    hosts : int
        How many.
    rate : float
        Of each NIC, bytes per second.
    names, addresses : list of str
        Of each host.
    racks : list of int
        The rack of each host.
    folder : Path
        For temporary files: it is gone with the lab.

    Raises
    ------
    UsageError
        If a parameter makes no sense.
    LabError
        If this process is not root's, pyroute2 is not installed, or the kernel refuses.

    Examples
    --------
    >>> with flux_tree.lab.Lab(hosts=8, rate=12.5e6) as lab:
    ...     print(lab.broadcast("model", "/tmp/copy-{rank}", "chain"))
    """

    def __init__(
        self,
        hosts: int,
        rate: float,
        *,
        racks: int = 1,
        uplink: float | None = None,
        slow: Mapping[int, float] | None = None,
    ) -> None:
        _check(hosts, rate, racks, uplink, slow or {})
        if os.geteuid() != 0:
            raise LabError("lab: it makes network namespaces, which only root may: use sudo")
        self.hosts = hosts
        self.rate = rate
        self._uplink = uplink
        self._usage = Usage()
        self._goodput: float | None = None
        self._payload = 1.0  # the part of a NIC's rate that is goodput
        self._instances = 0
        self._processes: list[subprocess.Popen[Any]] = []
        with ExitStack() as stack:
            stack.callback(self._usage.close)
            self._network = _network.build(hosts, rate, racks, uplink, slow)
            stack.callback(self._network.close)
            self.folder, lock = _folder.make_folder()
            stack.callback(os.close, lock)
            self._space = stack.enter_context(Processes(self.folder, lock))
            stack.callback(self._end)
            self._close = stack.pop_all()
        self._places = [(h.net, h.address) for h in self._network.hosts]
        self.names = [h.name for h in self._network.hosts]
        self.addresses = [h.address for h in self._network.hosts]
        self.racks = [h.rack for h in self._network.hosts]

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the lab and remove it. Closing it again does nothing."""
        self._close.close()

    def goodput(self) -> float:
        """Return what one TCP stream between two hosts moves: measured once, then remembered.

        It is the measure of all broadcasts in the lab: bytes / goodput is line time. The two have
        NICs that are not slow ones and are in the same rack, where there are two such hosts.

        Returns
        -------
        float
            Bytes per second.
        """
        if self._goodput is None:
            pairs = itertools.combinations(self._network.hosts, 2)
            sender, receiver = min(
                pairs, key=lambda p: (p[0].rack != p[1].rack, -p[0].rate, -p[1].rate)
            )
            rates = [sender.rate, receiver.rate]
            if self._uplink is not None and sender.rack != receiver.rack:
                rates.append(self._uplink)
            size = max(STREAM_BYTES, int(min(rates) * STREAM_S))
            with receiver.call(lambda: socket.create_server((receiver.address, 0))) as server:
                self._goodput = stream_bandwidth(server, sender.call(socket.socket), size)
            self._payload = self._goodput / min(rates)
        return self._goodput

    def network(self) -> Network:
        """Return the lab as the model takes it, for the strategy "auto" and for predictions.

        Returns
        -------
        Network
            Its rates are those of the NICs and uplinks, less what `goodput` has lost on the way;
            its groups are the racks; its processors, which all hosts share, those of this machine.
            What a connection or a chunk costs is that of `Network.load`, or typical.
        """
        self.goodput()
        part = self._payload
        slow = {h.rank: h.rate * part for h in self._network.hosts if h.rate != self.rate}
        return replace(
            known_network(self.hosts, self.rate * part, here=True),
            uplink=None if self._uplink is None else self._uplink * part,
            groups=tuple(self.racks) if max(self.racks) > 0 else None,
            rates=slow,
            burst=_network.burst_bytes(self.rate) * part,
            processors=os.cpu_count(),
        )

    def popen(self, host: int, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host.

        Parameters
        ----------
        host : int
            Which.
        argv : sequence of str
            The program and its arguments.
        **options
            As of `subprocess.Popen`. The program has a session of its own, unless
            ``start_new_session`` says otherwise.

        Returns
        -------
        subprocess.Popen
            The program is killed when the lab is closed.

        Raises
        ------
        UsageError
            If there is no such host.
        OSError
            If the program cannot be started.
        """
        self._check_host(host)
        options.setdefault("start_new_session", True)
        return self._network.hosts[host].call(partial(self._start, argv, options))

    def set_link(self, host: int, up: bool) -> None:
        """Take the cable of a host out of its switch, or plug it in again.

        While it is out no packet passes, in either direction. The host is told nothing, but its
        NIC has no carrier; what it sends to itself still arrives.

        Parameters
        ----------
        host : int
            Which.
        up : bool
            True to plug the cable in, False to take it out. Where it is so already, nothing
            happens.

        Raises
        ------
        UsageError
            If there is no such host.
        LabError
            If the kernel refuses.
        """
        self._check_host(host)
        self._network.set_link(host, up)

    def flux(
        self,
        argv: Sequence[str],
        topo: str | Topology | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start an instance of Flux, with a broker on each host, that runs a program on the first.

        Parameters
        ----------
        argv : sequence of str
            The initial program and its arguments; with none, a shell.
        topo : str or Topology, optional
            The TBON: a spec for ``tbon.topo``, or any tree. Flux's own default, "kary:32", if not
            given.
        env : mapping of str to str, optional
            Environment; that of this process, if not given. What an instance of Flux around this
            process has put into it is left out, and what Flux needs to find flux-tree is added,
            and FLUX_TREE_BANDWIDTH with the `goodput`.
        **options
            As of `subprocess.Popen`, for the initial program.

        Returns
        -------
        subprocess.Popen
            It ends when the instance has, with the exit code of the initial program. SIGTERM ends
            it early, and closing the lab at once.

        Raises
        ------
        UsageError
            If there is no such topology, or no Flux.
        LabError
            If the name of the temporary directory is too long.
        """
        topology = topo if isinstance(topo, Topology) else None
        spec = None if topology is not None else str(topo or "kary:32")
        if topology is None:
            Topology.from_spec(spec or "", self.hosts)  # refuses what Flux would
        elif topology.size != self.hosts:
            raise UsageError(f"topology: of {topology.size} ranks, and the lab has {self.hosts}")
        command = shutil.which("flux")
        if command is None:
            raise UsageError(
                "no Flux here: 'flux' is not on PATH; install flux-core, or set PATH to where it is"
            )
        folder = self.folder / f"instance{self._instances}"
        self._instances += 1
        if len(os.fsencode(folder / str(self.hosts))) > MAX_RUNDIR:
            raise LabError(f"lab: {folder}: too long for the sockets of Flux, set TMPDIR to less")
        folder.mkdir(mode=0o700)
        cpus = sorted(os.sched_getaffinity(0))
        hosts: list[dict[str, Any]] = []
        for h in self._network.hosts:
            # one core each, in turn: Flux would bind a job's part on every host to the first one
            entry = {"host": h.name, "address": h.address, "net": h.net, "uts": h.uts}
            entry["core"] = cpus[h.rank % len(cpus)]
            if topology is not None and h.rank > 0:
                entry["parent"] = self.names[topology.parents[h.rank]]
            hosts.append(entry)
        setup = folder / "setup.json"
        setup.write_text(
            json.dumps(
                {
                    "flux": command,
                    "hosts": hosts,
                    "topo": spec,
                    "argv": list(argv),
                    "folder": str(folder),
                }
            )
        )
        fds = [fd for h in self._network.hosts for fd in (h.net, h.uts)]
        options["pass_fds"] = (*options.get("pass_fds", ()), *fds)
        options["env"] = _environment(os.environ if env is None else env)
        options["env"].setdefault(_setup.BANDWIDTH_VAR, f"{self.goodput():.0f}")
        program = python_command("flux_tree.lab._instance", str(setup))
        return _namespace.in_thread(partial(self._start, program, options))

    def broadcast(
        self,
        source: str | os.PathLike[str] | Payload,
        destination: str | os.PathLike[str],
        strategy: str | Strategy | Plan | None = None,
        *,
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
        progress: Callable[[NDArray[np.void]], None] | None = None,
    ) -> Result:
        """Broadcast with the embedded engine, one rank on each host.

        Parameters
        ----------
        source, destination, strategy, topology, members, racks, chunk_size, security, \
        overwrite, timeout, workers, on_failure, min_ranks, resume, fsync, digest, progress
            As of `flux_tree.broadcast`. The hosts share the machine's files, so `destination`
            needs ``{rank}`` in it. The strategies "auto" and "rack" know the racks of the lab,
            and "auto" its rates, unless they are told others.

        Returns
        -------
        Result
            Its limit is reckoned with `goodput`.

        Raises
        ------
        FluxTreeError
            As of `flux_tree.broadcast`.
        """
        transfer = Transfer(
            security, overwrite, timeout, workers, on_failure, min_ranks, resume, fsync, digest
        )
        for name, value in (("topology", topology), ("plan", strategy)):
            size = getattr(value, "size", self.hosts)
            if size != self.hosts:
                raise UsageError(f"{name}: of {size} ranks, and the lab has {self.hosts} hosts")
        if isinstance(strategy, str):
            strategy = get(strategy)
        if isinstance(strategy, Auto) and strategy.network is None:
            strategy = Auto(
                self.network(),
                groups=strategy.groups,
                chunk_size=strategy.chunk_size,
            )
        if (
            racks is None
            and max(self.racks) > 0
            and isinstance(strategy, Rack)
            and strategy.spec == "rack"
            and strategy.groups is None
        ):
            racks = self.racks
        # the uplinks are known here; slow NICs are for the report to find
        known = replace(self.network(), rates={}) if max(self.racks) > 0 else None
        result = between_processes(
            source,
            destination,
            strategy,
            ranks=None if isinstance(topology, Topology) else self.hosts,
            topology=topology,
            members=members,
            racks=racks,
            chunk_size=chunk_size,
            transfer=transfer,
            bandwidth=self.goodput(),
            progress=progress,
            places=self._places,
            hosts=self.names,
        )
        return result if known is None else replace(result, network=known)

    def _check_host(self, host: int) -> None:
        if not 0 <= host < self.hosts:
            raise UsageError(f"host {host}: there is none, give one of 0-{self.hosts - 1}")

    def usage(self) -> dict[str, float]:
        """Return what the lab has used of the machine so far.

        Returns
        -------
        dict
            ``elapsed_s``; ``cpu_s`` of its processes that have ended; ``machine_busy``, the share
            of time that the machine's processors were busy, with whatever; ``memory``, bytes of
            the machine's memory that are in use and were not when the lab was made, the most so
            far.
        """
        return self._usage.read()

    def _end(self) -> None:
        """Have all processes killed, and take leave of those that were started from here.

        The first process of a namespace does not end before all others have been waited for.
        """
        self._space.release()
        while self._processes:
            self._processes.pop().wait()

    def _start(self, argv: Sequence[str], options: dict[str, Any]) -> subprocess.Popen[Any]:
        """Start a program where the calling thread is, among the processes of the lab."""
        self._space.enter()
        process: subprocess.Popen[Any] = subprocess.Popen(argv, **options)
        self._processes.append(process)
        return process


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which an instance of Flux is started."""
    kept = outside_flux(env)
    for name, value, how in _setup.environment():
        before = kept.get(name)
        if how == "set" or not before:
            kept[name] = value
        elif value not in before.split(":"):
            kept[name] = f"{value}:{before}" if how == "prepend" else f"{before}:{value}"
    return kept


def _check(
    hosts: int, rate: float, racks: int, uplink: float | None, slow: Mapping[int, float]
) -> None:
    if not 2 <= hosts <= _network.MAX_HOSTS:
        raise UsageError(f"lab: {hosts} hosts, give 2 to {_network.MAX_HOSTS}")
    if not 1 <= racks <= hosts:
        raise UsageError(f"lab: {racks} racks for {hosts} hosts, give 1 to {hosts}")
    if uplink is not None and racks == 1:
        raise UsageError("lab: an uplink, but only one rack: give more racks, or no uplink")
    rates = {"rate": rate, "uplink": uplink, **{f"slow host {h}": r for h, r in slow.items()}}
    for name, value in rates.items():
        if value is not None and not 1000 <= value <= 1e12:
            raise UsageError(f"lab: {name} of {value:g} bytes/s, give 1kB/s to 1TB/s")
    for host in slow:
        if not 0 <= host < hosts:
            raise UsageError(f"lab: slow host {host}, there is none: give one of 0-{hosts - 1}")
