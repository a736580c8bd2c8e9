"""Runs many schedules, and says how each of them ended."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Callable

from . import lab, local
from .judge import Outcome
from .schedule import ENGINES, Schedule


@dataclass(frozen=True)
class Line:
    """What is said of one schedule."""

    engine: str
    seed: int
    seconds: float
    shape: str
    faults: str
    outcome: str
    complaints: tuple[str, ...]

    def __str__(self) -> str:
        how = "FAILED" if self.complaints else "ok"
        text = f"{self.engine} {self.seed} [{self.shape}] {self.faults} -> {self.outcome} "
        text += f"({self.seconds:.1f} s) {how}"
        for complaint in self.complaints:
            text += f"\n    {complaint}"
        if self.complaints:
            text += f"\n    again: python -m tests.faults --engine {self.engine} --seed {self.seed}"
        return text


def run(engine: str, seed: int) -> Line:
    """Carry a schedule of the embedded engine out."""
    return carry_out(Schedule.of(seed, engine), (lab if engine == "lab" else local).run)


def carry_out(schedule: Schedule, run: Callable[[Schedule], tuple[Outcome, list[str]]]) -> Line:
    """Carry a schedule out; say how it ended."""
    begin = time.monotonic()
    try:
        outcome, complaints = run(schedule)
    except Exception:  # of what is here, not of what is tested: the others are run all the same
        outcome, complaints = None, [traceback.format_exc()]
    return line_of(schedule, time.monotonic() - begin, outcome, complaints)


def line_of(
    schedule: Schedule, seconds: float, outcome: Outcome | None, complaints: list[str]
) -> Line:
    """Return what is to be said of a schedule."""
    missed = set(outcome.missed) if outcome else set()
    faults = [f"{f}{' (missed)' if f in missed else ''}" for f in schedule.faults]
    return Line(
        schedule.engine,
        schedule.seed,
        seconds,
        schedule.shape,
        "; ".join(faults),
        str(outcome or "none"),
        tuple(complaints),
    )


def run_many(engine: str, seeds: Iterator[int], jobs: int, end: float) -> Iterator[Line]:
    """Run schedules of the embedded engine, some at the same time, until `end` at most."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        waiting: set[Future[Line]] = set()
        more = True
        while waiting or more:
            while more and len(waiting) < jobs:
                seed = next(seeds, None) if time.monotonic() < end else None
                if seed is None:
                    more = False
                else:
                    waiting.add(pool.submit(run, engine, seed))
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Broadcast under faults that follow from a seed."
    )
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin none after so long")
    parser.add_argument("--jobs", type=int, default=1, help="so many at the same time")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    from . import job  # it needs this module

    if args.inside:
        job.inside()
        return
    end = time.monotonic() + args.seconds
    begin = time.monotonic()
    seeds = iter(range(args.seed, args.seed + args.count))
    if args.engine == "local" and os.geteuid() != 0:
        seeds = (seed for seed in seeds if not Schedule.of(seed).needs_root)
    count: Counter[bool] = Counter()
    failed = []
    lines = (
        job.run_many(seeds, end)
        if args.engine == "job"
        else run_many(args.engine, seeds, args.jobs, end)
    )
    for line in lines:
        print(line, flush=True)
        count[bool(line.complaints)] += 1
        if line.complaints:
            failed.append(line.seed)
    print(
        f"{args.engine}: {sum(count.values())} schedules in {time.monotonic() - begin:.0f} s,"
        f" {count[True]} failed{': ' if failed else ''}{' '.join(map(str, sorted(failed)))}"
    )
    sys.exit(bool(failed))
