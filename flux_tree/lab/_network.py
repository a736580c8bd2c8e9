"""The network of a lab: a namespace for each host, one NIC each, joined by switches.

All switches are bridges in one namespace of their own, so that a lab meets no other and nothing of
the machine's own network. Each cable is a veth pair. A token bucket (tbf) at the switch's end makes
it a cable of one rate. At the host's end htb does, with a queue for each host that is sent to: so
streams to several hosts have equal parts of the NIC, as fq_codel, the default of Linux
distributions, gives them. In one queue for all, a stream that is ahead stays ahead. With more than
one rack, each rack has its switch, and a cable to the one in the middle.

Nothing here has a name outside: when the last process in a namespace and the last file descriptor
of it have gone, the kernel removes it with all that it holds. So nothing can be left behind.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, TypeVar

from .. import _namespace
from ..errors import LabError

__all__ = ["NETWORK", "Host", "Network", "build", "burst_bytes"]

#: Where all hosts of a lab are. Labs do not see each other, so it is the same for all.
NETWORK = ipaddress.ip_network("10.0.0.0/16")
NIC = "eth0"

#: What a tbf lets through at once: the largest packet that the kernel hands on as one, or so much
#: that the timers of the kernel are no limit. That packet has 64 KiB of data, and counts with the
#: headers of the 45 that it stands for; were it more than the burst, it would be taken apart, and
#: one timer for each would keep the processors busy with nothing else.
BURST_BYTES, BURST_S = 80 << 10, 1e-3
#: How long a packet may wait at the end of a cable before the next ones are dropped.
QUEUE_S = 0.2
#: The most queues of a NIC; of more hosts, some share one.
MAX_QUEUES = 64
#: What TCP does about congestion, where the kernel has it. It paces: at the low rates of a lab a
#: packet of 64 KiB takes milliseconds, and streams that only count packets get unequal parts.
CONGESTION = "bbr"
#: So many ports a bridge of the kernel has.
MAX_HOSTS = 1000

_T = TypeVar("_T")


@dataclass(frozen=True)
class Host:
    """One host of a lab.

    Attributes
    ----------
    rank : int
        Its number.
    name : str
        Its host name.
    address : str
        Of its NIC.
    rack : int
        The rack it stands in.
    rate : float
        Of its NIC in each direction, bytes per second.
    net, uts : int
        File descriptors of its namespaces.
    """

    rank: int
    name: str
    address: str
    rack: int
    rate: float
    net: int
    uts: int

    def call(self, work: Callable[[], _T]) -> _T:
        """Call a function on this host: its sockets and the programs that it starts are there.

        Parameters
        ----------
        work : callable
            Without parameters.

        Returns
        -------
        object
            What it returned.
        """

        def run() -> _T:
            self.enter()
            return work()

        return _namespace.in_thread(run)

    def enter(self) -> None:
        """Put the calling thread on this host, for good."""
        _namespace.enter(self.net, _namespace.NET)
        _namespace.enter(self.uts, _namespace.UTS)


class Network:
    """The hosts of a lab, for as long as this is open.

    Attributes
    ----------
    hosts : list of Host
        All of them, by rank.
    """

    def __init__(self, hosts: list[Host], switches: int) -> None:
        self.hosts = hosts
        self._switches = switches
        self._fds = [switches, *(fd for h in hosts for fd in (h.net, h.uts))]

    def set_link(self, host: int, up: bool) -> None:
        """Take the cable of a host out of its switch, or plug it in.

        Parameters
        ----------
        host : int
            Which.
        up : bool
            Whether it is to be plugged in.

        Raises
        ------
        LabError
            If the kernel refuses.
        """
        import pyroute2

        def run() -> None:
            _namespace.enter(self._switches, _namespace.NET)
            with pyroute2.IPRoute() as ip:
                index = ip.link_lookup(ifname=_port(host))[0]
                ip.link("set", index=index, state="up" if up else "down")

        try:
            _namespace.in_thread(run)
        except (pyroute2.NetlinkError, OSError) as exc:
            raise LabError(f"lab: the link of host {host} cannot be changed ({exc})") from None

    def close(self) -> None:
        """Let go of the namespaces; they are gone with the last process in them."""
        while self._fds:
            os.close(self._fds.pop())


def build(
    hosts: int,
    rate: float,
    racks: int = 1,
    uplink: float | None = None,
    slow: Mapping[int, float] | None = None,
) -> Network:
    """Make a network of hosts.

    Parameters
    ----------
    hosts : int
        How many.
    rate : float
        Of each NIC, in each direction, bytes per second.
    racks : int, default 1
        How many racks the hosts stand in, neighbours together.
    uplink : float, optional
        Of the cable between the switch of a rack and the one in the middle, in each direction,
        bytes per second. As fast as the machine, if not given.
    slow : mapping of int to float, optional
        Rates of single NICs, by host.

    Returns
    -------
    Network

    Raises
    ------
    LabError
        If pyroute2 is not installed, or the kernel refuses.
    """
    try:
        import pyroute2
    except ImportError:
        raise LabError(
            "the lab needs pyroute2, which is not installed: pip install 'flux-tree[lab]'"
        ) from None
    rates = [(slow or {}).get(rank, rate) for rank in range(hosts)]
    place = [rank * racks // hosts for rank in range(hosts)]
    try:
        return _namespace.in_thread(lambda: _build(pyroute2.IPRoute, rates, place, racks, uplink))
    except pyroute2.NetlinkError as exc:
        raise LabError(f"lab: the kernel does not make its network ({exc.args[-1]})") from None
    except OSError as exc:
        raise LabError(f"lab: the network cannot be made ({exc.strerror or exc})") from None


def _build(
    ip_route: Any, rates: list[float], place: list[int], racks: int, uplink: float | None
) -> Network:
    """Make the network, in a thread for it."""
    with ExitStack() as undo:
        _namespace.unshare(_namespace.NET)
        switches = _own(_namespace.NET, undo)
        hosts: list[Host] = []
        with ip_route() as ip:  # speaks to the namespace it was made in, wherever this goes next
            bridges = [_add_bridge(ip, f"rack{r}") for r in range(racks)]
            if racks > 1:
                middle = _add_bridge(ip, "middle")
                for rack, bridge in enumerate(bridges):
                    _add_uplink(ip, rack, bridge, middle, uplink)
            for rank, rate in enumerate(rates):
                _namespace.unshare(_namespace.NET | _namespace.UTS)
                name = f"lab{rank}"
                socket.sethostname(name)
                net, uts = _own(_namespace.NET, undo), _own(_namespace.UTS, undo)
                port = _port(rank)
                ip.link("add", ifname=port, kind="veth", peer={"ifname": NIC, "net_ns_fd": net})
                _connect(ip, port, bridges[place[rank]], rate)
                address = str(NETWORK[rank + 1])
                with ip_route() as own:
                    _set_up_host(own, address, rate, len(rates))
                hosts.append(Host(rank, name, address, place[rank], rate, net, uts))
        undo.pop_all()
    return Network(hosts, switches)


def _port(host: int) -> str:
    """Return the name of the port of its switch that a host's cable is in."""
    return f"host{host}"


