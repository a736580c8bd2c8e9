"""What an experiment measured, as a tidy table, pictures and a report."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from .. import draw
from ..errors import DestinationError, UsageError
from ._compare import by_shape
from ._csv import arrivals_csv, events_csv, pings_csv
from ._event_pictures import by_depth, event_picture, ping_picture, tree_sheet
from ._figures import Picture
from ._findings import Finding, findings
from ._growth import against_nodes, against_size
from ._limit_picture import against_limit
from ._measured import Measured
from ._pictures import against_load, against_tree
from ._report import Chapter, render, require_jinja2
from ._sources import read
from ._table import Table

__all__ = ["Analysis", "analyze"]


@dataclass(frozen=True)
class Analysis:
    """What `analyze` made.

    Attributes
    ----------
    output : Path
        The folder with all of it.
    report : Path
        One HTML file with the pictures and tables.
    events : Path or None
        The tidy table; None if there was no event.
    pings : Path or None
        The table of pings, if there was one.
    ranks : Path or None
        When each rank received, if that was measured.
    pictures : list of Path
        The pictures, as files of their own.
    findings : list of Finding
        What the data say.
    notes : list of str
        What there is no picture of, and what is odd in the source.
    failed : int
        Events that failed.
    """

    output: Path
    report: Path
    events: Path | None
    pings: Path | None
    ranks: Path | None
    pictures: list[Path]
    findings: list[Finding]
    notes: list[str]
    failed: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: paths as text, findings as their about and text."""

        def text(path: Path | None) -> str | None:
            return None if path is None else str(path)

        return {
            "output": str(self.output),
            "report": str(self.report),
            "events": text(self.events),
            "pings": text(self.pings),
            "ranks": text(self.ranks),
            "pictures": [str(path) for path in self.pictures],
            "findings": [finding._asdict() for finding in self.findings],
            "notes": self.notes,
            "failed": self.failed,
        }


def analyze(
    source: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    bandwidth: float | None = None,
) -> Analysis:
    """Make a tidy table, pictures and a report of what an experiment measured.

    Parameters
    ----------
    source : path-like
        The folder of an experiment; the flux-distribute study's ``topologies-events.csv``, or one
        that this function wrote; a log ``topology-experiment.out`` of the study, or a folder of
        them.
    output : path-like, optional
        The folder to write to; ``analysis`` in the source, or NAME-analysis beside a file, if not
        given. Files of an earlier analysis in it are replaced.
    bandwidth : float, optional
        Of one NIC, bytes per second: for the line time where the source does not have it.

    Returns
    -------
    Analysis
        The paths of what was written, and what the data say.

    Raises
    ------
    SourceError
        If the source is none of these, or a line of it makes no sense.
    DestinationError
        If the output cannot be written.
    UsageError
        If matplotlib or jinja2 is missing, or the bandwidth is not above 0.
    """
    draw.new_figure(1.0, 1.0)  # both are asked for before any work
    require_jinja2()
    if bandwidth is not None and not bandwidth > 0:
        raise UsageError(f"bandwidth {bandwidth!r}: must be above 0 bytes per second")
    path = Path(source)
    measured = read(path)
    if bandwidth is not None:
        measured.table = measured.table.with_limit(bandwidth)
    folder = Path(output) if output is not None else _beside(path)
    _make(folder)
    notes: list[str] = []
    chapters = _chapters(measured, notes)
    said = findings(measured)
    pictures = [picture for chapter in chapters for picture in chapter.pictures]
    files = {f"pictures/{picture.name}.svg": picture.svg for picture in pictures}
    if len(measured.table):
        files["events.csv"] = events_csv(measured.table).encode()
    if measured.pings:
        files["pings.csv"] = pings_csv(measured.pings).encode()
    if measured.arrivals:
        files["ranks.csv"] = arrivals_csv(measured.arrivals).encode()
    files["report.html"] = render(measured, said, chapters, notes).encode(errors="replace")
    _make(folder / "pictures")
    for name, content in files.items():
        _write(folder / name, content)
    return Analysis(
        output=folder,
        report=folder / "report.html",
        events=_known(folder, "events.csv", files),
        pings=_known(folder, "pings.csv", files),
        ranks=_known(folder, "ranks.csv", files),
        pictures=[folder / name for name in files if name.startswith("pictures/")],
        findings=said,
        notes=[*measured.notes, *notes],
        failed=len(measured.table.failed()),
    )


def _chapters(measured: Measured, notes: list[str]) -> list[Chapter]:
    """Draw all pictures, the most nodes first; what there is no picture of goes to the notes."""
    good = measured.table.ok()
    deliveries = measured.table.deliveries().ok()
    times = {n: _times(measured, deliveries.where(nodes=n), n, notes) for n in _sizes(deliveries)}
    groups = {f"{nodes} nodes": pictures for nodes, pictures in times.items()}
    if len(deliveries):
        groups["All nodes"] = [
            against_nodes(deliveries.where(backend=backend), notes)
            for backend in deliveries.values("backend")
        ]
    elif not measured.pings:
        notes.append("No distribution succeeded, so there is no picture of times.")
    events: dict[str, list[Picture | None]] = {
        f"{nodes} nodes": [
            event_picture(good, event, nodes) for event in good.where(nodes=nodes).values("event")
        ]
        for nodes in _sizes(good)
    }
    ping_sizes = sorted({ping.nodes for ping in measured.pings}, reverse=True)
    pings = {f"{n} nodes": [ping_picture(measured.pings, n)] for n in ping_sizes}
    shapes = {n: list(by_shape(deliveries.where(nodes=n))) for n in _sizes(deliveries)}
    for n in ping_sizes:
        shapes.setdefault(n, [p.topology for p in measured.pings if p.nodes == n])
    trees = {f"{n} nodes": [tree_sheet(names, n)] for n, names in shapes.items()}
    return [
        Chapter("times", "What decides the time", _there(groups)),
        Chapter("pings", "Pings", _there(pings)),
        Chapter("trees", "The trees", _there(trees)),
        Chapter("events", "Every event", _there(events)),
    ]


def _times(measured: Measured, rows: Table, nodes: int, notes: list[str]) -> list[Picture | None]:
    """Draw what took how long to some number of nodes."""
    pictures = [
        against_tree(rows, nodes, notes),
        against_load(rows, nodes, notes),
        against_limit(rows, nodes, notes),
    ]
    for backend in rows.values("backend"):
        arrivals = [a for a in measured.arrivals if (a.nodes, a.backend) == (nodes, backend)]
        there = rows.where(backend=backend)
        pictures.append(against_size(there, nodes, notes))
        pictures.append(by_depth(arrivals, there, nodes, notes))
    return pictures


def _sizes(table: Table) -> list[int]:
    return sorted(table.values("nodes"), reverse=True)


def _there(groups: dict[str, list[Picture | None]]) -> dict[str, list[Picture]]:
    """Return the pictures that there are, and the headings that have some."""
    found = {}
    for heading, pictures in groups.items():
        there = [picture for picture in pictures if picture is not None]
        if there:
            found[heading] = there
    return found


def _beside(path: Path) -> Path:
    return path / "analysis" if path.is_dir() else path.with_name(f"{path.stem}-analysis")


def _known(folder: Path, name: str, files: dict[str, bytes]) -> Path | None:
    return folder / name if name in files else None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DestinationError(f"'{folder}': {exc.strerror}, give another folder") from exc


def _write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then give it its own."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".flux-tree-", delete=False) as f:
            temporary = f.name
            f.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as exc:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise DestinationError(f"'{path}': {exc.strerror}, give another folder") from exc
