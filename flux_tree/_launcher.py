"""Starts the ranks of a local broadcast: run by `flux_tree._local` in a process of its own.

It imports nothing but the native core, listens for all ranks, and forks one process a rank. It
opens the gates, notices ranks that fail, die or hang, and decides what that means for the others:
all end, or those that are left go on without.

This process itself ends when its standard input does, unless ranks rename already.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import time
from contextlib import suppress
from typing import Any

from flux_tree._core import ffi, lib
from flux_tree._ranks import Shared, ready, report, run_rank

__all__ = ["main"]

# how long other ranks are given to say what went wrong for them, to end, and to die
SETTLE_S = 0.2
GRACE_S = 10.0
KILL_S = 3.0
#: How often the ranks are looked at, seconds; they say some times a second that they are at work.
WATCH_S = 0.25
#: Nobody renames while the last sign of life of any rank is older, seconds.
LATELY_S = 1.0


class Launcher:
    """The process that owns the ranks."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.shared = Shared(setup)
        self.ranks: list[int] = setup["ranks"]
        self.phase: list[int] = setup["phase"]
        self.deliver: list[int] = setup["deliver"]
        self.timeout: float = setup["timeout"]
        self.min_ranks: int | None = setup["min_ranks"]  # None: none may fail
        phases = max(self.phase) + 1
        self.cancel_r, self.cancel_w = os.pipe()
        pipes = [os.pipe() for _ in range(phases + 2)]
        self.gates = [r for r, _ in pipes]
        self.gate_writers = {g: w for g, (_, w) in enumerate(pipes)}
        self.status_r, self.status_w = os.pipe()
        self.pids: dict[int, int] = {}
        #: killed because they hang, and not ended yet: the kernel may have to wait for a disk
        self.hung: dict[int, int] = {}
        self.sealed: set[int] = set()
        self.published: set[int] = set()
        #: ranks that failed, in order; and those of them that could not say so themselves
        self.lost: list[int] = []
        self.gone: list[int] = []
        self.failed = False
        self.cancelled = False
        self.signs = dict.fromkeys(self.ranks, 0.0)
        self.heard = dict.fromkeys(self.ranks, time.monotonic())

    @property
    def left(self) -> list[int]:
        """The ranks that have not failed."""
        return [r for r in self.ranks if r not in self.lost]

    @property
    def renaming(self) -> bool:
        """Whether ranks rename: from then on all of them do, and nobody can call it off."""
        return len(self.gates) - 2 not in self.gate_writers

    @property
    def enough(self) -> bool:
        """Whether as many ranks are left as must be."""
        if self.min_ranks is None:
            return not self.lost
        keep = sum(self.deliver[r] for r in self.left)
        return 0 not in self.lost and keep >= self.min_ranks

    def fork(self) -> None:
        for rank in self.ranks:
            if self.shared.places:
                self.shared.go(rank)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    # the ends of the pipes that only this process may hold, and where it answers
                    for fd in (self.cancel_w, self.status_r, *self.gate_writers.values(), 0, 1):
                        os.close(fd)
                    if rank != 0 and self.shared.setup["feed_fd"] is not None:
                        os.close(self.shared.setup["feed_fd"])
                    for other in self.shared.listeners:
                        if other != rank:
                            self.shared.listeners[other].close()
                    code = run_rank(self.shared, rank, self.cancel_r, self.gates, self.status_w)
                except Exception as exc:  # a bug: the caller must hear of it, not see nothing
                    fault = ffi.new("struct fault *", {"errnum": errno.EIO, "rank": rank})
                    fault.text = f"{type(exc).__name__}: {exc}".encode()[:400]
                    code = report(self.shared, rank, fault, self.status_w)
                finally:
                    os._exit(code)
            self.pids[pid] = rank
        self.shared.forget_key()
        if self.shared.setup["feed_fd"] is not None:
            os.close(self.shared.setup["feed_fd"])
        for listener in self.shared.listeners.values():
            listener.close()

    def open_gates(self) -> None:
        """Open every gate whose time has come."""
        for gate in sorted(self.gate_writers):
            if gate == len(self.gates) - 1:
                is_time = self.published.issuperset(self.left)
            else:
                is_time = all(r in self.sealed for r in self.left if self.phase[r] < gate)
            if gate == len(self.gates) - 2:
                lately = time.monotonic() - LATELY_S
                is_time &= all(self.heard[r] > lately for r in self.left)
            if not is_time:
                return
            tell(self.gate_writers.pop(gate))

    def hear(self) -> None:
        for line in os.read(self.status_r, 65536).decode().splitlines():
            rank, what = line.split()
            if what == "sealed":
                self.sealed.add(int(rank))
            elif what == "published":
                self.published.add(int(rank))
            else:
                self.lose(int(rank))

    def reap(self) -> None:
        """See which ranks have ended."""
        while self.pids or self.hung:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if self.hung.pop(pid, None) is not None:
                continue
            rank = self.pids.pop(pid)
            record = self.shared.records[rank]
            if self.cancelled or status == 0:
                continue
            if record.state == lib.RECORD_COMPLETE:  # it has done all that it had to do
                self.published.add(rank)
            elif os.WIFSIGNALED(status):
                self.lose(rank, f"killed by {_signal_name(os.WTERMSIG(status))}")
            elif record.state == lib.RECORD_FAILED:
                self.lose(rank)
            else:
                self.lose(rank, f"ended with exit code {os.WEXITSTATUS(status)}")

    def watch(self) -> None:
        """Kill ranks that have done nothing for too long: stopped, or stuck in a file system."""
        now = time.monotonic()
        for pid, rank in list(self.pids.items()):
            sign = self.sign(pid, rank)
            if sign != self.signs[rank] or self.phase[rank] in self.gate_writers:
                self.signs[rank] = sign
                self.heard[rank] = now
            elif now - self.heard[rank] >= self.timeout:
                self.kill(pid)

    def sign(self, pid: int, rank: int) -> float:
        """Return what changes as long as a rank is at work.

        Its threads say that they are. When all has come, it is its first one that completes the
        files and renames them: if it is at work, it is put to sleep, and wakes again, however long
        it takes.
        """
        record = self.shared.records[rank]
        done = self.published if self.renaming else self.sealed
        if record.state == lib.RECORD_RECEIVED and rank not in done:
            return _switches(pid)
        return float(record.alive)

    def kill(self, pid: int) -> None:
        """Kill a rank that hangs."""
        os.kill(pid, signal.SIGKILL)
        rank = self.hung[pid] = self.pids.pop(pid)
        if self.shared.records[rank].state == lib.RECORD_COMPLETE:
            self.published.add(rank)
        else:
            silent = time.monotonic() - self.heard[rank]
            self.lose(rank, f"hung: it has done nothing for {silent:.0f} seconds")

    def lose(self, rank: int, text: str | None = None) -> None:
        """Go on without a rank, or end all; `text` is why, if it could not say so itself."""
        if rank in self.lost:
            return
        self.lost.append(rank)
        if text is not None:
            self.gone.append(rank)
            record = self.shared.records[rank]
            record.deliver = self.deliver[rank]
            record.kind = lib.FAULT_OTHER
            record.errnum = errno.ESRCH
            record.text = text.encode()
            record.state = lib.RECORD_FAILED
        if not self.renaming and not self.enough:
            self.failed = True

    def run(self) -> bool:
        """Run until every rank has ended; True if all went well."""
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w)
        self.fork()
        self.open_gates()
        while self.pids and not self.failed:
            seen = ready(wake_r, self.status_r, *([] if self.renaming else [0]), timeout=WATCH_S)
            if 0 in seen:  # whoever started this has gone, or has given up
                break
            if self.status_r in seen:
                self.hear()
            if wake_r in seen:
                os.read(wake_r, 4096)
                self.reap()
            self.watch()
            if not self.failed:
                self.open_gates()
        ok = not self.pids and self.enough
        self.end()
        return ok

    def end(self) -> None:
        """End the ranks that still run, and remove what those have left that could not."""
        if self.failed:
            self.settle(SETTLE_S, self.pids)
            for pid, rank in list(self.pids.items()):
                # others may have noticed first, but this is why
                if time.monotonic() - self.heard[rank] > self.timeout / 2:
                    self.kill(pid)
        self.cancelled = True
        tell(self.cancel_w)
        self.settle(GRACE_S, self.pids)
        for pid in list(self.pids):
            os.kill(pid, signal.SIGKILL)
            self.hung[pid] = self.pids.pop(pid)
        self.settle(KILL_S, self.hung)
        for rank in self.ranks:
            # where a rank waits for a disk although it was killed, this process would wait as well
            if self.shared.records[rank].state != lib.RECORD_COMPLETE and (
                rank not in self.hung.values()
            ):
                self.shared.discard(rank)

    def settle(self, seconds: float, pids: dict[int, int]) -> None:
        """Wait for those ranks to end, for so long at most."""
        deadline = time.monotonic() + seconds
        while pids and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.01)


