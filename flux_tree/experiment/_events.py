"""What a cell consists of: the study's events over the content cache, a broadcast, or pings.

The events are those of the flux-distribute study: `flux archive create`, `flux exec ... flux
archive extract`, removing the copies, `flux archive remove`, each timed as a whole. All ranks may
share one file system, so each works in a folder of its own.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BroadcastError, FluxTreeError
from ..units import format_idset
from ._cells import Cell

if TYPE_CHECKING:
    from ._inside import Place

__all__ = ["PAYLOAD", "run", "tidy"]

PAYLOAD = "payload"
PIECE = 1 << 20

#: What the study's events call who gets the data.
AUDIENCE = {"leaves": "leaf-nodes", "middle-leaves": "middle-nodes"}
PING_TIME = re.compile(r" time=([0-9.]+) ms")


def run(cell: Cell, place: Place, folder: Path, seed: int, measured: dict[str, Any]) -> None:
    """Run a cell.

    Parameters
    ----------
    cell : Cell
        Which.
    place : Place
        Where.
    folder : Path
        For its data: on each rank.
    seed : int
        Of its data.
    measured : dict
        Its lists ``events``, ``records`` and ``pings`` are filled, as far as it gets.

    Raises
    ------
    FluxTreeError
        If it fails.
    """
    if cell.transport == "ping":
        _ping(cell, place, measured)
        return
    source = folder / "source" / PAYLOAD
    source.parent.mkdir(parents=True)
    digest = write_payload(source, cell.bytes, None if cell.data == "zeros" else seed)
    _make_folders(place, folder)
    if cell.transport == "content":
        _content(cell, place, folder, digest, measured)
    else:
        _direct(cell, place, folder, digest, measured)


def tidy(place: Place, folder: Path) -> None:
    """Remove what a cell may have left, on every rank.

    Parameters
    ----------
    place : Place
        Where it was run.
    folder : Path
        Its folder.
    """
    if place.flux and folder.exists():
        with suppress(FluxTreeError):
            place.command(_on("all", f"rm -rf {shlex.quote(str(folder))}"))
    shutil.rmtree(folder, ignore_errors=True)


def write_payload(path: Path, size: int, seed: int | None) -> str:
    """Write the data of a cell.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Bytes.
    seed : int or None
        The data is random and follows from it; None for zeros.

    Returns
    -------
    str
        Its SHA-256.
    """
    generator = None if seed is None else np.random.default_rng(seed)
    digest = hashlib.sha256()
    with path.open("wb") as f:
        for start in range(0, size, PIECE):
            count = min(PIECE, size - start)
            piece = bytes(count) if generator is None else generator.bytes(count)
            digest.update(piece)
            f.write(piece)
    return digest.hexdigest()


def spread(times: Iterable[float]) -> dict[str, float]:
    """Return how the times of some ranks are spread.

    Parameters
    ----------
    times : iterable of float
        Seconds.

    Returns
    -------
    dict
        ``median_s``, ``p95_s``, ``fastest_s``.
    """
    array = np.array(list(times))
    return {
        "median_s": float(np.median(array)),
        "p95_s": float(np.percentile(array, 95)),
        "fastest_s": float(array.min()),
    }


# ---- through the content cache


def _content(cell: Cell, place: Place, folder: Path, digest: str, measured: dict[str, Any]) -> None:
    audience = AUDIENCE.get(cell.strategy, "all-nodes")
    create = "create-archive" if audience == "all-nodes" else f"create-{audience}"
    name = f"flux-tree-{folder.name}"
    # what earlier cells left in the caches is not to help this one
    place.command(["flux", "content", "flush"])
    place.command(_on("all", "flux content dropcache"))
    archive = ["flux", "archive", "create", "--name", name, "--dir", str(folder / "source")]
    _timed(measured, create, 1, place, [*archive, PAYLOAD])
    try:
        steps = _steps(cell, place)
        for event, ranks in steps:
            _extract(event, ranks, name, place, folder, measured)
        _verify([rank for _, ranks in steps for rank in ranks], place, folder, digest)
        _clean(audience, place, folder, measured)
    except BaseException:
        with suppress(FluxTreeError):
            place.command(["flux", "archive", "remove", "--name", name])
        raise
    remove = ["flux", "archive", "remove", "--name", name]
    _timed(measured, f"delete-archive-{audience}", 1, place, remove)


def _steps(cell: Cell, place: Place) -> list[tuple[str, list[int]]]:
    """Return the events in which a cell is distributed, and the ranks of each."""
    topology = place.topology
    deepest = topology.deepest.tolist()
    if cell.strategy == "leaves":
        return [("distribute-leaf-nodes", deepest)]
    if cell.strategy == "middle-leaves":
        middle = topology.middle.tolist()
        rest = [rank for rank in deepest if rank not in middle]
        steps = [("distribute-middle-nodes-0", middle), ("distribute-middle-nodes-1", rest)]
        return [step for step in steps if step[1]]  # in a flat tree the middle is the lowest level
    return [("distribute-all-nodes", list(range(1, topology.size)))]


def _extract(
    event: str, ranks: list[int], name: str, place: Place, folder: Path, measured: dict[str, Any]
) -> None:
    """Have ranks extract the archive, each noting when it began and when it had it."""
    script = (
        f"cd {_own_folder(folder)} && start=$(date +%s.%N)"
        f" && flux archive extract --name {shlex.quote(name)} -C ."
        " && echo $start $(date +%s.%N)"
    )
    argv = _on(format_idset(ranks), script, labels=True)
    before = _sent(place)
    begin, clock = time.time(), time.perf_counter()
    out = place.command(argv)
    seconds = time.perf_counter() - clock
    sent = {"sent": _sent(place) - before} if place.own_nic else {}
    took = {}
    for rank, text in _labelled(out):
        with suppress(ValueError):
            took[rank] = float(text.split()[1]) - begin
    if sorted(took) != ranks:
        raise BroadcastError(
            f"{event}: only the ranks {format_idset(took) or 'none'} of {format_idset(ranks)}"
            " told when they had it"
        )
    measured["events"].append(
        {"event": event, "time_s": seconds, "ranks": len(ranks), **spread(took.values()), **sent}
    )
    for rank in ranks:
        measured["records"].append(
            {
                "rank": rank,
                "depth": int(place.topology.depth[rank]),
                "first_byte": None,
                "verified": took[rank],
                "bytes_in": None,
                "retries": 0,
                "event": event,
            }
        )


# ---- directly


def _direct(cell: Cell, place: Place, folder: Path, digest: str, measured: dict[str, Any]) -> None:
    destination = folder / "{rank}" / PAYLOAD
    result = place.broadcast(folder / "source" / PAYLOAD, destination, cell.strategy)
    receivers = result.receivers
    depths = result.plan.depths.max(axis=0)
    for record in receivers:
        measured["records"].append(
            {
                "rank": int(record["rank"]),
                "depth": int(depths[record["rank"]]),
                "first_byte": _number(record["first_byte"]),
                "verified": _number(record["verified"]),
                "bytes_in": int(record["bytes_in"]),
                "retries": int(record["retries"]),
            }
        )
    head = cell.strategy.partition(":")[0]
    audience = AUDIENCE.get(head, "all-nodes")
    if head == "middle-leaves":
        measured["events"] += _two_steps(result, place)
    else:
        verified = receivers["verified"]
        measured["events"].append(_event(f"distribute-{audience}", verified))
    _verify(np.flatnonzero(result.plan.deliver).tolist(), place, folder, digest)
    _clean(audience, place, folder, measured)


def _two_steps(result: Any, place: Place) -> list[dict[str, Any]]:
    """Return the events of the middle level and of the lowest one.

    Each is timed from when its ranks could begin: if the plan has phases, the lowest level can when
    the middle one is done, else both begin together.
    """
    receivers = result.receivers
    in_middle = np.isin(receivers["rank"], place.topology.middle)
    middle, lowest = receivers[in_middle], receivers[~in_middle]
    events = [_event("distribute-middle-nodes-0", middle["verified"])]
    if len(lowest):
        later = result.plan.phase[lowest["rank"]].min() > result.plan.phase[middle["rank"]].max()
        begin = middle["verified"].max() if later else 0.0
        events.append(_event("distribute-middle-nodes-1", lowest["verified"] - begin))
    return events


def _event(name: str, times: Any) -> dict[str, Any]:
    return {"event": name, "time_s": float(times.max()), "ranks": len(times), **spread(times)}


# ---- round trips


def _ping(cell: Cell, place: Place, measured: dict[str, Any]) -> None:
    for service in ("broker", "kvs"):
        for rank in range(cell.nodes):
            argv = ["flux", "ping", "-c1", f"--pad={cell.bytes}", "--rank", str(rank), service]
            out = place.command(argv)
            match = PING_TIME.search(out)
            if match is None:
                raise BroadcastError(f"{' '.join(argv)}: no time in '{out.strip()[-200:]}'")
            measured["pings"].append(
                {
                    "rank": rank,
                    "hops": int(place.topology.depth[rank]),
                    "service": service,
                    "bytes": cell.bytes,
                    "time_s": float(match[1]) / 1000,
                    "iteration": cell.iteration,
                }
            )


# ---- what they have in common


def _make_folders(place: Place, folder: Path) -> None:
    if place.flux:
        place.command(_on("all", f"mkdir -p {_own_folder(folder)}"))
        return
    for rank in range(place.topology.size):
        (folder / str(rank)).mkdir()


def _verify(ranks: Sequence[int], place: Place, folder: Path, digest: str) -> None:
    """Compare what ranks have with what was sent."""
    if place.flux:
        script = f"cd {_own_folder(folder)} && sha256sum {PAYLOAD}"
        out = place.command(_on(format_idset(ranks), script, labels=True, root=True))
        found = {rank: text.split()[0] for rank, text in _labelled(out)}
    else:
        found = {}
        for rank in ranks:
            data = hashlib.sha256()
            with (folder / str(rank) / PAYLOAD).open("rb") as f:
                while piece := f.read(PIECE):
                    data.update(piece)
            found[rank] = data.hexdigest()
    for rank in ranks:
        if found.get(rank) != digest:
            raise BroadcastError(f"rank {rank} has other bytes than were sent", rank=rank)


def _clean(audience: str, place: Place, folder: Path, measured: dict[str, Any]) -> None:
    event, ranks = f"clean-{audience}", place.topology.size
    if place.flux:
        script = f"rm -rf {_own_folder(folder)}/{PAYLOAD}"
        _timed(measured, event, ranks, place, _on("all", script))
        return
    clock = time.perf_counter()
    for rank in range(ranks):
        (folder / str(rank) / PAYLOAD).unlink(missing_ok=True)
    seconds = time.perf_counter() - clock
    measured["events"].append({"event": event, "time_s": seconds, "ranks": ranks})


def _timed(
    measured: dict[str, Any], event: str, ranks: int, place: Place, argv: Sequence[str]
) -> None:
    clock = time.perf_counter()
    place.command(argv)
    seconds = time.perf_counter() - clock
    measured["events"].append({"event": event, "time_s": seconds, "ranks": ranks})


def _sent(place: Place) -> int:
    """Return the bytes that have left the NICs of rank 0, where it has some of its own."""
    if not place.own_nic:
        return 0
    with open("/proc/thread-self/net/dev") as f:
        lines = [line.partition(":") for line in f][2:]
    return sum(int(text.split()[8]) for name, _, text in lines if name.strip() != "lo")


def _own_folder(folder: Path) -> str:
    """Return, for a script, the folder of the rank that runs it."""
    return f"{shlex.quote(str(folder))}/$(flux getattr rank)"


def _on(ranks: str, script: str, *, labels: bool = False, root: bool = False) -> list[str]:
    """Return the command that runs a script on ranks; on rank 0 only of "all", or if it is said."""
    argv = ["flux", "exec", "-n", "--dir=/", "-r", ranks]
    if ranks != "all" and not root:
        argv += ["-x", "0"]
    if labels:
        argv.append("-l")
    return [*argv, "sh", "-c", script]


def _labelled(out: str) -> list[tuple[int, str]]:
    """Return rank and text of each line that ``flux exec -l`` printed."""
    found = []
    for line in out.splitlines():
        rank, colon, text = line.partition(":")
        if colon and rank.strip().isdigit() and text.strip():
            found.append((int(rank), text.strip()))
    return found


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
