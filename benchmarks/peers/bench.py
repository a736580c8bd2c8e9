"""What all peers need: the payload, the places it goes to, commands on hosts, and the figures."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Protocol

from flux_tree.lab import Lab

BLOCK = 1 << 22
#: Commands that take this many times as long as n - 1 payloads through one NIC are given up.
PATIENCE, PATIENCE_S = 3.0, 120.0


class PeerError(Exception):
    """A peer that could not be measured; one line that says why."""


@dataclass
class Figures:
    """What one broadcast of one peer took; None where there is no such figure.

    Attributes
    ----------
    slowest, command, created : float or None
        Seconds: until the slowest host had everything, the whole command, and the command with
        the creation of the archive that it needs.
    cpu : float
        Processor seconds of the machine, meanwhile.
    idle : float
        The share of the time that the processors of the machine were idle.
    sent : float
        Bytes that left the NIC of host 0, divided by the size of the payload.
    """

    slowest: float | None = None
    command: float | None = None
    created: float | None = None
    cpu: float = 0.0
    idle: float = 0.0
    sent: float = 0.0

    @property
    def first(self) -> float:
        """The first of the times that there is: the one that peers are compared by."""
        return next(t for t in (self.slowest, self.command) if t is not None)


def median(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    got = {name: [getattr(f, name) for f in runs] for name in Figures.__dataclass_fields__}
    figures = Figures()
    for name, values in got.items():
        setattr(figures, name, None if values[0] is None else statistics.median(values))
    return figures


Case = Callable[[str], Figures]


class Group(Protocol):
    """Peers that are measured one after the other with the same daemons."""

    @property
    def names(self) -> Sequence[str]:
        """Of the peers."""

    def missing(self) -> str:
        """Return what to install, or nothing if all is there."""

    def start(self, bench: Bench) -> AbstractContextManager[Case]:
        """Start the daemons; give a function that measures the peer of a name."""


class Bench:
    """A lab, a payload, and the figures of what happens there.

    Parameters
    ----------
    lab : Lab
        Where.
    size : int
        Of the payload, bytes.

    Attributes
    ----------
    source : Path
        The payload, of host 0.
    to : Path
        Where it goes: in the folder named as the number of each host, under any name. Also under
        the names of the hosts.
    receivers : range
        The hosts that get it.
    """

    def __init__(self, lab: Lab, size: int) -> None:
        self.lab, self.size = lab, size
        self.work = lab.folder
        self.source = self.work / "payload"
        self.to = self.work / "to"
        self.receivers = range(1, lab.hosts)
        self.line = size / lab.goodput()
        self.limit = PATIENCE_S + PATIENCE * self.line * (lab.hosts - 1)

    def renew(self) -> None:
        """Make a payload that nobody knows yet, and empty places for it."""
        shutil.rmtree(self.to, ignore_errors=True)
        for host in range(self.lab.hosts):
            (self.to / str(host)).mkdir(parents=True)
            (self.to / self.lab.names[host]).symlink_to(str(host))
        with self.source.open("wb") as f:
            for start in range(0, self.size, BLOCK):
                f.write(os.urandom(min(BLOCK, self.size - start)))

    def verify(self) -> None:
        """Raise if a host did not get what was sent to it."""
        for host in self.receivers:
            found = [p for p in (self.to / str(host)).iterdir() if p.is_file()]
            if len(found) != 1:
                raise PeerError(f"host {host} has {len(found)} files, not one")
            if subprocess.run(["cmp", "-s", self.source, found[0]]).returncode:
                raise PeerError(f"host {host} has other bytes")

    def popen(self, host: int, argv: Sequence[Any], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host; what it says goes nowhere, if not asked for."""
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        return self.lab.popen(host, [str(a) for a in argv], **{**quiet, **options})

    def run(self, argv: Sequence[Any], **options: Any) -> str:
        """Run a program on host 0 to its end; return what it wrote."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.popen(0, argv, text=True, **{**pipes, **options})
        try:
            out, err = process.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            process.kill()
            raise PeerError(f"{argv[0]} {argv[1]}: no end after {self.limit:.0f} s") from None
        if process.returncode:
            last = (err or "").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise PeerError(f"{argv[0]} {argv[1]}: {last[0]}")
        return out or ""

    def timed(self, argv: Sequence[Any], **options: Any) -> Figures:
        """Run a program on host 0 to its end, and measure that."""
        with self.measure() as figures:
            self.run(argv, **options)
        return figures

    @contextmanager
    def measure(self) -> Iterator[Figures]:
        """Measure what happens inside: all but `slowest` and `created`."""
        figures = Figures()
        sent = self._sent()
        busy, idle = _machine()
        begin = time.perf_counter()
        yield figures
        figures.command = time.perf_counter() - begin
        busy_end, idle_end = _machine()
        figures.cpu = busy_end - busy
        figures.idle = (idle_end - idle) / max(busy_end - busy + idle_end - idle, 1e-9)
        figures.sent = (self._sent() - sent) / self.size

    def _sent(self) -> int:
        """Return how many bytes have left the NIC of host 0."""
        lines = self.run(["cat", "/proc/self/net/dev"]).splitlines()[2:]
        fields = {name: line.split() for name, _, line in (x.partition(":") for x in lines)}
        return sum(int(f[8]) for name, f in fields.items() if name.strip() != "lo")


def _machine() -> tuple[float, float]:
    """Return how long the processors of this machine have been busy and idle, seconds."""
    with open("/proc/stat") as f:
        ticks = [int(x) / os.sysconf("SC_CLK_TCK") for x in f.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until something is so, or raise that it is not."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise PeerError(f"{what} after {seconds:.0f} s")
        time.sleep(0.05)


def end(processes: Sequence[subprocess.Popen[Any]], seconds: float = 10.0) -> None:
    """End programs: ask first, and kill what does not listen."""
    for process in processes:
        if process.stdin is None:  # else its end is the sign
            process.terminate()
        else:
            process.stdin.close()
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def program(name: str) -> str | None:
    """Return where a program is, also one that is for root only."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
