"""The report of an experiment: one HTML file with everything in it."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from .. import __version__
from ..errors import FluxTreeError, UsageError
from ..topology import Topology
from ..units import format_bytes, format_rate
from ._figures import Picture
from ._findings import Finding
from ._measured import Measured
from ._medians import median_tables
from ._table import DELIVERY, Row, Table, natural, spec_of

__all__ = ["Chapter", "render", "require_jinja2"]

#: Failed events that are listed; the table of events has all.
MAX_FAILED = 100
#: A tree of more ranks than this is not written out.
MAX_TEXT_RANKS = 64


class Chapter(NamedTuple):
    """Pictures that belong together.

    Attributes
    ----------
    id : str
        Of its anchor.
    title : str
        Its heading.
    groups : dict of str to list of Picture
        Headings, and the pictures below each.
    """

    id: str
    title: str
    groups: dict[str, list[Picture]]

    @property
    def pictures(self) -> list[Picture]:
        """The pictures of all groups."""
        return [picture for pictures in self.groups.values() for picture in pictures]


def require_jinja2() -> None:
    """Refuse to begin without what the report is made with.

    Raises
    ------
    UsageError
        If jinja2 is missing.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError(
            'the report needs jinja2, which is not installed: pip install "flux-tree[experiment]"'
        ) from None


def render(
    measured: Measured,
    findings: Sequence[Finding],
    chapters: Sequence[Chapter],
    notes: Sequence[str],
) -> str:
    """Return the report as HTML that refers to nothing outside of it.

    Parameters
    ----------
    measured : Measured
        What was read.
    findings : sequence of Finding
        What the data say.
    chapters : sequence of Chapter
        The pictures.
    notes : sequence of str
        What there is no picture of, and why.

    Returns
    -------
    str
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["svg"] = _data_uri
    source = resources.files(__package__).joinpath("templates/report.html")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    tables = median_tables(measured.table)
    failed = measured.table.failed().rows
    return template.render(
        name=measured.name,
        kind=measured.kind,
        version=__version__,
        today=datetime.date.today().isoformat(),
        scope=_scope(measured),
        findings=findings,
        environment=_environment(measured.environment),
        chapters=[chapter for chapter in chapters if chapter.pictures],
        notes=[*measured.notes, *notes],
        tables=[table for table in tables if table.event == DELIVERY],
        more_tables=[table for table in tables if table.event != DELIVERY],
        trees=_trees(measured),
        failed=[(row.event, _cell(row), row.error) for row in failed[:MAX_FAILED]],
        failed_count=len(failed),
    )


def _cell(row: Row) -> str:
    """Return the cell of a row in words."""
    size = format_bytes(row.bytes)
    words = [row.uid, row.strategy, row.transport, size, row.data, row.backend]
    return ", ".join([*dict.fromkeys(filter(None, words)), f"iteration {row.iteration}"])


def _scope(measured: Measured) -> list[tuple[str, str]]:
    """Return what was varied: a name and its values."""
    table = measured.table
    if not len(table):
        pings = measured.pings
        return [
            ("pings", str(len(pings))),
            ("nodes", _join(sorted({p.nodes for p in pings}))),
            ("topologies", _join(sorted({p.topology for p in pings}, key=natural))),
            ("payloads", _join([format_bytes(b) for b in sorted({p.bytes for p in pings})])),
        ]
    cells = table.cells()
    bad = len({row.cell for row in table.failed()})
    rows = [
        ("cells", f"{len(cells)}" + (f", {bad} of them failed" if bad else ", none failed")),
        ("nodes", _join(table.values("nodes"))),
        ("topologies", _join([t for t in table.values("topology") if t])),
        ("sizes", _join([format_bytes(size) for size in table.values("bytes")])),
        ("data", _join(table.values("data"))),
        ("strategies", _join([s for s in table.values("strategy") if s])),
        ("transports", _join(table.values("transport"))),
        ("backends", _join(table.values("backend"))),
        ("iterations", str(len(table.values("iteration")))),
    ]
    if measured.pings:
        rows.append(("pings", str(len(measured.pings))))
    return rows


def _environment(found: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Return the environment as rows of a table, what is nested named by its path."""
    rows: list[tuple[str, str]] = []
    for key, value in found.items():
        name = f"{above} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            rows += _environment(value, "" if key == "versions" else name)
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            rows.append((name, str(len(value))))  # earlier runs into the same folder
        elif value is not None:
            rows.append((name.replace(" bytes", ""), _value(name, value)))
    return rows


def _value(name: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and ("goodput" in name or name.endswith("rate")):
        return f"{format_rate(value)} ({format_rate(value, bits=True)})"
    if number and name.endswith("bytes"):
        return format_bytes(value)
    if number and name.startswith("started"):
        when = datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
        return when.strftime("%Y-%m-%d %H:%M:%S UTC")
    return _join(value) if isinstance(value, (list, tuple)) else str(value)


def _trees(measured: Measured) -> list[tuple[str, str]]:
    """Return the drawings of the TBONs over the smallest number of nodes, as text."""
    table: Table = measured.table
    names = {(row.nodes, row.topology) for row in table}
    names |= {(ping.nodes, ping.topology) for ping in measured.pings}
    if not names:
        return []
    nodes = min(n for n, _ in names)
    if nodes > MAX_TEXT_RANKS:
        return []
    trees = []
    for topology in sorted({t for n, t in names if n == nodes and t}, key=natural):
        try:
            text = Topology.from_spec(spec_of(topology), nodes).text()
        except FluxTreeError:  # one of the user's own, whose parents are not in the results
            continue
        trees.append((f"{topology} over {nodes} nodes", text))
    return trees


def _data_uri(picture: Picture) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.svg).decode()}"


def _join(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
