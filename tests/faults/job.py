"""Carries schedules out as jobs of Flux, in an instance in a lab.

A program inside the instance, on the first host, starts the jobs and strikes at their shells. It
asks whoever made the lab for cables to be taken out, by lines on its standard output.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import flux_tree
from flux_tree.lab import Lab

from .line import Line, carry_out
from .local import run_with
from .place import place
from .schedule import JOB_HOSTS, JOB_RATE, Schedule
from .strike import command

ROOT = Path(__file__).resolve().parent.parent.parent
LOOK_S = 0.02


def run_many(seeds: Iterator[int], end: float) -> Iterator[Line]:
    """Run schedules as jobs, one after another, until `end` at most."""
    program = [sys.executable, "-m", "tests.faults", "--inside"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with Lab(JOB_HOSTS, JOB_RATE) as lab:
        process = lab.flux(program, topo="kary:2", cwd=ROOT, **pipes)
        for seed in seeds:
            if time.monotonic() > end:
                break
            process.stdin.write(f"{seed}\n")
            process.stdin.flush()
            line = _serve(lab, process)
            if line is None:
                why = ("the instance has ended",)
                yield Line("job", seed, 0.0, "", "", "none", (), why)
                return
            yield line
        process.stdin.close()
        process.wait()


def _serve(lab: Lab, process: subprocess.Popen[str]) -> Line | None:
    """Do what is asked for, until a schedule is over."""
    for text in process.stdout:
        asked = json.loads(text)
        if "link" in asked:
            lab.set_link(*asked["link"])
        else:
            return Line(**asked)
    return None


def inside() -> None:
    """Run, inside the instance, the schedules whose seeds come on standard input."""
    import flux

    handle = flux.Flux()
    for text in sys.stdin:
        line = carry_out(Schedule.of(int(text), "job"), lambda s: _run(handle, s))
        _say(asdict(line))


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _run(handle: Any, schedule: Schedule) -> Any:
    shells = []

    def processes() -> Shells:
        shells.append(Shells(schedule))
        return shells[-1]

    def send(*args: Any, **options: Any) -> Any:
        future = flux_tree.broadcast_async(*args, handle=handle, nodes=schedule.ranks, **options)
        with shells[-1].of(future.get_jobid()):
            return future.get_result()

    with place(schedule) as where:
        return run_with(
            send, schedule, where, lambda host, up: _say({"link": [host, up]}), processes
        )


class Shells:
    """The shells of a job, on the first hosts of the lab, one on each.

    Attributes
    ----------
    stopped : set of int
        Processes that were stopped for good: killed as soon as the job has its exception, since
        Flux itself waits for them much longer.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.stopped: set[int] = set()
        self._job: Any = None
        self._found: dict[int, int] = {}
        self._looked = 0.0
        self._over = threading.Event()

    def of(self, job: Any) -> Shells:
        """Say which job it is."""
        self._job = job
        return self

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._end_stopped)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def find(self) -> dict[int, int]:
        if self._job is not None and time.monotonic() > self._looked + LOOK_S:
            self._looked = time.monotonic()
            self._found.update(_shells(int(self._job)))
        return self._found

    def all(self) -> list[int]:
        return list(self._found.values())

    def kill(self) -> None:
        for pid in self.all():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _end_stopped(self) -> None:
        command = ["flux", "job", "wait-event", "--match-context=severity=0"]
        command += [str(self._job.f58), "exception"]
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        since = None
        while not self._over.wait(0.05):
            if self.stopped and since is None:
                since = time.monotonic()
            # stopped after the broadcast it hangs as any job would, and nobody says so
            too_long = since is not None and time.monotonic() > since + self.schedule.timeout + 10
            if self.stopped and (waiting.poll() is not None or too_long):
                while self.stopped:
                    os.kill(self.stopped.pop(), signal.SIGKILL)
        waiting.kill()
        waiting.wait()


def _shells(job: int) -> dict[int, int]:
    """Return the shells of a job by the rank of their broker."""
    found = {}
    for entry in Path("/proc").iterdir():
        words = command(int(entry.name)).split(b"\0") if entry.name.isdigit() else []
        if os.path.basename(words[0] if words else b"") != b"flux-shell":
            continue
        if words[1:2] != [str(job).encode()]:
            continue
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            rundir = re.search(rb"-Srundir=[^\0]*/(\d+)\0", command(parent))
            if rundir:
                found[int(rundir[1])] = int(entry.name)
    return found