def _own(kind: int, undo: ExitStack) -> int:
    fd = _namespace.open_own(kind)
    undo.callback(os.close, fd)
    return fd


def _add_bridge(ip: Any, name: str) -> int:
    ip.link("add", ifname=name, kind="bridge")
    index: int = ip.link_lookup(ifname=name)[0]
    ip.link("set", index=index, state="up")
    return index


def _add_uplink(ip: Any, rack: int, bridge: int, middle: int, rate: float | None) -> None:
    """Join the switch of a rack and the one in the middle."""
    up, down = f"up{rack}", f"down{rack}"
    ip.link("add", ifname=up, kind="veth", peer={"ifname": down})
    _connect(ip, up, bridge, rate)
    _connect(ip, down, middle, rate)


def _connect(ip: Any, name: str, bridge: int, rate: float | None) -> None:
    """Plug one end of a cable into a switch."""
    index = ip.link_lookup(ifname=name)[0]
    ip.link("set", index=index, master=bridge, state="up")
    if rate is not None:
        _shape(ip, index, rate)


def _set_up_host(ip: Any, address: str, rate: float, hosts: int) -> None:
    """Give a host its address; the calling thread is there."""
    with suppress(OSError):  # no IPv6 in this kernel: so much the better
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    with suppress(OSError):  # a kernel without it has another default of its own
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(CONGESTION)
    index = ip.link_lookup(ifname=NIC)[0]
    ip.addr("add", index=index, address=address, prefixlen=NETWORK.prefixlen)
    ip.link("set", index=index, state="up")
    ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
    _share(ip, index, rate, min(1 << (hosts - 1).bit_length(), MAX_QUEUES))


def burst_bytes(rate: float) -> int:
    """Return what an idle cable of a rate lets through at once.

    Parameters
    ----------
    rate : float
        Bytes per second.

    Returns
    -------
    int
        Bytes.
    """
    return max(BURST_BYTES, int(rate * BURST_S))


def _shape(ip: Any, index: int, rate: float) -> None:
    burst = burst_bytes(rate)
    ip.tc("add", "tbf", index, rate=int(rate), burst=burst, limit=burst + int(rate * QUEUE_S))


def _share(ip: Any, index: int, rate: float, queues: int) -> None:
    """Shape what leaves a host, with a queue for each host that it goes to."""
    burst = burst_bytes(rate)
    root, whole = 0x10000, 0x10001
    ip.tc("add", "htb", index, root, default=2)
    ip.tc("add-class", "htb", index, whole, parent=root, **_htb(rate, rate, burst))
    for queue in range(queues):
        leaf = whole + 1 + queue
        ip.tc("add-class", "htb", index, leaf, parent=whole, **_htb(rate / queues, rate, burst))
        key = f"{queue:#x}/{queues - 1:#x}+19"  # the last bits of the address that it goes to
        ip.tc(
            "add-filter",
            "u32",
            index,
            parent=root,
            prio=1,
            protocol=socket.ntohs(0x0008),
            target=leaf,
            keys=[key],
        )


def _htb(rate: float, most: float, burst: int) -> dict[str, Any]:
    return {"rate": int(rate), "ceil": int(most), "burst": burst, "cburst": burst, "quantum": burst}
