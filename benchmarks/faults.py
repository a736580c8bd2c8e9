"""What a fault costs: broadcasts in the lab in which a rank is killed, hangs, or is slow.

    sudo .venv/bin/python benchmarks/faults.py [--hosts 32] [--rate 100mbit] [--size 50MiB]
                                               [--timeout 20s] [--repeat 3]

Hosts are network namespaces with NICs of that rate, all files in memory, each broadcast with new
random data, in TLS, by the embedded engine with ``on_failure="continue"``. For each strategy, in
turn: undisturbed; an inner rank killed (SIGKILL) when it has half of the data; the same rank
stopped (SIGSTOP) then; and, in a lab of its own, with a NIC at a tenth. Times are when the slowest
of the other ranks had verified all, medians, as multiples of line time and of the undisturbed
time. A rank that is stopped is noticed after a tenth of the time limit, at least 1 s, and given up
after all of it; the data of the others is there by then. Every copy of the others is compared with
the source.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flux_tree.lab import Lab
from flux_tree.strategies import plan as make_plan
from flux_tree.units import parse_bytes, parse_rate, parse_seconds

STRATEGIES = ("chain", "two-tree", "kary:2", "binomial")


def inner_rank(strategy: str, hosts: int) -> int:
    """Return the rank half way down the deepest tree that has the most below it."""
    plan = make_plan(strategy, hosts)
    depth, below = plan.depths[0], [0] * hosts
    for rank in sorted(range(hosts), key=lambda r: -depth[r]):
        if rank:
            below[int(plan.parents[0][rank])] += below[rank] + 1
    middle = max(1, int(depth.max()) // 2)
    return max((r for r in range(hosts) if depth[r] == middle), key=lambda r: below[r])


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, in that order."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Strike:
    """Send a signal to a rank when it has half of the data."""

    def __init__(self, rank: int, sig: int, size: int) -> None:
        self.rank, self.sig, self.size = rank, sig, size
        self.at: float | None = None

    def __call__(self, records: Any) -> None:
        if self.at is None and records["bytes_in"][self.rank] >= self.size / 2:
            # the process of the caller starts a launcher, and that one the ranks, in their order
            launcher = children(os.getpid())[-1]
            os.kill(children(launcher)[self.rank], self.sig)
            self.at = float(records["alive"].max())


def one(
    lab: Lab,
    work: Path,
    size: int,
    strategy: str,
    strike: Strike | None,
    others: Iterable[int],
    timeout: float,
) -> tuple[float, int]:
    """Make data, broadcast and compare it; return when all others had it, and how many moved."""
    source, to = work / "source", work / "to"
    to.mkdir()
    with source.open("wb") as f:
        for start in range(0, size, 1 << 20):
            f.write(os.urandom(min(1 << 20, size - start)))
    result = lab.broadcast(
        source, f"{to}/{{rank}}", strategy, on_failure="continue", timeout=timeout, progress=strike
    )
    if strike and (strike.at is None or list(result.failures) != [strike.rank]):
        raise SystemExit(f"{strategy}: the fault did not come as meant: {result.failures}")
    others = list(others)
    for rank in others:
        subprocess.run(["cmp", source, to / str(rank)], check=True)
    shutil.rmtree(to)
    records = result.records[others]
    return float(records["verified"].max()), int(records["moves"].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=32)
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--size", default="50MiB")
    parser.add_argument("--timeout", default="20s")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    args = parser.parse_args()
    size, rate, timeout = parse_bytes(args.size), parse_rate(args.rate), parse_seconds(args.timeout)
    work = Path(tempfile.mkdtemp(prefix="flux-tree-bench-", dir="/dev/shm"))
    names = args.strategies.split(",")
    print(f"{args.hosts} hosts at {args.rate}, {args.size}, time limit {args.timeout}")
    print(
        f"{'':12}{'rank':>5}{'':10}{'others, s':>10}{'/ line':>8}{'/ undisturbed':>15}{'moves':>7}"
    )
    undisturbed: dict[str, float] = {}

    def show(name: str, rank: int, what: str, line: float, got: list[tuple[float, int]]) -> None:
        took = statistics.median(t for t, _ in got)
        undisturbed.setdefault(name, took)
        moves = statistics.median(m for _, m in got)
        print(
            f"{name:12}{rank:5}  {what:8}{took:10.2f}{took / line:8.2f}"
            f"{took / undisturbed[name]:15.2f}{moves:7.0f}",
            flush=True,
        )

    try:
        with Lab(args.hosts, rate) as lab:
            line = size / lab.goodput()
            for name in names:
                rank = inner_rank(name, args.hosts)
                others = [r for r in range(args.hosts) if r != rank]
                for what, sig in (("as usual", 0), ("killed", 9), ("stopped", int(signal.SIGSTOP))):
                    got = []
                    for _ in range(args.repeat):
                        strike = Strike(rank, sig, size) if sig else None
                        got.append(one(lab, work, size, name, strike, others, timeout))
                    show(name, rank, what, line, got)
        for name in names:
            rank = inner_rank(name, args.hosts)
            others = [r for r in range(args.hosts) if r != rank]
            with Lab(args.hosts, rate, slow={rank: rate / 10}) as lab:
                # its last byte comes ten times as late, and nobody waits for that here but once
                got = [one(lab, work, size, name, None, others, timeout)]
            show(name, rank, "slow", line, got)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
