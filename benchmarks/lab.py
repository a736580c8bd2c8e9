"""Broadcasts in the lab against line time: the embedded engine and jobs of Flux.

    sudo .venv/bin/python benchmarks/lab.py [--hosts 32] [--rate 100mbit] [--size 100MiB]
                                            [--strategies chain,two-tree] [--repeat 3]

Hosts are network namespaces with NICs of that rate, all files in memory, each broadcast with new
random data, in TLS. Line time is the size over what one TCP stream moves between two hosts. Each
figure is the median of the slowest rank's time until it had verified all. Rank 0 makes a copy too.
Every copy is compared with the source. `busy` is the share of time that the machine's processors
were busy during a broadcast, with whatever; where it is near 100 % they are the limit.
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
from pathlib import Path
from typing import Any, Callable

from flux_tree.lab import Lab
from flux_tree.units import format_bytes, parse_bytes, parse_rate

HERE = Path(__file__).resolve()


def times() -> tuple[int, int]:
    user, nice, system, idle, wait, irq, soft, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    busy = user + nice + system + irq + soft + steal
    return busy, busy + idle + wait


def one(work: Path, hosts: int, size: int, send: Callable[[Path, str], Any]) -> dict[str, float]:
    """Make data, broadcast it, compare it, and return what was measured."""
    source, to = work / "source", work / "to"
    to.mkdir()
    with source.open("wb") as f:
        for start in range(0, size, 1 << 20):
            f.write(os.urandom(min(1 << 20, size - start)))
    busy, total = times()
    summary = send(source, f"{to}/{{rank}}")
    busy, total = times()[0] - busy, times()[1] - total
    for rank in range(hosts):
        subprocess.run(["cmp", source, to / str(rank)], check=True)
    shutil.rmtree(to)
    keys = ("slowest_s", "cpu_s", "memory", "chunk_size")
    return {**{key: summary[key] for key in keys}, "busy": busy / total}


def measure(args: argparse.Namespace, work: Path, send: Callable[..., Any]) -> dict[str, Any]:
    """Return the medians of each strategy."""
    names = args.strategies.split(",")
    got: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(args.repeat):
        for name in names:
            done = one(work, args.hosts, parse_bytes(args.size), lambda s, d, n=name: send(s, d, n))
            got[name].append(done)
    return {
        name: {key: statistics.median(g[key] for g in runs) for key in runs[0]}
        for name, runs in got.items()
    }


def inside(args: argparse.Namespace) -> None:
    """Measure jobs, as the initial program of the instance in the lab."""

    def send(source: Path, to: str, name: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "flux_tree", "bcast", str(source), to]
        command += ["--strategy", name, "--quiet", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        summary: dict[str, Any] = json.loads(done.stdout)["summary"]
        return summary

    print(json.dumps(measure(args, Path(args.inside), send)))


def report(engine: str, figures: dict[str, Any], line: float) -> None:
    for name, f in figures.items():
        print(
            f"{engine:10}{name:12}{f['slowest_s']:8.2f} s {f['slowest_s'] / line:7.3f}"
            f"{f['busy']:9.0%}{f['cpu_s']:8.1f}{format_bytes(f['memory']):>11}"
            f"{format_bytes(f['chunk_size']):>9}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=32)
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--size", default="100MiB")
    parser.add_argument("--strategies", default="chain,two-tree")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        inside(args)
        return
    work = Path(tempfile.mkdtemp(prefix="flux-tree-bench-", dir="/dev/shm"))
    try:
        with Lab(args.hosts, parse_rate(args.rate)) as lab:
            line = parse_bytes(args.size) / lab.goodput()
            print(f"{args.hosts} hosts at {args.rate}, {args.size}: line time {line:.2f} s")
            print(f"{'':32} / line     busy   cpu s     memory    chunk")

            def send(source: Path, to: str, name: str) -> dict[str, Any]:
                return lab.broadcast(source, to, name).summary()

            report("embedded", measure(args, work, send), line)
            if shutil.which("flux"):
                options = [f"--{k}={getattr(args, k)}" for k in ("hosts", "size", "strategies")]
                options += [f"--repeat={args.repeat}", f"--inside={work}"]
                job = lab.flux([sys.executable, str(HERE), *options], stdout=subprocess.PIPE)
                text = job.communicate()[0]
                if job.returncode:
                    sys.exit(job.returncode)
                report("job", json.loads(text.splitlines()[-1]), line)
            else:
                print("flux is not on PATH: no jobs")
            used = lab.usage()
        print(f"memory of the machine, with the copies: {format_bytes(used['memory'])} at most")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
