"""One driver as the run sees it: asked for a cell at a time, and ended whatever it does."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

from ..errors import FluxTreeError
from ..units import format_seconds

__all__ = ["Driver", "DriverError"]

POLL_S = 0.2
#: How long a driver has to end after SIGTERM.
END_S = 15.0


class DriverError(FluxTreeError):
    """A driver did not answer, or is no more."""


class Driver:
    """A driver.

    Parameters
    ----------
    process : subprocess.Popen
        From `Backend.start`.
    log : Path
        What it writes to standard error.
    look : callable
        Called some times a second while it is waited for; what it raises ends that.
    end_limit : float, default 15
        How long it has to end by itself, seconds.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        look: Callable[[], None],
        end_limit: float = END_S,
    ) -> None:
        self._process = process
        self._log = log
        self._look = look
        self._end_limit = end_limit
        self._text = b""

    def hello(self, limit: float) -> dict[str, Any]:
        """Wait until it is ready.

        Parameters
        ----------
        limit : float
            Seconds.

        Returns
        -------
        dict
            What it said of itself.

        Raises
        ------
        DriverError
            If it does not get ready.
        """
        answer = self._answer(limit)
        if "error" in answer:
            raise DriverError(str(answer["error"]))
        return answer

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """Have it run a cell.

        Parameters
        ----------
        request : dict
            The cell.
        limit : float
            Seconds.

        Returns
        -------
        dict
            What it measured.

        Raises
        ------
        DriverError
            If no answer comes.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its answer tells
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer(limit)

    def end(self) -> bool:
        """End it.

        Returns
        -------
        bool
            It ended by itself, and took all that belongs to it along.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        by_itself = _has_ended(process.pid, self._end_limit)
        if not by_itself:
            process.terminate()
            _has_ended(process.pid, END_S)
        # not waited for yet, so that no other process has its number
        _kill_session(process.pid)
        process.wait()
        return by_itself

    def _answer(self, limit: float) -> dict[str, Any]:
        """Wait for a line."""
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + limit
        while b"\n" not in self._text:
            self._look()
            if time.monotonic() > deadline:
                raise DriverError(f"no answer within {format_seconds(limit)}")
            if not select.select([stdout], [], [], POLL_S)[0]:
                continue
            part = os.read(stdout.fileno(), 1 << 16)
            if not part:
                time.sleep(POLL_S)  # a signal that has ended it may be on its way to us, too
                self._look()
                raise DriverError(f"it ended before its time: {self._last_words()}")
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DriverError(f"its answer is none: {line[:200].decode(errors='replace')!r}")
        return answer

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        said = [line.strip() for line in lines if line.strip()]
        # flux start ends with which broker had which exit code, and what went wrong is above
        told = [line for line in said if not line.startswith("flux-start: ")] or said
        return told[-1][:300] if told else "it said nothing"


def _has_ended(pid: int, seconds: float) -> bool:
    """Wait for the end of a child, without taking its exit code."""
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _kill_session(session: int) -> None:
    """Kill every process of a session that is left."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                os.kill(int(entry.name), signal.SIGKILL)
