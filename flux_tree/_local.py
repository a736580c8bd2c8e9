"""The embedded engine: ranks as processes of this machine, joined by the loopback interface.

The processes are started by `flux_tree._launcher`, in a small process of its own, so that threads
and imports of the caller do not matter to them. Their records lie in memory that is shared with the
caller, which is how progress is followed and how the result comes back.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
from numpy.typing import NDArray

from . import _records
from ._native import lib
from ._stream import stream_bandwidth
from .errors import (
    BroadcastError,
    Cancelled,
    DestinationError,
    FluxTreeError,
    SourceError,
    UsageError,
)

if TYPE_CHECKING:
    from ._payload import Payload
    from ._transfer import Transfer
    from .plan import Plan

__all__ = ["loopback_bandwidth", "run"]

POLL_S = 0.05

_START = "import sys; sys.path += sys.argv[1:]; from flux_tree._launcher import main; main()"

#: What a message says of a broadcast with resume that came to nothing.
STAYS = "what has come stays, for another run with resume"

#: More processes than this are no test of anything on one machine.
MAX_RANKS = 1024


def run(
    plan: Plan,
    payload: Payload,
    destinations: list[str],
    transfer: Transfer,
    *,
    workers: int,
    measure_clock: bool,
    progress: Callable[[NDArray[np.void]], None] | None,
    places: Sequence[tuple[int, str]] | None = None,
) -> NDArray[np.void]:
    """Carry a plan out between processes of this machine.

    Parameters
    ----------
    plan : Plan
        What moves where.
    payload : Payload
        What is broadcast.
    destinations : list of str, length n
        Of each rank.
    transfer : Transfer
        How the data is to move.
    workers : int
        Threads of a rank that move data.
    measure_clock : bool
        Measure the clocks' offsets although all ranks have the same clock.
    progress : callable or None
        Called a few times a second with the records as they are.
    places : sequence of (int, str), optional
        Of each rank, its network namespace (a file descriptor) and its address there. The loopback
        interface of this process's own, if not given.

    Returns
    -------
    ndarray of DTYPE, shape (n,)
        Every rank's record.

    Raises
    ------
    UsageError
        If the plan has more than `MAX_RANKS` ranks.
    SourceError, DestinationError, BroadcastError
        If a rank failed: the one that failed first, with its rank. With ``on_failure="continue"``,
        if rank 0 did, or too few are left.
    KeyboardInterrupt
        Passed on, after everything is cleaned up.
    """
    if plan.size > MAX_RANKS:
        raise UsageError(f"ranks {plan.size}: one machine takes at most {MAX_RANKS}, give fewer")
    with ExitStack() as stack:
        records_fd = stack.enter_context(
            _memory_file("records", bytes(plan.size * _records.DTYPE.itemsize))
        )
        parents_fd = stack.enter_context(_memory_file("parents", plan.parents.tobytes()))
        manifest_fd = stack.enter_context(_memory_file("manifest", payload.manifest))
        shared = np.memmap(os.fdopen(os.dup(records_fd), "r+b"), _records.DTYPE, "r+")
        _records.reset(shared)
        setup = {
            "size": plan.size,
            "stripes": plan.stripes,
            "ranks": np.flatnonzero(plan.present).tolist(),
            "phase": plan.phase.tolist(),
            "deliver": plan.deliver.astype(int).tolist(),
            "records_fd": records_fd,
            "records_size": shared.nbytes,
            "parents_fd": parents_fd,
            "manifest_fd": manifest_fd,
            "id": secrets.token_hex(16),
            "source": payload.source,
            "destinations": destinations,
            "encrypt": int(transfer.security == "tls"),
            "overwrite": int(transfer.overwrite),
            "resume": int(transfer.resume),
            "fsync": int(transfer.fsync),
            "sha256": transfer.sha256 and transfer.sha256.hex(),
            "min_ranks": (transfer.min_ranks or 1) if transfer.on_failure == "continue" else None,
            "measure_clock": int(measure_clock),
            "workers": workers,
            "timeout": transfer.timeout,
            "epoch_ns": lib.node_clock_ns(),
            "places": dict(enumerate(places or ())),
            "feed_fd": payload.feed_fd,
        }
        fds = (records_fd, parents_fd, manifest_fd, *(fd for fd, _ in places or ()))
        if payload.feed_fd is not None:
            fds = (*fds, payload.feed_fd)
        try:
            answer = _run_launcher(setup, fds, progress and (lambda: progress(shared)))
        except KeyboardInterrupt:
            if _stays(shared, transfer):
                raise KeyboardInterrupt(STAYS) from None
            raise
        result = np.array(shared)
    if answer is None:
        raise BroadcastError(
            f"the process that runs the ranks died: see the system's log{_stays(result, transfer)}"
        )
    if "error" in answer:
        raise BroadcastError(f"the ranks cannot be started: {answer['error']}")
    if not answer["ok"]:
        raise _failure(result, plan, transfer, answer["lost"], answer["gone"])
    for name in _records.TIMES:
        result[name][result[name] < 0] = np.nan
    return result


@contextmanager
def _memory_file(name: str, data: bytes) -> Iterator[int]:
    low = os.memfd_create(f"flux-tree-{name}")
    try:
        # where a standard stream is closed, its number is free, but it is that of a pipe for us
        fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(low)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        yield fd
    finally:
        os.close(fd)


def _run_launcher(
    setup: dict[str, Any], fds: tuple[int, ...], progress: Callable[[], None] | None
) -> dict[str, Any] | None:
    """Run `flux_tree._launcher`; return its answer, or None if it died without one."""
    root = str(Path(__file__).resolve().parent.parent)
    # -I, and our paths after those of the standard library: no file that happens to lie in the
    # current directory or among the installed packages stands in for one of its modules
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START, root, *filter(None, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=fds,
        start_new_session=True,  # Ctrl-C is for us; the ranks see our end of a pipe close
    )
    assert launcher.stdin is not None and launcher.stdout is not None
    text = b""
    try:
        launcher.stdin.write(json.dumps(setup).encode() + b"\n")
        launcher.stdin.flush()
        while True:
            ready, _, _ = select.select([launcher.stdout], [], [], POLL_S)
            if ready:
                part = os.read(launcher.stdout.fileno(), 1 << 16)
                if not part:
                    break
                text += part
            if progress:
                progress()
    except BrokenPipeError:
        pass
    finally:
        # its standard input ends: if ranks still run, they are ended and cleaned up after
        with _deferred_interrupt():
            with suppress(BrokenPipeError):
                launcher.stdin.close()
            launcher.stdout.close()
            launcher.wait()
    return json.loads(text) if text else None


@contextmanager
def _deferred_interrupt() -> Iterator[None]:
    """Let a second Ctrl-C wait until the clean-up after the first is over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _failure(
    records: NDArray[np.void], plan: Plan, transfer: Transfer, lost: list[int], gone: list[int]
) -> FluxTreeError:
    """Return the error that explains the others.

    With ``on_failure="continue"`` that is rank 0, or that too few are left, and who failed first.
    Else it is a rank that was killed or hung, before one that says what it has to do with, before
    one that lost a connection.
    """
    failures = _records.failures(records)
    stays = _stays(records, transfer)
    if not failures:
        return Cancelled(f"the broadcast was cancelled{stays}")
    rank = min(failures, key=lambda r: (r not in gone, records["kind"][r] == lib.FAULT_OTHER, r))
    if transfer.on_failure == "continue" and 0 not in failures:
        rank = lost[0]
        keep = int(plan.deliver.sum())
        left = keep - int(plan.deliver[lost].sum())
        return BroadcastError(
            f"only {left} of the {keep} ranks that keep the data can have it, and min_ranks is"
            f" {transfer.min_ranks or 1}: rank {rank}: {failures[rank]}{stays}",
            rank=rank,
            failures=failures,
        )
    if transfer.on_failure == "continue":
        rank = 0
    kinds: dict[int, type[FluxTreeError]] = {
        lib.FAULT_SOURCE: SourceError,
        lib.FAULT_DESTINATION: DestinationError,
    }
    kind = kinds.get(int(records["kind"][rank]), BroadcastError)
    return kind(f"rank {rank}: {failures[rank]}{stays}", rank=rank, failures=failures)


def _stays(records: NDArray[np.void], transfer: Transfer) -> str:
    """Return what to add to a message if another run can use what has come."""
    return f"; {STAYS}" if transfer.resume and records["bytes_in"].any() else ""


def loopback_bandwidth(size: int = 64 << 20) -> float:
    """Measure what one stream moves through the loopback interface.

    Parameters
    ----------
    size : int, default 64 MiB
        Bytes to move, after a quarter of them to warm up.

    Returns
    -------
    float
        Bytes per second.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        return stream_bandwidth(server, socket.socket(), size)
