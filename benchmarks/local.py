"""A broadcast between local processes against plain copies of the same data, in one run.

    python benchmarks/local.py [--size 1GiB] [--ranks 8] [--repeat 3] [--files 100000]

What is compared, on a tmpfs, repeated in turn, medians:
- one file of random bytes to all ranks under chain and two-tree, in the clear and in TLS, against
  ranks - 1 times ``cp``, two at a time;
- a directory of many small files likewise, against one ``cp -a`` and against ranks - 1 times
  ``cp -a``, two at a time.
As many ranks receive as there are copies: the root makes none of its own here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flux_tree
from flux_tree.units import parse_bytes


def make_file(path: Path, size: int) -> None:
    with path.open("wb") as f:
        left = size
        while left > 0:
            left -= f.write(os.urandom(min(left, 1 << 22)))


def make_tree(path: Path, files: int, size: int = 1024) -> None:
    for i in range(0, files, 1000):
        d = path / f"d{i // 1000:04}"
        d.mkdir(parents=True)
        for j in range(i, min(i + 1000, files)):
            (d / f"f{j:06}").write_bytes(os.urandom(size))


def copies(source: Path, to: Path, count: int) -> float:
    """Seconds that `count` copies take, two at a time."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(subprocess.run, ["cp", "-a", source, to / str(i)], check=True)
            for i in range(count)
        ]
        for job in jobs:
            job.result()
    return time.perf_counter() - begin


def measure(
    work: Path, cases: dict[str, Callable[[Path], dict[str, float]]], repeat: int
) -> dict[str, dict[str, float]]:
    """Run all cases in turn, `repeat` times; return the median of each figure."""
    got: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(repeat):
        for name, case in cases.items():
            to = work / "to"
            to.mkdir()
            got[name].append(case(to))
            shutil.rmtree(to)
    return {
        name: {key: statistics.median(f[key] for f in figures) for key in figures[0]}
        for name, figures in got.items()
    }


def broadcast(source: Path, ranks: int, strategy: str, security: str) -> Callable:
    def case(to: Path) -> dict[str, float]:
        begin = time.perf_counter()
        result = flux_tree.broadcast(
            source,
            to / "{rank}",
            strategy,
            ranks=ranks,
            members=range(1, ranks),
            security=security,
            bandwidth=1e9,
        )
        seconds = time.perf_counter() - begin
        summary = result.summary()
        return {"s": seconds, "cpu_s": summary["cpu_s"], "memory": summary["memory"]}

    return case


def report(title: str, figures: dict[str, dict[str, float]], base: str) -> None:
    print(f"\n{title}\n{'':28}{'seconds':>9}{'ratio':>8}{'cpu s':>8}{'MiB/rank':>10}")
    for name, f in figures.items():
        ratio = f["s"] / figures[base]["s"]
        cpu = f"{f['cpu_s']:8.2f}" if "cpu_s" in f else " " * 8
        memory = f"{f['memory'] / 2**20:10.1f}" if "memory" in f else ""
        print(f"{name:28}{f['s']:9.3f}{ratio:8.2f}{cpu}{memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1GiB", help="of the one file (0: leave it out)")
    parser.add_argument("--files", type=int, default=100_000, help="of 1 KiB (0: leave it out)")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--strategies", default="chain,two-tree")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    n = args.ranks
    strategies = args.strategies.split(",")
    work = Path(tempfile.mkdtemp(prefix="flux-tree-bench-", dir="/dev/shm"))
    results = {}
    try:
        if parse_bytes(args.size):
            source = work / "file"
            make_file(source, parse_bytes(args.size))
            base = f"{n - 1} x cp, two at a time"
            cases = {base: lambda to: {"s": copies(source, to, n - 1)}}
            for strategy in strategies:
                for security in ("none", "tls"):
                    cases[f"{strategy}, {security}"] = broadcast(source, n, strategy, security)
            results["file"] = measure(work, cases, args.repeat)
            report(f"{args.size} to {n} ranks", results["file"], base)
            source.unlink()
        if args.files:
            tree = work / "tree"
            make_tree(tree, args.files)
            cases = {
                "1 x cp -a": lambda to: {"s": copies(tree, to, 1)},
                f"{n - 1} x cp -a, two at a time": lambda to: {"s": copies(tree, to, n - 1)},
            }
            for strategy in strategies:
                cases[f"{strategy}, tls"] = broadcast(tree, n, strategy, "tls")
            results["tree"] = measure(work, cases, args.repeat)
            report(f"{args.files} files of 1 KiB to {n} ranks", results["tree"], "1 x cp -a")
    finally:
        shutil.rmtree(work)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
