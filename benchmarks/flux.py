"""Broadcasts in Flux jobs against what Flux itself has for it, in one run.

    python benchmarks/flux.py [--size 256MiB] [--brokers 8] [--repeat 3] [--topo kary:1,kary:2]

For every TBON an instance is started with so many brokers on this machine, all of their data in
memory. What is compared, repeated in turn, medians, each time with new random data, so that no
content cache knows it:
- stage-in: ``flux archive create --mmap`` and a job with ``-o stage-in``;
- extract: ``flux archive create --mmap`` and ``flux exec -r all -x 0 flux archive extract``;
- direct: a job with ``-o tree-bcast``, from the file to the files, in TLS and in the clear;
- content: a job with ``-o tree-bcast.transport=content``, of an archive that is there, which
  compares with extract without the creation of the archive.
Whole commands are timed, with the start of the job. The root makes no copy of its own where that
can be chosen.
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
from pathlib import Path

import flux_tree
from flux_tree.units import parse_bytes

RC = Path(flux_tree.__file__).parent / "shell"


def timed(*command: str) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def check(source: Path, copies: list[Path]) -> None:
    for copy in copies:
        subprocess.run(["cmp", source, copy], check=True)


class Cases:
    """The commands that are compared, in one instance."""

    def __init__(self, work: Path, brokers: int, size: int) -> None:
        self.work = work
        self.source = work / "source"
        self.size = size
        self.last = brokers - 1
        self.brokers = brokers

    def begin(self) -> None:
        (self.work / "to").mkdir()
        with self.source.open("wb") as f:
            for _ in range(self.size >> 20):
                f.write(os.urandom(1 << 20))

    def end(self) -> None:
        shutil.rmtree(self.work / "to")
        self.source.unlink()

    def create(self) -> float:
        where = str(self.source.parent)
        return timed("flux", "archive", "create", "--mmap", "-C", where, self.source.name)

    def remove(self) -> None:
        timed("flux", "archive", "remove")

    def job(self, **options: str) -> float:
        keys = [f"-otree-bcast.{k}={v}" for k, v in options.items()]
        to = f"-otree-bcast.destination={self.work}/to/{{rank}}"
        members = f"-otree-bcast.members=1-{self.last}"
        return timed("flux", "run", f"-N{self.brokers}", *keys, to, members, "true")

    def direct(self, security: str) -> dict[str, float]:
        seconds = self.job(file=str(self.source), security=security)
        check(self.source, [self.work / "to" / str(r) for r in range(1, self.brokers)])
        return {"s": seconds}

    def content(self) -> dict[str, float]:
        self.create()
        seconds = self.job(transport="content")
        self.remove()
        copies = [self.work / "to" / str(r) / "source" for r in range(1, self.brokers)]
        check(self.source, copies)
        return {"s": seconds}

    def stage_in(self) -> dict[str, float]:
        create = self.create()
        seconds = timed("flux", "run", f"-N{self.brokers}", "-ostage-in", "true")
        self.remove()
        return {"s": create + seconds, "without create": seconds}

    def extract(self) -> dict[str, float]:
        create = self.create()
        here = f"{self.work}/to/$(flux getattr rank)"
        script = f"mkdir {here} && cd {here} && flux archive extract"
        seconds = timed("flux", "exec", "-r", "all", "-x", "0", "sh", "-c", script)
        self.remove()
        return {"s": create + seconds, "without create": seconds}


def inside(args: argparse.Namespace) -> None:
    """Measure in the instance that this process was started in, and print JSON."""
    cases = Cases(Path(args.inside), args.brokers, parse_bytes(args.size))
    named = {
        "stage-in": cases.stage_in,
        "extract": cases.extract,
        "direct, tls": lambda: cases.direct("tls"),
        "direct, none": lambda: cases.direct("none"),
        "content": cases.content,
    }
    timed("flux", "run", f"-N{args.brokers}", "true")
    got: dict[str, list[dict[str, float]]] = {name: [] for name in named}
    for _ in range(args.repeat):
        for name, case in named.items():
            cases.begin()
            got[name].append(case())
            cases.end()
    medians = {
        name: {key: statistics.median(f[key] for f in figures) for key in figures[0]}
        for name, figures in got.items()
    }
    print(json.dumps(medians))


def report(topo: str, figures: dict[str, dict[str, float]]) -> None:
    best = min(figures["stage-in"]["s"], figures["extract"]["s"])
    extract = figures["extract"]["without create"]
    print(f"\n{topo:28}{'seconds':>9}  times as fast as")
    for name in ("stage-in", "extract"):
        f = figures[name]
        print(f"{'create + ' + name:28}{f['s']:9.2f}")
        print(f"{name + ' alone':28}{f['without create']:9.2f}")
    for name in ("direct, tls", "direct, none"):
        s = figures[name]["s"]
        print(f"{name:28}{s:9.2f}  {best / s:5.1f} the best of Flux's, from file to files")
    s = figures["content"]["s"]
    print(f"{'content':28}{s:9.2f}  {extract / s:5.1f} extract alone", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="256MiB")
    parser.add_argument("--brokers", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--topo", default="kary:1,kary:2,binomial,kary:32")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        inside(args)
        return
    if not shutil.which("flux"):
        sys.exit("flux is not on PATH: install flux-core to run this")
    work = Path(tempfile.mkdtemp(prefix="flux-tree-bench-", dir="/dev/shm"))
    results = {}
    try:
        for topo in args.topo.split(","):
            command = ["flux", "start", f"--test-size={args.brokers}", f"-Stbon.topo={topo}"]
            again = [sys.executable, __file__, "--inside", str(work), "--size", args.size]
            again += ["--repeat", str(args.repeat), "--brokers", str(args.brokers)]
            env = {**os.environ, "TMPDIR": str(work), "FLUX_SHELL_RC_PATH": str(RC)}
            done = subprocess.run(
                [*command, *again],
                env=env,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            results[topo] = json.loads(done.stdout.splitlines()[-1])
            report(topo, results[topo])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
