"""Makes the faults of a schedule happen, each at its moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np

from .place import Place
from .schedule import ALMOST, SEALED, Fault, Schedule

POLL_S = 0.002
RECEIVED, COMPLETE = 2, 3


class Processes(Protocol):
    """The processes of the ranks.

    Attributes
    ----------
    stopped : set of int
        Those that were stopped for good.
    """

    stopped: set[int]

    def all(self) -> list[int]:
        """Return all that were ever seen."""

    def find(self) -> dict[int, int]:
        """Return the process of each rank that was seen so far."""

    def kill(self) -> None:
        """Kill all of them: it takes too long."""


class Striker(threading.Thread):
    """Watches a broadcast from a thread of its own, and strikes.

    Parameters
    ----------
    schedule, place
        What is carried out, and where.
    processes : Processes
        Of its ranks.
    set_link : callable, optional
        Takes a rank's cable out (False), or plugs it in again.

    Attributes
    ----------
    struck : dict of Fault to float
        The faults that happened, and when.
    pids : dict of int to int
        The process of each rank.
    waiting : list of Fault
        Those whose moment has not come.
    late : bool
        It took longer than the deadline: all processes were killed.
    """

    def __init__(
        self,
        schedule: Schedule,
        place: Place,
        processes: Processes,
        set_link: Callable[[int, bool], None] | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.schedule = schedule
        self.place = place
        self.processes = processes
        self.set_link = set_link
        self.struck: dict[Fault, float] = {}
        self.pids: dict[int, int] = {}
        self.late = False
        self.error: BaseException | None = None
        self._fds: dict[int, int] = {}
        self._records: Any = None
        self.waiting = [f for f in schedule.faults if f.kind != "slow"]
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._over = threading.Event()
        self._begin = time.monotonic()

    def progress(self, records: Any) -> None:
        """Take the records: a progress callback of `flux_tree.broadcast`."""
        self._records = records

    def finish(self) -> None:
        """The broadcast is over: end, and put in order what was to pass."""
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error

    def sealed(self) -> set[int]:
        """Return the ranks that had everything."""
        if self.schedule.engine == "job":  # its records are some time behind
            return {rank for f in self.struck if f.at >= ALMOST for rank in f.ranks}
        return (
            set() if self._records is None else set(np.flatnonzero(self._records["verified"] >= 0))
        )

    def run(self) -> None:
        try:
            while not self._over.wait(POLL_S):
                self._step()
        except BaseException as exc:
            self.error = exc
        finally:
            for _, end in self._later:
                end()
            for fd in self._fds.values():
                os.close(fd)

    def _step(self) -> None:
        now = time.monotonic()
        if now - self._begin > self.schedule.deadline and not self.late:
            self.late = True
            self.processes.kill()
        for item in [i for i in self._later if i[0] <= now]:
            self._later.remove(item)
            item[1]()
        if len(self.pids) < self.schedule.ranks:
            for rank, pid in self.processes.find().items():
                if rank not in self.pids:
                    self.pids[rank] = pid
                    with suppress(ProcessLookupError):  # it has failed already
                        self._fds[rank] = os.pidfd_open(pid)
            return
        for fault in [f for f in self.waiting if self._is_time(f)]:
            self.waiting.remove(fault)
            self.struck[fault] = now
            for rank in fault.ranks:
                getattr(self, f"strike_{fault.kind}")(rank, fault)

    def _is_time(self, fault: Fault) -> bool:
        records, rank = self._records, fault.ranks[0]
        if fault.at == 0 and self.schedule.engine != "job":
            return True
        # what a shell does before it comes to the broadcast is Flux's own affair
        if records is None:
            return False
        if fault.at == SEALED:
            return records["state"][rank] in (RECEIVED, COMPLETE)
        # the root gets nothing: it is as far as the first of the others
        have = records["bytes_in"] + records["bytes_kept"]
        return bool((have[rank] if rank else have.max()) >= fault.at * self.schedule.size)

    def _signal(self, rank: int, number: int) -> None:
        with suppress(ProcessLookupError):
            if rank in self._fds:
                signal.pidfd_send_signal(self._fds[rank], number)

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, what))

    def strike_kill(self, rank: int, _: Fault) -> None:
        self._signal(rank, signal.SIGKILL)

    def strike_stop(self, rank: int, _: Fault) -> None:
        self._signal(rank, signal.SIGSTOP)
        self.processes.stopped.add(self.pids[rank])

    def strike_pause(self, rank: int, fault: Fault) -> None:
        self._signal(rank, signal.SIGSTOP)
        self._after(fault.seconds, lambda: self._signal(rank, signal.SIGCONT))

    def strike_reset(self, rank: int, _: Fault) -> None:
        reset_connections(self.pids[rank])

    def strike_full(self, rank: int, fault: Fault) -> None:
        if fault.at > 0:
            self.place.fill(rank)

    def strike_link(self, rank: int, fault: Fault) -> None:
        assert self.set_link is not None
        set_link = self.set_link
        set_link(rank, False)
        if fault.seconds:
            self._after(fault.seconds, lambda: set_link(rank, True))


def reset_connections(pid: int) -> None:
    """Have the kernel reset all TCP connections of a process, as a broken middle box would."""
    ss = ["nsenter", f"--net=/proc/{pid}/ns/net", "ss"]
    table = subprocess.run([*ss, "-Htnp"], capture_output=True, text=True)
    mine = [line.split() for line in table.stdout.splitlines() if f"pid={pid}," in line]
    ends = [f"( src {words[3]} and dst {words[4]} )" for words in mine]
    if ends:
        subprocess.run([*ss, "-K", "-tn", " or ".join(ends)], capture_output=True)


class EngineProcesses:
    """The processes of the embedded engine that this process runs.

    Attributes
    ----------
    launcher : int or None
        What starts the ranks.
    ranks : list of int
        In the order in which they were started, those that have ended as well.
    """

    def __init__(self) -> None:
        self.launcher: int | None = None
        self.ranks: list[int] = []
        self.stopped: set[int] = set()

    def find(self) -> dict[int, int]:
        if self.launcher is None:
            found = [p for p in started_by(os.getpid()) if b"flux_tree._launcher" in command(p)]
            self.launcher = found[0] if found else None
        if self.launcher is not None:
            self.ranks += [p for p in started_by(self.launcher) if p not in self.ranks]
        return dict(enumerate(self.ranks))

    def all(self) -> list[int]:
        return [*filter(None, [self.launcher]), *self.ranks]

    def kill(self) -> None:
        for pid in self.all():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def command(pid: int) -> bytes:
    """Return the command line of a process, empty if it has gone."""
    return _read(f"/proc/{pid}/cmdline")


def started_by(pid: int) -> list[int]:
    """Return the children of a process in order, also those that nobody has waited for."""
    tasks = sorted(Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(n) for task in tasks for n in re.findall(rb"\d+", _read(str(task)))]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
