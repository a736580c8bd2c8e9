"""What a blob costs the brokers of Flux, from extractions of small archives on one rank.

Everything here is done by commands of Flux, and nothing but Python's own library is imported: in a
lab this is the initial program of an instance (`main`).
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .errors import FluxTreeError

__all__ = ["BrokerCosts", "BrokerTimes", "broker_costs", "extraction_times", "main"]

REPEAT = 3
#: What `flux archive` cuts large files into, and the size of each of the small ones, bytes.
LARGE, SMALL = 1 << 20, 64 << 10
#: Seconds on the NIC, and least and most blobs, of the archive with large ones.
EXTRACT_S, BLOBS_LEAST, BLOBS_MOST = 0.3, 3, 16

#: Extracts each archive as often as asked, the first time with nothing of it in the broker's cache,
#: and writes the nanoseconds that each took. Its folder is the broker's own, and goes with it.
SCRIPT = """
work=$(flux getattr rundir)/$1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work" || exit 1
extract() {
    mkdir "$work/to" && begin=$(date +%s%N) &&
        flux archive extract --name "$1" --directory "$work/to" && end=$(date +%s%N) &&
        rm -rf "$work/to" && echo $((end - begin)) || exit 1
}
for i in $(seq "$2"); do
    flux content dropcache || exit 1
    extract "$1-tiny"
    for kind in large small; do
        extract "$1-$kind" && extract "$1-$kind"
    done
done
"""
CLEAN = 'rm -rf "$(flux getattr rundir)/$1"'


class BrokerTimes(NamedTuple):
    """What extractions took, seconds: medians.

    Attributes
    ----------
    tiny : float
        Of an archive without any blob.
    load : float
        A blob of 1 MiB that is in the cache of the rank's own broker.
    large, small : float
        A blob of 1 MiB, and one of 64 KiB, that the broker gets from its parent: what that takes
        longer.
    """

    tiny: float
    load: float
    large: float
    small: float


class BrokerCosts(NamedTuple):
    """What the model knows of brokers, as the fields of `Network` of these names."""

    per_blob: float
    broker: float | None
    per_load: float
    extract_start: float


def broker_costs(times: BrokerTimes, bandwidth: float, latency: float) -> BrokerCosts:
    """Return what the model knows of brokers.

    A blob of s bytes comes after 2 x latency + s / bandwidth + per_blob + s / broker: two sizes
    give the two.

    Parameters
    ----------
    times : BrokerTimes
        What was measured.
    bandwidth : float
        Of one NIC, bytes per second.
    latency : float
        One way, seconds.

    Returns
    -------
    BrokerCosts
    """
    large = times.large - 2 * latency - LARGE / bandwidth
    small = times.small - 2 * latency - SMALL / bandwidth
    per_byte = (large - small) / (LARGE - SMALL)
    per_blob = large - per_byte * LARGE
    if per_blob < 0:  # too little to be seen: then it is all by the byte, and the other way round
        per_blob, per_byte = 0.0, large / LARGE
    elif per_byte < 0:
        per_blob, per_byte = large, 0.0
    return BrokerCosts(
        per_blob=max(0.0, per_blob),
        broker=1 / per_byte if per_byte > 0 else None,
        per_load=max(0.0, times.load),
        extract_start=times.tiny,
    )


def extraction_times(rank: int, bandwidth: float, env: Mapping[str, str]) -> BrokerTimes:
    """Measure extractions on one rank.

    Parameters
    ----------
    rank : int
        A broker whose parent is that of rank 0.
    bandwidth : float
        Of one NIC, bytes per second: how much data is worth its time.
    env : mapping of str to str
        With the FLUX_URI of the instance.

    Returns
    -------
    BrokerTimes

    Raises
    ------
    FluxTreeError
        If a command of Flux fails, as for users who do not own the instance.
    """
    name = f"flux-tree-calibrate-{secrets.token_hex(8)}"
    blobs = int(min(max(bandwidth * EXTRACT_S / LARGE, BLOBS_LEAST), BLOBS_MOST))
    pieces = blobs * LARGE // SMALL
    there = ("exec", "-r", str(rank), "sh", "-c")
    made: list[str] = []
    with tempfile.TemporaryDirectory(prefix="flux-tree-calibrate-") as folder:
        _write_files(Path(folder), blobs, pieces)
        # mapped files are read where they are, but only by the broker of rank 0
        how = ["--mmap"] if _flux(env, "getattr", "rank").strip() == "0" else []
        try:
            for kind in ("tiny", "large", "small"):
                made.append(f"{name}-{kind}")
                _flux(env, "archive", "create", *how, "-n", made[-1], "-C", folder, kind)
            text = _flux(env, *there, SCRIPT, "sh", name, str(REPEAT))
        finally:
            for archive in made:
                with suppress(FluxTreeError):
                    _flux(env, "archive", "remove", "-n", archive)
            with suppress(FluxTreeError):
                _flux(env, *there, CLEAN, "sh", name)
    tiny, cold, warm, cold_small, warm_small = zip(*_rounds(text))
    start = statistics.median(tiny)
    return BrokerTimes(
        tiny=start,
        load=(statistics.median(warm) - start) / blobs,
        large=statistics.median(a - b for a, b in zip(cold, warm)) / blobs,
        small=statistics.median(a - b for a, b in zip(cold_small, warm_small)) / pieces,
    )


def main(argument: str) -> None:
    """Measure as the initial program of an instance, and write the times.

    Parameters
    ----------
    argument : str
        The bandwidth, bytes per second.
    """
    try:
        print(json.dumps(extraction_times(1, float(argument), os.environ)))
    except FluxTreeError as exc:
        sys.exit(str(exc))


def _write_files(folder: Path, blobs: int, pieces: int) -> None:
    """Write a file without blobs, one of large blobs, and many of a small blob each."""
    (folder / "tiny").write_text("tiny\n")
    (folder / "large").write_bytes(os.urandom(blobs * LARGE))
    (folder / "small").mkdir()
    for i in range(pieces):
        (folder / "small" / str(i)).write_bytes(os.urandom(SMALL))


def _rounds(text: str) -> list[list[float]]:
    """Return the seconds of each round of the script."""
    numbers = [int(word) / 1e9 for word in text.split()]
    if len(numbers) != 5 * REPEAT:
        raise FluxTreeError(f"brokers: {len(numbers)} extractions, not {5 * REPEAT}")
    return [numbers[i : i + 5] for i in range(0, len(numbers), 5)]


def _flux(env: Mapping[str, str], *args: str) -> str:
    """Run a command of Flux; return what it printed."""
    from ._flux import flux_command

    command = flux_command()
    if command is None:
        raise FluxTreeError("the command 'flux' is not on PATH: set PATH to where Flux is")
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    run = subprocess.run([command, *args], env=dict(env), check=False, **options)
    if run.returncode:
        said = run.stderr.strip().splitlines()[-1:] or [f"exit code {run.returncode}"]
        raise FluxTreeError(f"brokers: flux {args[0]}: {said[0]}")
    return run.stdout
