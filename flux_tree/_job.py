"""A broadcast as a job of Flux: submitted, followed while it runs, and its report read.

Imported only where Flux's own Python bindings are there.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable

import flux.job
import numpy as np
from flux.future import FutureExt
from flux.idset import IDset
from numpy.typing import NDArray

from . import _records, _report
from ._records import Result
from .errors import BroadcastError, FluxTreeError, UsageError

__all__ = ["BroadcastFuture", "Job", "run", "submit"]

#: Seconds between two looks at a job.
POLL_S = 0.1
#: A job that has no nodes after so many seconds waits for something.
PATIENCE_S = 1.0
#: What makes the shells of a job load the plugin.
RC_FILE = Path(__file__).resolve().parent / "shell" / "tree-bcast.lua"

Progress = Callable[[NDArray[np.void]], None]


class Job:
    """A broadcast that was submitted: what is known about it, whoever follows it.

    Attributes
    ----------
    handle : flux.Flux
        The instance.
    jobid : flux.job.JobID
        The job's id.
    size : int
        Ranks.
    done : bool
        It is over, and there is a result or an error.
    bytes : int or None
        Of the payload, as soon as the job has told.
    """

    def __init__(
        self,
        handle: Any,
        jobid: Any,
        size: int,
        *,
        bandwidth: float | None,
        progress: Progress | None,
        notify: Callable[[str], None] | None,
        close: Callable[[], None] | None,
    ) -> None:
        self.handle = handle
        self.jobid = jobid
        self.size = size
        self.bandwidth = bandwidth
        self.progress = progress
        self.notify = notify
        self.done = False
        self.bytes: int | None = None
        self._close = close
        self._result: Result | None = None
        self._error: BaseException | None = None

    @property
    def name(self) -> str:
        """The job's id, as Flux writes it."""
        return str(self.jobid.f58)

    def fail(self, error: BaseException) -> None:
        """Keep an error, unless there is one before it."""
        self._error = self._error or error

    def finish(self, report: str | None, events: list[dict[str, Any]]) -> None:
        """Keep what became of the job, and remove what it does not need any more."""
        if self.done:
            return
        try:
            if report is None:
                raise _report.job_failure(self.name, events)
            result = _report.parse(
                report, f"job {self.name}", jobid=self.name, bandwidth=self.bandwidth
            )
            if result.error is not None:
                raise _report.error_of(json.loads(report))
            self._result = result
            self.bytes = result.bytes
            if self.progress is not None:
                self.progress(result.records)
        except Exception as exc:
            self.fail(exc)
        self.done = True
        self.close()

    def close(self) -> None:
        """Remove what only the job needed; at once, and only once."""
        close, self._close = self._close, None
        if close is not None:
            try:
                close()
            except (OSError, FluxTreeError) as exc:
                self.fail(exc)

    def take(self) -> Result:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


