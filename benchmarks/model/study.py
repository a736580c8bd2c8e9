"""The flux-distribute study's times beside what the model says of files of zeros.

    python -m benchmarks.model.study FOLDER [--bandwidth 10Gbit/s] [--load 2.04ms]

FOLDER holds the study's CSV files. Simulated are two ways to fill the files: with zeros, as the
study did, so that all blobs are equal and one travels; and with random bytes. A rank writes a blob
of zeros in `--load`, which the study's own times at 1 GB give; nothing else is fitted.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np

from flux_tree import strategies
from flux_tree.model import Network, predict
from flux_tree.topology import Topology
from flux_tree.units import parse_rate, parse_seconds

GB = 10**9
EVENT = "distribute-all-nodes"
BLOB = 1 << 20


def read(path: Path) -> dict[tuple[str, int, int], float]:
    """Return the median time of each topology, number of nodes and size in GB."""
    times = defaultdict(list)
    with path.open() as f:
        for row in csv.DictReader(f):
            if row["event"] == EVENT:
                key = (row["topology"], int(row["nodes"]), round(float(row["size_gb"])))
                times[key].append(float(row["time_seconds"]))
    return {key: statistics.median(values) for key, values in times.items()}


def simulate(topology: str, nodes: int, size: int, network: Network, zeros: bool) -> float:
    tree = Topology.from_spec(topology.replace("-", ":"), nodes)
    plan = strategies.plan("all", tree, range(1, nodes))
    count = -(-size // BLOB)
    blobs = np.zeros(count, int) if zeros else np.arange(count)
    if zeros and size % BLOB:
        blobs[-1] = 1  # the last one is shorter
    return predict(plan, size, network, transport="content", blobs=blobs, method="simulation").time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bandwidth", default="10Gbit/s", help="of a NIC")
    parser.add_argument("--load", default="2.04ms", help="what a rank takes to write a blob")
    args = parser.parse_args()
    network = Network(bandwidth=parse_rate(args.bandwidth), per_load=parse_seconds(args.load))
    for path in sorted(args.folder.glob("*.csv")):
        times = read(path)
        print(f"\n{path.name}\n{'':16}{'GB':>3}{'measured':>10}{'zeros':>9}{'random':>9}")
        for (topology, nodes, size), measured in sorted(times.items(), key=lambda x: x[0][::-1]):
            zeros, random = (
                simulate(topology, nodes, size * GB, network, z) for z in (True, False)
            )
            print(f"{topology:16}{size:3}{measured:9.2f}s{zeros:8.2f}s{random:8.2f}s")


if __name__ == "__main__":
    main()
