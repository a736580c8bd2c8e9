"""What the flux-distribute study left: its tables, and the logs of its experiments.

The study [1]_ ran a script on the first broker of an instance. What it printed, and the times of
bash's ``time``, are in ``NODES/TOPOLOGY/ITERATION/topology-experiment.out``, between the noise of
what was installed before and the script itself at the end.

.. [1] https://github.com/converged-computing/flux-distribute, ``topology/*/data``
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import FluxTreeError, SourceError
from ..topology import Topology
from ._csv import events_from_csv, pings_from_csv
from ._measured import Measured, Ping, read_text
from ._table import GIB, Row, audience_of, spec_of, topology_name

__all__ = ["LOG", "read_csv", "read_logs"]

LOG = "topology-experiment.out"
END = "SCRIPT entrypoint"

ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
EVENT = re.compile(r"EVENT (?P<name>[\w-]+?)-(?P<size>\d+(?:\.\d+)?)\s*")
PING = re.compile(r"EVENT flux-ping-(?P<service>[\w-]+)-size-(?P<size>\d+)-rank-(?P<rank>\d+)\s*")
REAL = re.compile(r"real\s+(?:(?P<minutes>\d+)m)?(?P<seconds>[\d.]+)s\s*")
ANSWER = re.compile(
    r"\S+ pad=(?P<bytes>\d+) seq=\d+ time=(?P<time>[\d.]+) ms \((?P<route>[^)]*)\)\s*"
)
#: What `flux exec` and the commands under it print when they fail.
FAULT = re.compile(r"flux-[\w-]+: .*|(\[?[\d,-]+\]?: )?(Exit \d+|Killed|Terminated)\b.*")


def read_csv(path: Path) -> Measured:
    """Read a table of events or of pings, of the study or of our own.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Measured

    Raises
    ------
    SourceError
        If it cannot be read, or is no such table.
    """
    text = read_text(path)
    measured = Measured(path.name, "a table of an earlier analysis or of the study")
    if "message_size_bytes" in text.split("\n", 1)[0]:
        measured.pings = pings_from_csv(text, str(path))
    else:
        measured.table = events_from_csv(text, str(path))
    return measured


def read_logs(path: Path) -> Measured:
    """Read a log of the study, or all logs below a folder.

    An event under which a command said that it failed is a failed one, although its time is there:
    the study's own analysis counts it.

    Parameters
    ----------
    path : Path
        A file, or a folder with ``NODES/TOPOLOGY/ITERATION/*.out`` somewhere in it. An iteration
        whose name begins with ``_`` is left out, as in the study.

    Returns
    -------
    Measured

    Raises
    ------
    SourceError
        If one cannot be read, or there is no event in any.
    """
    measured = Measured(
        path.resolve().name, "raw logs of the flux-distribute study, whose data are zeros"
    )
    files = [path] if path.is_file() else sorted(path.rglob("*.out"))
    for file in files:
        if file.parent.name.startswith("_") and file != path:
            where = file.parent.relative_to(path)
            measured.notes.append(f"{where} is left out, as its name begins with an underscore.")
            continue
        _read_log(file, measured)
    if not measured:
        raise SourceError(
            f"'{path}': no event in {len(files)} log{'' if len(files) == 1 else 's'},"
            f" give a folder with NODES/TOPOLOGY/ITERATION/{LOG}"
        )
    return measured


def _read_log(path: Path, measured: Measured) -> None:
    lines, end, _ = _plain(read_text(path)).partition(f"\n{END}")
    head, _, tail = lines.partition("\nTOPOLOGY diagram\n")
    if not tail and "EVENT " not in lines:
        measured.notes.append(f"{_short(path)} has no event.")
        return
    if not end:
        measured.notes.append(f"{_short(path)} ends before its script: it may be cut off.")
    diagram, _, rest = tail.partition("TOPOLOGY description\n")
    nodes, topology, iteration = _where(path, head, rest)
    _compare(path, diagram, topology, nodes, measured)
    for event in _events(rest or lines):
        ping = PING.fullmatch(event[0])
        if ping:
            _add_ping(
                event, ping["service"], int(ping["rank"]), (topology, nodes, iteration), measured
            )
            continue
        match = EVENT.fullmatch(event[0])
        if match is None:
            continue
        seconds = next((_seconds(m) for m in map(REAL.fullmatch, event) if m), float("nan"))
        error = next((line.strip() for line in event[1:] if FAULT.fullmatch(line)), "")
        if seconds != seconds:
            error = error or "no time in the log"
        measured.table.rows.append(
            Row(
                topology=topology,
                iteration=iteration,
                nodes=nodes,
                event=match["name"],
                time_seconds=seconds,
                bytes=round(float(match["size"]) * GIB),
                strategy=audience_of(match["name"]),
                status="failed" if error else "ok",
                error=error,
            )
        )


def _events(text: str) -> Iterator[list[str]]:
    """Yield the lines of each event, the one that names it first."""
    event: list[str] = []
    for line in text.split("\n"):
        if line.startswith("EVENT "):
            if event:
                yield event
            event = [line]
        elif event:
            event.append(line)
    if event:
        yield event


def _add_ping(
    event: list[str], service: str, rank: int, where: tuple[str, int, int], measured: Measured
) -> None:
    topology, nodes, iteration = where
    answer = next((m for m in map(ANSWER.fullmatch, event) if m), None)
    if answer is None:
        measured.notes.append(
            f"{topology}, {nodes} nodes: no answer to {event[0].partition(' ')[2].strip()}."
        )
        return
    measured.pings.append(
        Ping(
            topology=topology,
            nodes=nodes,
            iteration=iteration,
            rank=rank,
            service=service,
            bytes=int(answer["bytes"]),
            time_seconds=float(answer["time"]) / 1000,
            hops=sum(1 for part in answer["route"].split("!") if part),
        )
    )


def _where(path: Path, head: str, rest: str) -> tuple[int, str, int]:
    """Return nodes, topology and iteration: what the log says, else what its path says."""
    said = re.search(r"(?:^|\n)NODES\n(\d+)\s*$", head)
    parts = path.resolve().parts
    above = parts[-4] if len(parts) >= 4 else ""
    if not said and not above.isdecimal():
        raise SourceError(
            f"'{path}': it does not say of how many nodes it is,"
            f" put it into NODES/TOPOLOGY/ITERATION/{LOG}"
        )
    spec = rest.split("\n", 1)[0].strip()
    last = path.resolve().parent.name
    return (
        int(said[1]) if said else int(above),
        topology_name(spec if spec and not spec.startswith("EVENT") else parts[-3]),
        int(last) if last.isdecimal() else 0,
    )


def _compare(path: Path, diagram: str, topology: str, nodes: int, measured: Measured) -> None:
    """Note where the instance had another tree than its name says."""
    if not diagram.strip():
        return
    try:
        seen = Topology.from_status(diagram)
        meant = Topology.from_spec(spec_of(topology), nodes)
    except FluxTreeError as exc:
        measured.notes.append(f"{_short(path)}: its diagram of the tree makes no sense ({exc}).")
        return
    if not np.array_equal(seen.parents, meant.parents):
        measured.notes.append(f"{_short(path)}: the tree in it is not {topology} over {nodes}.")


def _seconds(match: re.Match[str]) -> float:
    return 60 * int(match["minutes"] or 0) + float(match["seconds"])


def _plain(text: str) -> str:
    """Return a log without colours, in lines that end as in Unix."""
    return ANSI.sub("", text).replace("\r\n", "\n")


def _short(path: Path) -> str:
    return "/".join(path.parts[-4:])
