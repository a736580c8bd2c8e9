"""The model where NICs differ, racks have narrow uplinks, or processors are the limit.

    sudo .venv/bin/python -m benchmarks.model.checks [--repeat 3]

Calibrates in a lab of 4 hosts at 40 Mbit/s, measures in labs of other kinds, and prints the median
and how far off simulation and closed form are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from typing import Any

from flux_tree._model.network import NETWORK_VAR
from flux_tree.calibration import calibrate_lab
from flux_tree.lab import Lab
from flux_tree.model import predict
from flux_tree.units import parse_rate

from .compare import METHODS

MBIT = parse_rate("1mbit")
MIB = 1 << 20

#: What it is, hosts, rate, size, strategies, and more of the lab.
CASES: list[tuple[str, int, float, int, list[str], dict[str, Any]]] = [
    (
        "rank 3 at a fifth of the rate",
        8,
        100 * MBIT,
        16 * MIB,
        ["chain", "two-tree", "kary:2", "binomial"],
        {"slow": {3: 20 * MBIT}},
    ),
    (
        "2 racks, uplinks of 50 Mbit/s",
        8,
        100 * MBIT,
        16 * MIB,
        ["chain", "two-tree", "kary:2", "rack:4"],
        {"racks": 2, "uplink": 50 * MBIT},
    ),
    (
        "4 racks, uplinks of 100 Mbit/s",
        16,
        100 * MBIT,
        16 * MIB,
        ["chain", "two-tree", "edst", "rack:4"],
        {"racks": 4, "uplink": 100 * MBIT},
    ),
    ("1 Gbit/s", 8, 1000 * MBIT, 256 * MIB, ["chain", "two-tree", "kary:2"], {}),
]


def measure(lab: Lab, folder: str, name: str, size: int, repeat: int) -> tuple[float, Any]:
    """Return the median time of a strategy, and its last result."""
    times = []
    for number in range(repeat):
        source = f"{folder}/source"
        with open(source, "wb") as f:
            f.write(os.urandom(size))
        to = f"{folder}/{name}-{number}-{{rank}}"
        result = lab.broadcast(source, to, name, members=range(1, lab.hosts))
        times.append(result.summary()["slowest_s"])
        for rank in range(1, lab.hosts):
            os.unlink(to.format(rank=rank))
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    os.environ["TMPDIR"] = "/dev/shm"  # where the lab has its folder: no disk is measured
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ[NETWORK_VAR] = f"{folder}/network.json"
        with Lab(4, 40 * MBIT) as lab:
            calibrate_lab(lab).save()
        for what, hosts, rate, size, names, more in CASES:
            with Lab(hosts, rate, **more) as lab:
                for name in names:
                    time, result = measure(lab, folder, name, size, args.repeat)
                    off = [
                        predict(
                            result.plan,
                            size,
                            lab.network(),
                            method=method,
                            chunk_size=result.chunk_size,
                        ).time
                        / time
                        - 1
                        for method in METHODS
                    ]
                    errors = ", ".join(f"{m} {e:+.1%}" for m, e in zip(METHODS, off))
                    print(f"{what}: {name} {time:.2f} s, {errors}", flush=True)


if __name__ == "__main__":
    main()
