"""The ranks of a local broadcast, each a process that `flux_tree._launcher` forks.

A rank is told what to do by pipes, which have something to read when it is time, or are at their
end when the launcher has died, so no rank outlives it:

- cancel: when the broadcast has failed; a rank then removes what it has.
- gates: gate p opens when every rank of phases before p is complete; the one before the last when
  all have verified, so that all rename or none; the last when all are done, so that all serve
  until then.

It imports nothing but the native core.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
from collections.abc import Iterable
from typing import Any

from flux_tree._core import ffi, lib

__all__ = ["Shared", "new_key", "ready", "report", "run_rank"]


def new_key() -> Any:
    """Return a new key; it is nowhere else, not even for a moment."""
    key = ffi.new("unsigned char[32]")
    with open("/dev/urandom", "rb", buffering=0) as f:
        f.readinto(ffi.buffer(key))
    return key


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
        self.key = new_key()
        self.id = ffi.new("unsigned char[]", bytes.fromhex(setup["id"]))
        self.sha256 = ffi.NULL
        if setup["sha256"] is not None:
            self.sha256 = ffi.new("unsigned char[]", bytes.fromhex(setup["sha256"]))
        self.places: dict[str, list[Any]] = setup["places"]
        self.listeners = {r: self.listen(r) for r in setup["ranks"]}
        text = {r: "{}:{}".format(*s.getsockname()) for r, s in self.listeners.items()}
        self._texts = [
            ffi.new("char[]", text[r].encode()) if r in text else ffi.NULL for r in range(self.n)
        ]
        self.addresses = ffi.new("char *[]", self._texts)

    def forget_key(self) -> None:
        """Wipe the key of this process: a node has its own copy."""
        ffi.buffer(self.key)[:] = bytes(len(self.key))

    def listen(self, rank: int) -> socket.socket:
        """Return a socket that listens for a rank, where the rank is."""
        address = self.go(rank) if self.places else "127.0.0.1"
        return socket.create_server((address, 0), backlog=socket.SOMAXCONN)

    def go(self, rank: int) -> str:
        """Go to where a rank is, for its sockets to be there; return its address."""
        from flux_tree import _namespace  # only here: nothing else needs ctypes

        fd, address = self.places[str(rank)]
        _namespace.enter(fd, _namespace.NET)
        return str(address)

    def discard(self, rank: int) -> None:
        """Remove what a rank that was killed has left, but for what another run can resume."""
        destination = os.fsencode(self.setup["destinations"][rank])
        lib.store_discard(destination, self.tmp(rank))

    def tmp(self, rank: int) -> bytes:
        """Return the temporary name of a rank."""
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
        ffi.new("char[]", os.fsencode(setup["destinations"][rank])),
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
    config.resume = setup["resume"]
    config.sync = setup["fsync"]
    config.sha256 = shared.sha256
    config.measure_clock = setup["measure_clock"]
    if rank == 0:
        config.source = keep[0]
        config.manifest = shared.manifest
        config.manifest_size = len(shared.manifest)
        config.feed_fd = setup["feed_fd"] or 0
    config.destination = keep[1]
    config.tmp = keep[2]
    config.workers = setup["workers"]
    config.timeout = setup["timeout"]
    config.epoch_ns = setup["epoch_ns"]
    config.record = shared.records + rank

    node = lib.node_create(config, fault)
    shared.forget_key()
    if node == ffi.NULL:
        return report(shared, rank, fault, status)
    try:
        if not _wait(cancel, gates[setup["phase"][rank]]):
            return 3
        if lib.node_start(node, fault) < 0:
            return report(shared, rank, fault, status)
        if not _wait(cancel, lib.node_fd(node)):
            return 3
        os.read(lib.node_fd(node), 8)
        if lib.node_seal(node, fault) < 0:
            return report(shared, rank, fault, status)
        _say(status, rank, "sealed")
        # it serves others meanwhile, which can fail too
        if not _wait_serving(node, cancel, gates[-2]):
            return 3 if lib.node_seal(node, fault) == 0 else report(shared, rank, fault, status)
        if lib.node_publish(node, fault) < 0:
            return report(shared, rank, fault, status)
        _say(status, rank, "published")
        return 0 if _wait(cancel, gates[-1]) else 3
    finally:
        lib.node_destroy(node)


def ready(*fds: int, timeout: float | None = None) -> set[int]:
    """Wait until some of `fds` are readable or at their end; return those, none after `timeout`."""
    return set(_poll(fds, timeout))


def _poll(fds: Iterable[int], timeout: float | None = None) -> dict[int, int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return dict(poll.poll(None if timeout is None else timeout * 1000))


def _wait(cancel: int, *fds: int) -> set[int]:
    """Wait for some of `fds` to be readable; return those, none if the broadcast is cancelled.

    When the launcher dies, its pipes end one after the other, in no order: the end of a gate does
    not open it, and a gate that was opened stays so, as others have gone through.
    """
    events = _poll((cancel, *fds))
    return {fd for fd in fds if events.get(fd, 0) & select.POLLIN}


def _wait_serving(node: Any, cancel: int, gate: int) -> bool:
    """Wait for `gate`; False if the broadcast is cancelled or the node fails first."""
    return _wait(cancel, gate, lib.node_fd(node)) == {gate}


def _say(status: int, rank: int, what: str) -> None:
    os.write(status, f"{rank} {what}\n".encode())


def report(shared: Shared, rank: int, fault: Any, status: int) -> int:
    """Report that a rank has failed; return the exit code of its process."""
    record = shared.records[rank]
    record.kind = fault.kind
    record.errnum = fault.errnum
    record.text = ffi.string(fault.text)
    record.state = lib.RECORD_FAILED
    _say(status, rank, "failed")
    return 1
