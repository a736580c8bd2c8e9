"""A broadcast as a job of Flux: submitted, and a future of flux-python for its end.

Imported only where Flux's own Python bindings are there.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable

import flux.job
from flux.future import FutureExt

from ._follow import Follower, Job, cancel
from ._records import Result
from .errors import BroadcastError, UsageError

__all__ = ["BroadcastFuture", "run", "submit"]

#: What makes the shells of a job load the plugin.
RC_FILE = Path(__file__).resolve().parent / "shell" / "tree-bcast.lua"


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
        self._follower: Follower | None = None

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
        cancel(self.job.handle, self.job, reason)

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
        self._follower = Follower(self.get_flux(), self.job, self._end, self._look)

    def _end(self) -> None:
        if not super().is_ready():
            self.fulfill()

    def _look(self, handle: Any) -> None:
        """See to a Ctrl-C, which Python reports only while it runs itself."""
        if self._interrupts and not self._cancel_if_interrupted:
            handle.reactor_stop()
        elif self._interrupts and self._follower is not None:
            self._follower.cancel("interrupted")


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
    if options.get("on-failure") == "continue":
        # else Flux ends the job some time after it has lost a shell, while data still moves
        spec.setattr_shell_option("exit-timeout", "none")
    if ranks is not None:
        spec.setattr("system.constraints", {"ranks": [ranks]})
    try:
        with handle.in_reactor():  # else flux-python takes Ctrl-C away from Python
            jobid = flux.job.submit(handle, spec)
    except OSError as exc:
        raise BroadcastError(f"Flux refuses the job: {exc.strerror}") from None
    return BroadcastFuture(Job(handle, jobid, size, **about))


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
