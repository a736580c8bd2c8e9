"""Starts the ranks of a local broadcast: run by `flux_tree._local` in a process of its own.

It imports nothing but the native core, listens for all ranks, and forks one process a rank. Every
rank is told what to do by pipes whose end it sees when the other side closes them or dies, so
nothing outlives its owner:

- cancel: closed by this process when the broadcast has failed; a rank then removes what it has.
- gates: gate p opens when every rank of phases before p is complete; the one before the last when
  all have verified, so that all rename or none; the last when all are done, so that all serve
  until then.

This process itself ends when its standard input does, unless ranks rename already.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any

from flux_tree._core import ffi, lib

# how long other ranks are given to say what went wrong for them, and to end
SETTLE_S = 0.2
GRACE_S = 10.0


class Shared:
    """What every rank needs: read once, before they are forked."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.n: int = setup["size"]
        self.stripes: int = setup["stripes"]
        self.records_map = mmap.mmap(setup["records_fd"], setup["records_size"])
        self.records = ffi.from_buffer("struct record[]", self.records_map)
        self.parents = ffi.from_buffer("int32_t[]", _read_fd(setup["parents_fd"]))
        self.manifest = ffi.from_buffer("unsigned char[]", _read_fd(setup["manifest_fd"]))
        self.key = ffi.new("unsigned char[]", bytes.fromhex(setup.pop("key")))
        self.id = ffi.new("unsigned char[]", bytes.fromhex(setup["id"]))
        self.places: dict[str, list[Any]] = setup["places"]
        self.listeners = {r: self.listen(r) for r in setup["ranks"]}
        text = {r: "{}:{}".format(*s.getsockname()) for r, s in self.listeners.items()}
        self._texts = [
            ffi.new("char[]", text[r].encode()) if r in text else ffi.NULL for r in range(self.n)
        ]
        self.addresses = ffi.new("char *[]", self._texts)

    def listen(self, rank: int) -> socket.socket:
        """Return a socket that listens for a rank, where the rank is."""
        address = self.go(rank) if self.places else "127.0.0.1"
        return socket.create_server((address, 0))

    def go(self, rank: int) -> str:
        """Go to where a rank is, for its sockets to be there; return its address."""
        from flux_tree import _namespace  # only here: nothing else needs ctypes

        fd, address = self.places[str(rank)]
        _namespace.enter(fd, _namespace.NET)
        return str(address)

    def destination(self, rank: int) -> bytes:
        return os.fsencode(self.setup["destinations"][rank])

    def tmp(self, rank: int) -> bytes:
        return f".flux-tree-{self.setup['id']}-{rank}".encode()


