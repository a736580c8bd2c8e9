"""Measure, predict, compare."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from flux_tree._model.network import NETWORK_VAR
from flux_tree.calibration import calibrate_lab
from flux_tree.errors import FluxTreeError, UsageError
from flux_tree.lab import Lab
from flux_tree.model import Network
from flux_tree.units import parse_bytes, parse_rate

from . import __doc__ as about
from .compare import METHODS, choices, compare, summary, table
from .measure import ARCHIVE, AUTO, STRATEGIES, TOPOLOGIES, Kept, measure

#: Hosts of the lab in which the model is calibrated, once.
CALIBRATED_ON = 4


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
    parser.add_argument("--network", metavar="FILE", help="as calibrated before; else it is now")
    args = parser.parse_args()
    os.environ["TMPDIR"] = "/dev/shm"  # where the lab has its folder: no disk is measured
    every = [*STRATEGIES, *(ARCHIVE + topo for topo in TOPOLOGIES), AUTO]
    names = [n for n in every if any(fnmatchcase(n, p.strip()) for p in args.only.split(","))]
    if not names:
        raise UsageError(f"--only {args.only}: matches none of: {', '.join(every)}")
    rates = [parse_rate(r) for r in args.rates.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        # what "auto" reads as well
        os.environ[NETWORK_VAR] = args.network or f"{folder}/network.json"
        if not args.network:
            with Lab(CALIBRATED_ON, rates[0]) as lab:
                calibrate_lab(lab).save()
        network = Network.load()
        assert network is not None
        print(f"calibrated: {network.to_dict()}", file=sys.stderr)
        cells = measure(
            Kept(Path(args.keep) if args.keep else None),
            [int(n) for n in args.hosts.split(",")],
            rates,
            [parse_bytes(s) for s in args.sizes.split(",")],
            names,
            args.repeat,
        )
    compared = compare([c for c in cells if c.what != AUTO], network)
    for method in METHODS if compared else ():
        print(f"Measured, and how far off the {method} is:\n")
        print("\n".join([*table(compared, method), ""]))
    print("\n".join([*summary(compared), *choices(cells)]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FluxTreeError as exc:
        print(f"model: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
