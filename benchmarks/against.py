"""Two versions of flux-tree in turn: is the newer one as fast as the older one was?

    python benchmarks/against.py OTHER [--size 512MiB] [--ranks 8] [--repeat 9]
    sudo python benchmarks/against.py OTHER --hosts 32 [--rate 100mbit] [--size 50MiB] [--repeat 3]

OTHER is the flux-tree program of the other version, .venv/bin/flux-tree in a clone of it in which
`make all` was run. Both broadcast the same new random data, in memory, in turn: between processes
of this machine, where processors are the limit, or between hosts of a lab, where NICs are. Figures
are medians: of the slowest rank's time, of the processor time of all ranks, which other programs
disturb less, and of the ratios of each turn.
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

from flux_tree.units import parse_bytes

OWN = Path(sys.executable).with_name("flux-tree")
CASES = [(s, e) for s in ("chain", "two-tree") for e in ("tls", "none")]


def measure(program: str | Path, how: list[str], work: Path) -> tuple[float, float]:
    to = work / "to"
    to.mkdir()
    command = [str(program), *how, str(work / "source"), f"{to}/{{rank}}", "--quiet", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(to)
    summary = json.loads(done.stdout)["summary"]
    return float(summary["slowest_s"]), float(summary["cpu_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other")
    parser.add_argument("--hosts", type=int)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--size", default="512MiB")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--with", dest="options", default="", help="options of this version only")
    args = parser.parse_args()
    if args.hosts:
        how = ["lab", "--hosts", str(args.hosts), "--rate", args.rate, "bcast"]
    else:
        how = ["bcast", "--local", "--ranks", str(args.ranks)]
    work = Path(tempfile.mkdtemp(prefix="flux-tree-bench-", dir="/dev/shm"))
    print(f"{' '.join(how)}, {args.size}, {args.repeat} times {args.options}")
    heads = ("other, s", "this, s", "ratio", "other cpu", "this cpu", "ratio")
    print(f"{'':18}" + "".join(f"{head:>10}" for head in heads))
    try:
        for strategy, security in CASES:
            done: list[dict[object, tuple[float, float]]] = []
            for turn in range(args.repeat):
                with (work / "source").open("wb") as f:
                    for start in range(0, parse_bytes(args.size), 1 << 20):
                        f.write(os.urandom(min(1 << 20, parse_bytes(args.size) - start)))
                which = [*how, "--strategy", strategy, "--security", security]
                own = [*which, *args.options.split()]
                # who goes first changes from turn to turn
                pair = [(args.other, which), (OWN, own)]
                done.append({p: measure(p, h, work) for p, h in (pair if turn % 2 else pair[::-1])})
            columns = []
            for i, places in ((0, 3), (1, 2)):
                other = [d[args.other][i] for d in done]
                this = [d[OWN][i] for d in done]
                ratios = [b / a for a, b in zip(other, this)]
                columns += [f"{statistics.median(v):10.{places}f}" for v in (other, this)]
                columns.append(f"{statistics.median(ratios):10.3f}")
            print(f"{strategy}, {security:6}".ljust(18) + "".join(columns), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