def _read_fd(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as f:
        f.seek(0)
        return f.read()


def run_rank(shared: Shared, rank: int, cancel: int, gates: list[int], status: int) -> int:
    """Run one rank to its end; return the exit code of its process."""
    setup = shared.setup
    fault = ffi.new("struct fault *")
    config = ffi.new("struct node_config *")
    keep = [
        ffi.new("char[]", os.fsencode(setup["source"])),
        ffi.new("char[]", shared.destination(rank)),
        ffi.new("char[]", shared.tmp(rank)),
    ]
    config.rank = rank
    config.size = shared.n
    config.stripes = shared.stripes
    config.parents = shared.parents
    config.addresses = shared.addresses
    config.listen_fd = shared.listeners[rank].detach()
    config.key = shared.key
    config.id = shared.id
    config.encrypt = setup["encrypt"]
    config.deliver = setup["deliver"][rank]
    config.overwrite = setup["overwrite"]
    config.measure_clock = setup["measure_clock"]
    if rank == 0:
        config.source = keep[0]
        config.manifest = shared.manifest
        config.manifest_size = len(shared.manifest)
    config.destination = keep[1]
    config.tmp = keep[2]
    config.workers = setup["workers"]
    config.timeout = setup["timeout"]
    config.epoch_ns = setup["epoch_ns"]
    config.record = shared.records + rank

    node = lib.node_create(config, fault)
    if node == ffi.NULL:
        return _report(shared, rank, fault, status)
    try:
        if not _wait(cancel, gates[setup["phase"][rank]]):
            return 3
        if lib.node_start(node, fault) < 0:
            return _report(shared, rank, fault, status)
        if not _wait(cancel, lib.node_fd(node)):
            return 3
        os.read(lib.node_fd(node), 8)
        if lib.node_seal(node, fault) < 0:
            return _report(shared, rank, fault, status)
        _say(status, rank, "sealed")
        # it serves others meanwhile, which can fail too
        if not _wait_serving(node, cancel, gates[-2]):
            return 3 if lib.node_seal(node, fault) == 0 else _report(shared, rank, fault, status)
        if lib.node_publish(node, fault) < 0:
            return _report(shared, rank, fault, status)
        _say(status, rank, "published")
        return 0 if _wait(cancel, gates[-1]) else 3
    finally:
        lib.node_destroy(node)


def _ready(*fds: int) -> set[int]:
    """Wait until some of `fds` are readable or at their end; return those."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll()}


def _wait(cancel: int, fd: int) -> bool:
    """Wait for `fd`; False if the broadcast is cancelled first."""
    return cancel not in _ready(cancel, fd)


def _wait_serving(node: Any, cancel: int, gate: int) -> bool:
    """Wait for `gate`; False if the broadcast is cancelled or the node fails first."""
    return _ready(cancel, gate, lib.node_fd(node)) == {gate}


def _say(status: int, rank: int, what: str) -> None:
    os.write(status, f"{rank} {what}\n".encode())


def _report(shared: Shared, rank: int, fault: Any, status: int) -> int:
    record = shared.records[rank]
    record.kind = fault.kind
    record.errnum = fault.errnum
    record.text = ffi.string(fault.text)
    record.state = lib.RECORD_FAILED
    _say(status, rank, "failed")
    return 1


class Launcher:
    """The process that owns the ranks."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.shared = Shared(setup)
        self.ranks: list[int] = setup["ranks"]
        self.phase: list[int] = setup["phase"]
        phases = max(self.phase) + 1
        self.cancel_r, self.cancel_w = os.pipe()
        pipes = [os.pipe() for _ in range(phases + 2)]
        self.gates = [r for r, _ in pipes]
        self.gate_writers = {g: w for g, (_, w) in enumerate(pipes)}
        self.status_r, self.status_w = os.pipe()
        self.pids: dict[int, int] = {}
        self.sealed: set[int] = set()
        self.published: set[int] = set()
        self.failed = False
        self.killed: dict[int, int] = {}

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
                    # the ends of the pipes that only this process may hold
                    for fd in (self.cancel_w, self.status_r, *self.gate_writers.values(), 0):
                        os.close(fd)
                    for other in self.shared.listeners:
                        if other != rank:
                            self.shared.listeners[other].close()
                    code = run_rank(self.shared, rank, self.cancel_r, self.gates, self.status_w)
                except Exception as exc:  # a bug: the caller must hear of it, not see nothing
                    fault = ffi.new("struct fault *", {"errnum": errno.EIO, "rank": rank})
                    fault.text = f"{type(exc).__name__}: {exc}".encode()[:400]
                    code = _report(self.shared, rank, fault, self.status_w)
                finally:
                    os._exit(code)
            self.pids[pid] = rank
        for listener in self.shared.listeners.values():
            listener.close()

    def open_gates(self) -> None:
        """Open every gate whose time has come."""
        for gate in sorted(self.gate_writers):
            if gate == len(self.gates) - 1:
                ready = self.published.issuperset(self.ranks)
            else:
                ready = all(r in self.sealed for r in self.ranks if self.phase[r] < gate)
            if not ready:
                return
            os.close(self.gate_writers.pop(gate))

    def reap(self) -> None:
        while self.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            rank = self.pids.pop(pid)
            if os.WIFSIGNALED(status):
                self.killed[rank] = os.WTERMSIG(status)
                self.failed = True
            elif os.WEXITSTATUS(status) != 0:
                self.failed = True

    def hear(self) -> None:
        for line in os.read(self.status_r, 65536).decode().splitlines():
            rank, what = line.split()
            if what == "sealed":
                self.sealed.add(int(rank))
            elif what == "published":
                self.published.add(int(rank))
            else:
                self.failed = True

    def run(self) -> bool:
        """Run until every rank has ended; True if all went well."""
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w)
        self.fork()
        self.open_gates()
        while self.pids and not self.failed:
            # once ranks rename all of them do, so from then on nobody can call it off
            renaming = len(self.gates) - 2 not in self.gate_writers
            ready = _ready(wake_r, self.status_r, *([] if renaming else [0]))
            if 0 in ready:  # whoever started this has gone, or has given up
                break
            if wake_r in ready:
                os.read(wake_r, 4096)
                self.reap()
            if self.status_r in ready:
                self.hear()
            self.open_gates()
        if self.failed or self.pids:
            self.end()
            return False
        return True

    def end(self) -> None:
        """End the ranks that still run, and remove what killed ones have left."""
        if self.failed:
            self.settle(time.monotonic() + SETTLE_S)
        os.close(self.cancel_w)
        self.settle(time.monotonic() + GRACE_S)
        # what is killed here did not fail first
        killed = dict(self.killed)
        for pid in list(self.pids):
            os.kill(pid, signal.SIGKILL)
        self.settle(None)
        self.killed = killed
        for rank in self.ranks:
            lib.store_discard(self.shared.destination(rank), self.shared.tmp(rank))

    def settle(self, deadline: float | None) -> None:
        """Wait for ranks to end, until `deadline`."""
        while self.pids and (deadline is None or time.monotonic() < deadline):
            self.reap()
            time.sleep(0.01)


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
    return {"ok": ok, "killed": {str(r): s for r, s in launcher.killed.items()}}


def main() -> None:
    """Read the set-up from standard input, run the ranks, and say how it went."""
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
