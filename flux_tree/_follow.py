"""A job that broadcasts, watched until it has ended: its events, its progress, its report.

Imported only where Flux's own Python bindings are there.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any, Callable

import flux.job
import numpy as np
from flux.idset import IDset
from numpy.typing import NDArray

from . import _records, _report
from ._records import Result
from .errors import BroadcastError, FluxTreeError

__all__ = ["Follower", "Job", "cancel"]

#: Seconds between two looks at a job.
POLL_S = 0.1
#: A job that has no nodes after so many seconds waits for something.
PATIENCE_S = 1.0

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


class Follower:
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
            cancel(self.handle, self.job, reason)

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


def cancel(handle: Any, job: Job, reason: str) -> None:
    """Cancel a job, without waiting for that.

    Parameters
    ----------
    handle : flux.Flux
        Whose reactor runs.
    job : Job
        The job; its error is set if it cannot be cancelled.
    reason : str
        A line for the job's eventlog.
    """

    def answer(rpc: Any) -> None:
        try:
            rpc.get()
        except OSError as exc:
            if not job.done and exc.errno != errno.ENOENT:  # it has ended meanwhile
                job.fail(BroadcastError(f"job {job.name} cannot be cancelled: {exc.strerror}"))

    flux.job.cancel_async(handle, job.jobid, reason).then(answer)