class BroadcastFuture(FutureExt):
    """A broadcast inside Flux that is under way: a future as those of flux-python.

    It is ready when the job has ended. ``then(callback)`` has the callback called with this future
    while the handle's reactor runs; `get_result` waits. Any number may be under way at once. A
    future that nobody waits for does no harm: the job ends by itself.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(self._begin, flux_handle=job.handle)
        self.job = job
        self._in_then = False
        self._in_wait = False
        self._interrupts: list[Any] = []
        self._cancel_if_interrupted = False
        self._follower: _Follower | None = None

    def __repr__(self) -> str:
        return f"<BroadcastFuture {self.job.name}>"

    @property
    def bytes(self) -> int | None:
        """Size of the payload, as soon as the job has told."""
        return self.job.bytes

    def get_jobid(self) -> Any:
        """Return the id of the job.

        Returns
        -------
        flux.job.JobID
        """
        return self.job.jobid

    def is_ready(self) -> bool:
        """Return whether the job has ended, so that `get_result` does not wait."""
        return self.job.done

    def get_result(self) -> Result:
        """Wait for the end, and return the result.

        Returns
        -------
        Result

        Raises
        ------
        SourceError, DestinationError, BroadcastError
            If the broadcast failed.
        Cancelled
            If the job was cancelled.
        """
        self.wait_for()
        return self.job.take()

    get = get_result

    def cancel(self, reason: str = "the broadcast is not wanted any more") -> None:
        """Cancel the job; the future becomes ready when it has gone.

        Parameters
        ----------
        reason : str, optional
            A line for the job's eventlog.
        """
        _cancel(self.job.handle, self.job, reason)

    def then(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> BroadcastFuture:
        """Have ``callback(future, *args, **kwargs)`` called when the job has ended.

        Parameters
        ----------
        callback : callable
            Called from the reactor of the handle.
        *args, **kwargs
            Passed on to it; ``timeout`` is that of `flux.future.Future.then`.

        Returns
        -------
        BroadcastFuture
            This one.
        """
        if self._in_wait:  # a future is initialized once, in the reactor that is used first
            timeout = kwargs.pop("timeout", -1.0)
            other = BroadcastFuture(self.job)
            other.then(lambda _: callback(self, *args, **kwargs), timeout=timeout)
        else:
            self._in_then = True
            super().then(callback, *args, **kwargs)
        return self

    def wait_for(self, timeout: float = -1.0) -> BroadcastFuture:
        """Wait for the end of the job, whether it went well or not.

        Parameters
        ----------
        timeout : float, default -1.0
            Seconds; below 0: any time.

        Returns
        -------
        BroadcastFuture
            This one.

        Raises
        ------
        TimeoutError
            If that takes longer.
        KeyboardInterrupt
            After a Ctrl-C; the job goes on.
        """
        self._wait(timeout)
        return self

    def _wait(self, timeout: float, interrupts: list[Any] | None = None) -> None:
        """Wait; a Ctrl-C that goes into `interrupts` cancels the job, others end the waiting."""
        if self.is_ready():
            return
        if self._in_then:
            BroadcastFuture(self.job)._wait(timeout, interrupts)
            return
        self._in_wait = True
        self._cancel_if_interrupted = interrupts is not None
        with ExitStack() as stack:
            if interrupts is None:
                interrupts = stack.enter_context(held_interrupt(self.job.handle))
            self._interrupts = interrupts
            # flux-python's own way of waiting lets a Ctrl-C kill the process
            stack.enter_context(self.job.handle.in_reactor())
            try:
                self.pimpl.wait_for(timeout)
            except OSError as exc:
                if exc.errno == errno.ETIMEDOUT:
                    raise TimeoutError(exc.errno, exc.strerror) from None
                if not interrupts:
                    self.raise_if_handle_exception()
                    raise

    def _begin(self, _: Any) -> None:
        """Follow the job, in whichever reactor this future is used."""
        self._follower = _Follower(self.get_flux(), self.job, self._end, self._look)

    def _end(self) -> None:
        if not super().is_ready():
            self.fulfill()

    def _look(self, handle: Any) -> None:
        """See to a Ctrl-C, which Python reports only while it runs itself."""
        if self._interrupts and not self._cancel_if_interrupted:
            handle.reactor_stop()
        elif self._interrupts and self._follower is not None:
            self._follower.cancel("interrupted")


class _Follower:
    """Watches a job until it has ended, from callbacks of one reactor."""

    def __init__(
        self, handle: Any, job: Job, end: Callable[[], None], look: Callable[[Any], None]
    ) -> None:
        self.handle = handle
        self.job = job
        self.end = end
        self.look = look
        self.events: list[dict[str, Any]] = []
        self.begin = time.monotonic()
        self.first: int | None = None  # broker rank of the first shell
        self.waits = True
        self.asked = False
        self.cancelled = False
        self.ended = False
        self.timer = handle.timer_watcher_create(POLL_S, self._tick, repeat=POLL_S)
        self.timer.start()
        self.watch = flux.job.event_watch_async(handle, job.jobid)
        self.watch.then(self._on_event)

    def cancel(self, reason: str) -> None:
        """Cancel the job, once."""
        if not self.cancelled:
            self.cancelled = True
            _cancel(self.handle, self.job, reason)

    def _on_event(self, watch: Any) -> None:
        try:
            event = watch.get_event()
        except OSError as exc:
            self.job.fail(BroadcastError(f"job {self.job.name}: lost sight of it ({exc})"))
            self._finish(None)
            return
        if event is None:
            return
        self.events.append({"name": event.name, "context": event.context})
        if event.name == "alloc":
            self.waits = False
            self._ask("R", self._on_resources)
        elif event.name == "clean":
            self._ask(_report.REPORT, self._finish)

    def _ask(self, key: str, use: Callable[[str | None], None]) -> None:
        """Look a key of the job up, and call `use` with it, or with None if it is not there."""

        def answer(rpc: Any) -> None:
            try:
                value = rpc.get()[key]
            except OSError:
                value = None
            use(value)

        request = {"id": int(self.job.jobid), "keys": [key], "flags": 0}
        self.handle.rpc("job-info.lookup", request).then(answer)

    def _on_resources(self, text: str | None) -> None:
        if text is not None:
            entries = json.loads(text)["execution"]["R_lite"]
            self.first = min(IDset(entry["rank"]).first() for entry in entries)

    def _tick(self, *_: Any) -> None:
        self.look(self.handle)
        job = self.job
        if self.waits and time.monotonic() - self.begin > PATIENCE_S:
            self.waits = False
            if job.notify is not None:
                self._call(
                    job.notify, f"job {job.name} waits for {job.size} nodes with a free core"
                )
        if job.progress is not None and self.first is not None and not self.asked:
            self.asked = True
            plain = flux.job.id_encode(job.jobid, "f58plain")
            topic = f"{os.getuid()}-shell-{plain}.tree-bcast.progress"
            self.handle.rpc(topic, {}, nodeid=self.first).then(self._on_progress)

    def _on_progress(self, rpc: Any) -> None:
        self.asked = False
        try:
            data = rpc.get()
        except OSError:  # not that far yet, or over
            return
        if self.ended or self.job.progress is None or self.cancelled:
            return
        self.job.bytes = data["bytes"]
        records = _records.allocate(self.job.size)
        records["bytes_in"] = data["bytes_in"]
        records["state"] = data["states"]
        self._call(self.job.progress, records)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        """Call what the caller gave; if it fails, the job is ended, and then the error raised."""
        try:
            function(argument)
        except Exception as exc:
            self.job.fail(exc)
            self.cancel(f"{type(exc).__name__} in a callback")

    def _finish(self, report: str | None) -> None:
        if self.ended:
            return
        self.ended = True
        self.timer.stop()
        self.job.finish(report, self.events)
        self.end()


def submit(
    handle: Any,
    options: dict[str, Any],
    size: int,
    ranks: str | None,
    **about: Any,
) -> BroadcastFuture:
    """Submit a broadcast.

    Parameters
    ----------
    handle : flux.Flux
        The instance.
    options : dict
        Of the plugin: the object of ``-o tree-bcast``.
    size : int
        Nodes.
    ranks : str or None
        The broker ranks to run on, as an idset; None leaves that to the scheduler.
    **about
        The other parameters of `Job`.

    Returns
    -------
    BroadcastFuture

    Raises
    ------
    BroadcastError
        If Flux refuses the job.
    """
    if not RC_FILE.is_file():
        raise UsageError(f"{RC_FILE}: there is no such file, install flux-tree again")
    if about["progress"] is not None:
        options = {**options, "progress": max(0.2, size / 256)}
    spec = flux.job.JobspecV1.from_command(
        ["true"], num_tasks=size, num_nodes=size, cwd=os.getcwd()
    )
    spec.setattr("system.job.name", "tree-bcast")
    spec.setattr_shell_option("tree-bcast", options)
    spec.setattr_shell_option("userrc", str(RC_FILE))
    if ranks is not None:
        spec.setattr("system.constraints", {"ranks": [ranks]})
    try:
        with handle.in_reactor():  # else flux-python takes Ctrl-C away from Python
            jobid = flux.job.submit(handle, spec)
    except OSError as exc:
        raise BroadcastError(f"Flux refuses the job: {exc.strerror}") from None
    return BroadcastFuture(Job(handle, jobid, size, **about))


def _cancel(handle: Any, job: Job, reason: str) -> None:
    def answer(rpc: Any) -> None:
        try:
            rpc.get()
        except OSError as exc:
            if not job.done and exc.errno != errno.ENOENT:  # it has ended meanwhile
                job.fail(BroadcastError(f"job {job.name} cannot be cancelled: {exc.strerror}"))

    flux.job.cancel_async(handle, job.jobid, reason).then(answer)


def run(handle: Any, start: Callable[[], BroadcastFuture]) -> Result:
    """Start a broadcast and wait for its end, so that a Ctrl-C at any time leaves no job behind.

    Parameters
    ----------
    handle : flux.Flux
        The instance.
    start : callable
        Returns the future.

    Returns
    -------
    Result

    Raises
    ------
    KeyboardInterrupt
        After a Ctrl-C, when the job has gone.
    """
    with held_interrupt(handle) as interrupts:
        future = start()
        try:
            future._wait(-1.0, interrupts)
        finally:
            future.job.close()
    return future.job.take()


@contextmanager
def held_interrupt(handle: Any) -> Iterator[list[Any]]:
    """Hold a Ctrl-C back until the block is over: raised in a callback from C it would be lost.

    Yields
    ------
    list
        Of what the signals brought that came meanwhile.
    """
    before = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread()
        or handle.reactor_running()
        or not callable(before)
    ):
        yield []
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])
