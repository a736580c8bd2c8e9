"""Measure, predict, compare."""

from __future__ import annotations

import argparse
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from flux_tree.errors import FluxTreeError, UsageError
from flux_tree.units import parse_bytes, parse_rate

from . import __doc__ as about
from .measure import ARCHIVE, STRATEGIES, TOPOLOGIES, Kept, measure


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.model",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", default="8,16,32")
    parser.add_argument("--rates", default="40mbit,100mbit", help="of each NIC, each way")
    parser.add_argument("--sizes", default="8MiB,32MiB")
    parser.add_argument("--repeat", type=int, default=3, help="of cells that are not long")
    parser.add_argument("--only", default="*", help="what to measure, with * and ?, by commas")
    parser.add_argument("--keep", metavar="FILE", help="keep what is measured in this file")
    args = parser.parse_args()
    os.environ["TMPDIR"] = "/dev/shm"  # where the lab has its folder: no disk is measured
    every = [*STRATEGIES, *(ARCHIVE + topo for topo in TOPOLOGIES)]
    names = [n for n in every if any(fnmatchcase(n, p.strip()) for p in args.only.split(","))]
    if not names:
        raise UsageError(f"--only {args.only}: matches none of: {', '.join(every)}")
    kept = Kept(Path(args.keep) if args.keep else None)
    measure(
        kept,
        [int(n) for n in args.hosts.split(",")],
        [parse_rate(r) for r in args.rates.split(",")],
        [parse_bytes(s) for s in args.sizes.split(",")],
        names,
        args.repeat,
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FluxTreeError as exc:
        print(f"model: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
