"""Runs many schedules, and says how each of them ended."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from . import job, lab, local
from .line import Line, carry_out
from .schedule import ENGINES, Schedule


def run(engine: str, seed: int) -> Line:
    """Carry a schedule of the embedded engine out."""
    return carry_out(Schedule.of(seed, engine), (lab if engine == "lab" else local).run)


def run_many(engine: str, seeds: Iterator[int], jobs: int, end: float) -> Iterator[Line]:
    """Run schedules, with the embedded engine some at the same time, until `end` at most."""
    if engine == "job":
        yield from job.run_many(seeds, end)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=end_with_parent) as pool:
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


def end_with_parent() -> None:
    """Have this process clean up and end when the one that has started it is killed."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        while True:  # the first one ends a schedule, the next the waiting for another
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    # whoever runs this in the background may have it ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run the command line."""
    args = parse()
    if args.inside:
        job.inside()
        return
    if args.engine != "local" and os.geteuid() != 0:
        sys.exit(f"--engine {args.engine}: it makes network namespaces, which only root may")
    if args.engine == "job" and not shutil.which("flux"):
        sys.exit("--engine job: flux is not on PATH, install flux-core")
    if os.geteuid() == 0 and not shutil.which("ss"):
        sys.exit("ss is not on PATH, which resets connections: install iproute2")
    begin = time.monotonic()
    seeds = iter(range(args.seed, args.seed + args.count))
    if os.geteuid() != 0:
        seeds = (seed for seed in seeds if not Schedule.of(seed).needs_root)
    lines = []
    for line in run_many(args.engine, seeds, args.jobs, begin + args.seconds):
        print(line, flush=True)
        lines.append(line)
    failed = [line.seed for line in lines if line.complaints]
    kinds = Counter(kind for line in lines for kind in line.struck)
    print(
        f"{args.engine}: {len(lines)} schedules in {time.monotonic() - begin:.0f} s, {len(failed)}"
        f" failed{': ' if failed else ''}{' '.join(map(str, failed))}; faults:"
        f" {', '.join(f'{number} {kind}' for kind, number in kinds.most_common())}"
    )
    sys.exit(bool(failed))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Broadcast under faults that follow from a seed."
    )
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=1, help="how many, from that on")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin none after so long")
    parser.add_argument("--jobs", type=int, default=1, help="so many at the same time, if local")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()