def tell(writer: int) -> None:
    """Tell all ranks what this pipe is for.

    By a byte that nobody reads: the end of the pipe would not come as long as a rank that was
    stopped in its first moments has the other side as well.
    """
    os.write(writer, b"!")
    os.close(writer)


def _switches(pid: int) -> float:
    """Return how often the first thread of a process has left the processor.

    Or the time, where that cannot be known: a process that conceals itself is hidden from its own
    user if /proc is mounted so.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as f:
            return sum(float(line.split()[1]) for line in f if b"ctxt_switches:" in line)
    except OSError:
        return time.monotonic()


def _signal_name(number: int) -> str:
    """Return the name of a signal; those of real time have only numbers."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def launch(setup: dict[str, Any]) -> dict[str, Any]:
    """Run the ranks that `setup` describes; return how it went."""
    try:
        launcher = Launcher(setup)
        try:
            ok = launcher.run()
        except OSError:
            launcher.end()
            raise
    except OSError as exc:  # no more processes, or no more files
        return {"ok": False, "error": f"{exc.strerror}: raise the limit (ulimit), or use fewer"}
    return {"ok": ok, "lost": launcher.lost, "gone": launcher.gone}


def main() -> None:
    """Read the set-up from standard input, run the ranks, and say how it went."""
    lib.conceal()  # it makes the key, and all ranks are forked from it
    # one read up to the newline: the rest of standard input is only ever its end
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            return
        line += part
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    answer = launch(json.loads(line))
    with suppress(BrokenPipeError):  # who asked may have been interrupted, and gone
        os.write(1, json.dumps(answer).encode())
    os._exit(0)
