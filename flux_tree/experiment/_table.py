"""The tidy table of an experiment: one row for each event of each cell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "DELIVERY",
    "GIB",
    "Row",
    "Table",
    "audience_of",
    "natural",
    "row_events",
    "spec_of",
    "topology_name",
]

GIB = 2**30
#: The event of the rows that `Table.deliveries` makes.
DELIVERY = "distribute"
NAN = math.nan


def topology_name(spec: str) -> str:
    """Return a topology as the study names it: ``kary-2`` for ``kary:2``."""
    return spec.replace(":", "-", 1)


def spec_of(topology: str) -> str:
    """Return the spec that the study's name of a topology stands for: the inverse."""
    return re.sub(r"^(kary|mincrit)-", r"\1:", topology)


def audience_of(event: str) -> str:
    """Return the study's strategy that an event is of: all, leaves or middle-leaves."""
    if "leaf" in event:
        return "leaves"
    return "middle-leaves" if "middle" in event else "all"


def natural(text: str) -> tuple[Any, ...]:
    """Return a key that sorts names as people do: binomial first, kary-2 before kary-10."""
    parts = re.split(r"(\d+)", text)
    numbers = tuple((1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts if p)
    return (not text.startswith("binomial"), not text.startswith("kary-"), numbers)


@dataclass(frozen=True)
class Row:
    """One event of one cell.

    Attributes
    ----------
    topology : str
        The TBON, as the study names it: kary-2.
    iteration, nodes : int
        Which repetition; number of brokers or ranks.
    event : str
        One of the study's names, such as distribute-all-nodes.
    time_seconds : float
        NaN if it was not measured.
    bytes : int
        Size of the data.
    data : str
        "random" or "zeros".
    strategy, transport, backend : str
        As in the design of the experiment; the transport is "direct" or "content".
    status : str
        "ok" or "failed".
    error : str
        Why it failed, in one line.
    ranks : int or None
        How many ranks the event was on.
    fastest_seconds, median_seconds, p95_seconds : float
        Over these ranks; NaN where they were not timed one by one.
    limit_seconds : float
        The line time, bytes / bandwidth of one NIC; NaN if unknown, or for another event than
        a distribution.
    """

    topology: str
    iteration: int
    nodes: int
    event: str
    time_seconds: float
    bytes: int
    data: str = "zeros"
    strategy: str = "all"
    transport: str = "content"
    backend: str = "study"
    status: str = "ok"
    error: str = ""
    ranks: int | None = None
    fastest_seconds: float = NAN
    median_seconds: float = NAN
    p95_seconds: float = NAN
    limit_seconds: float = NAN

    @property
    def uid(self) -> str:
        """The study's name of topology and size: kary-2-30."""
        return f"{self.topology}-{self.nodes}"

    @property
    def size_gb(self) -> float:
        """Size in units of 2^30 bytes, as the study calls a GB."""
        return self.bytes / GIB

    @property
    def limit_ratio(self) -> float:
        """The time as a multiple of the line time; NaN if unknown."""
        return self.time_seconds / self.limit_seconds if self.limit_seconds > 0 else NAN

    @property
    def cell(self) -> tuple[Any, ...]:
        """What all rows of one cell share."""
        return (
            self.backend,
            self.nodes,
            self.topology,
            self.strategy,
            self.transport,
            self.bytes,
            self.data,
            self.iteration,
        )


class Table:
    """Rows of an experiment, in order.

    Parameters
    ----------
    rows : iterable of Row
        The rows.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = list(rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: Callable[[Row], bool] | None = None, **equal: Any) -> Table:
        """Return the rows for which `keep` is true and whose fields equal those given."""
        return Table(
            row
            for row in self.rows
            if all(getattr(row, name) == value for name, value in equal.items())
            and (keep is None or keep(row))
        )

    def ok(self) -> Table:
        """Return the rows with a time that counts: those that did not fail."""
        return self.where(lambda row: not math.isnan(row.time_seconds), status="ok")

    def failed(self) -> Table:
        """Return the rows that failed, or have no time."""
        return self.where(lambda row: row.status != "ok" or math.isnan(row.time_seconds))

    def values(self, field: str) -> list[Any]:
        """Return the distinct values of a field, sorted: names as people do, events as they go."""
        found = {getattr(row, field) for row in self.rows}
        if field == "event":
            return sorted(found, key=_event_key)
        return sorted(found, key=lambda v: natural(v) if isinstance(v, str) else v)

    def cells(self) -> dict[tuple[Any, ...], list[Row]]:
        """Return the rows of each cell."""
        found: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.cell, []).append(row)
        return found

    def deliveries(self) -> Table:
        """Return one row a cell: the distribution, its stages summed up.

        A cell fails if any of its stages does. Percentiles are kept where there is one stage.
        """
        rows = []
        for cell in self.cells().values():
            stages = [row for row in cell if row.event.startswith("distribute")]
            if not stages:
                continue
            bad = next((row for row in stages if row.status != "ok"), stages[0])
            base = replace(
                stages[0] if len(stages) == 1 else Row(**_identity(stages[0])),
                event=DELIVERY,
                time_seconds=sum(row.time_seconds for row in stages),
                limit_seconds=stages[0].limit_seconds,
                status=bad.status,
                error=bad.error,
            )
            rows.append(base)
        return Table(rows)

    def with_limit(self, bandwidth: float) -> Table:
        """Return the table with the line time of each distribution that has none.

        Parameters
        ----------
        bandwidth : float
            Of one NIC, bytes per second.
        """
        return Table(
            replace(row, limit_seconds=row.bytes / bandwidth)
            if math.isnan(row.limit_seconds) and row.event.startswith("distribute")
            else row
            for row in self.rows
        )


def row_events(strategy: str) -> str:
    """Return the event by which a strategy distributes, the first if there are two."""
    name = strategy.partition(":")[0]
    stages = {"leaves": "distribute-leaf-nodes", "middle-leaves": "distribute-middle-nodes-0"}
    return stages.get(name, "distribute-all-nodes")


def _event_key(event: str) -> tuple[object, ...]:
    """Return a key that sorts events as they follow each other in the study's script."""
    audience = ("all", "leaves", "middle-leaves").index(audience_of(event))
    verbs = ("create", "distribute", "delete", "clean")
    place = next((i for i, verb in enumerate(verbs) if event.startswith(verb)), len(verbs))
    return audience, place, event


def _identity(row: Row) -> dict[str, Any]:
    names = ("topology", "iteration", "nodes", "event", "time_seconds", "bytes", "data")
    return {n: getattr(row, n) for n in (*names, "strategy", "transport", "backend")}
