"""What a registry has, to all ranks: against pulling it alone, and broadcasting it alone.

    python benchmarks/registry.py [--size 1GB] [--ranks 8] [--repeat 3] [--strategy two-tree]

Needs Debian's docker-registry, on PATH or unpacked in .venv/registry. oras pushes new random data
to one on the loopback interface, in memory. Then, in turn, medians of the whole time from the call:
- curl: the blob, into sha256sum, if curl is there;
- pull: as rank 0 does, streamed and verified, and thrown away;
- broadcast: the same data from a file to all ranks;
- both: from the registry to all ranks.
The ratio is that of the last one to the longer one of pull and broadcast.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from registry_support import find_registry, push, registry

import flux_tree
from flux_tree._registry import open_feed
from flux_tree.units import parse_bytes


def timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def pull(reference: str) -> None:
    """Read all frames; the digest is checked by who sends them."""
    with open_feed(reference, 60.0) as feed:
        buffer = bytearray(1 << 20)
        last = b""
        while n := os.readv(feed.fd, [buffer]):
            last = (last + bytes(buffer[max(0, n - 8) : n]))[-8:]
    if last[:4] != (3).to_bytes(4, "little"):
        raise SystemExit("the pull did not come to its end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_bytes, default=10**9)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--strategy", default="two-tree")
    args = parser.parse_args()
    if find_registry() is None:
        raise SystemExit("docker-registry is neither on PATH nor in .venv/registry")
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        work = Path(name)
        source = work / "source" / "data"
        source.parent.mkdir()
        digest = hashlib.sha256()
        with source.open("wb") as f:
            for _ in range(args.size >> 20):
                piece = os.urandom(1 << 20)
                digest.update(piece)
                f.write(piece)
        (work / "registry").mkdir()
        with registry(work / "registry") as host:
            push(host, "bench/data:v1", [source])
            reference = f"oci+http://{host}/bench/data:v1"
            url = f"http://{host}/v2/bench/data/blobs/sha256:{digest.hexdigest()}"
            curl = f"curl -sf {url} | sha256sum >/dev/null"

            def broadcast(what: str) -> Callable[[], object]:
                def run() -> None:
                    flux_tree.broadcast(what, work / "to-{rank}", args.strategy, ranks=args.ranks)

                return run

            cases: dict[str, Callable[[], object]] = {
                "pull": lambda: pull(reference),
                "broadcast": broadcast(str(source.parent)),
                "both": broadcast(reference),
            }
            if shutil.which("curl"):
                cases["curl"] = lambda: subprocess.run(curl, shell=True, check=True)
            times: dict[str, list[float]] = {case: [] for case in cases}
            for _ in range(args.repeat):
                for case, action in cases.items():
                    times[case].append(timed(action))
                    for rank in range(args.ranks):
                        to = work / f"to-{rank}"
                        if to.exists() and case == "both":
                            assert (to / "data").stat().st_size == source.stat().st_size
                        shutil.rmtree(to, ignore_errors=True)
    medians = {case: statistics.median(values) for case, values in times.items()}
    for case, value in medians.items():
        print(f"{case:10} {value:6.2f} s   {args.size / value / 1e6:6.0f} MB/s")
    print(f"ratio      {medians['both'] / max(medians['pull'], medians['broadcast']):6.2f}")


if __name__ == "__main__":
    main()
