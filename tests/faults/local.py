"""Carries a schedule out with the embedded engine, between processes of this machine."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from support import wait_gone

import flux_tree

from .judge import Outcome, judge, judge_resumed
from .place import Place, place
from .schedule import Schedule
from .strike import EngineProcesses, Processes, Striker

#: What carries a broadcast out: as `flux_tree.broadcast`.
Broadcast = Callable[..., Any]


def run(schedule: Schedule, folder: Path | None = None) -> tuple[Outcome, list[str]]:
    """Carry a schedule out and judge it.

    Parameters
    ----------
    schedule : Schedule
    folder : Path, optional
        Where to put its files.

    Returns
    -------
    outcome : Outcome
        Of the broadcast with the faults.
    complaints : list of str
        What is wrong with it, or with the one that goes on after it.
    """

    def send(*args: Any, **options: Any) -> Any:
        return flux_tree.broadcast(*args, ranks=schedule.ranks, bandwidth=1e9, **options)

    with place(schedule, folder) as where:
        return run_with(send, schedule, where)


def run_with(
    send: Broadcast,
    schedule: Schedule,
    where: Place,
    set_link: Callable[[int, bool], None] | None = None,
    processes: Callable[[], Processes] = EngineProcesses,
) -> tuple[Outcome, list[str]]:
    """Carry a schedule out with an engine, and go on after it, if it may be resumed.

    Parameters
    ----------
    send : callable
        As `flux_tree.broadcast`, with the engine and the number of ranks settled.
    schedule, where
        What, and where.
    set_link : callable, optional
        Takes a rank's cable out (False), or plugs it in again.
    processes : callable
        Called before each broadcast.

    Returns
    -------
    outcome, complaints
        As of `run`.
    """
    outcome = once(send, schedule, where, set_link, processes())
    complaints = judge(schedule, outcome)
    if schedule.resume and not complaints:
        for fault in outcome.struck:
            if fault.kind == "link" and not fault.seconds and set_link is not None:
                for rank in fault.ranks:
                    set_link(rank, True)
        complaints = resume(send, schedule, where, outcome, processes())
    return outcome, complaints


def resume(
    send: Broadcast,
    schedule: Schedule,
    where: Place,
    first: Outcome,
    processes: Processes,
) -> list[str]:
    """Run the same broadcast once more, without faults; return what is wrong."""
    where.make_room()
    partial = {rank: where.partial_bytes(rank) for rank in range(schedule.ranks)}
    again = replace(schedule, faults=(), on_failure="abort", min_ranks=None)
    outcome = once(send, again, where, None, processes)
    complaints = judge_resumed(again, outcome, first.copies, partial)
    return [f"second run: {text}" for text in complaints]


def once(
    send: Broadcast,
    schedule: Schedule,
    where: Place,
    set_link: Callable[[int, bool], None] | None,
    processes: Processes,
) -> Outcome:
    """Run one broadcast with its faults, and look at what it leaves."""
    striker = Striker(schedule, where, processes, set_link)
    striker.start()
    result, error = None, None
    begin = time.monotonic()
    with captured_stderr() as stderr:
        try:
            result = send(
                where.source, where.to / "{rank}", **options_of(schedule, where, striker.progress)
            )
        except Exception as exc:
            error = exc
        end = time.monotonic()
        striker.finish()
    alive = wait_gone(processes.all(), 5.0)
    return Outcome(
        seconds=end - begin,
        error=error,
        result=result,
        struck={fault: end - then for fault, then in striker.struck.items()},
        late=striker.late,
        alive=alive,
        stderr=stderr[0],
        missed=striker.waiting,
        sealed=striker.sealed(),
        copies=where.look(),
        temporaries=where.temporaries(),
        others=where.others(),
    )


def options_of(schedule: Schedule, where: Place, progress: Callable[[Any], None]) -> dict[str, Any]:
    """Return the parameters of `flux_tree.broadcast`, but for what and where to."""
    return {
        "strategy": schedule.strategy,
        "chunk_size": schedule.chunk_size,
        "security": schedule.security,
        "workers": schedule.workers,
        "overwrite": schedule.old,
        "timeout": schedule.timeout,
        "on_failure": schedule.on_failure,
        "min_ranks": schedule.min_ranks,
        "resume": schedule.resume,
        "fsync": schedule.fsync,
        "digest": where.digest() if schedule.digest else None,
        "progress": progress,
    }


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Catch what this process and those that it starts write to standard error."""
    text = [""]
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            text[0] = file.read().decode(errors="replace")
