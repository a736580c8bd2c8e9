"""What is compared with what: series, the trees that differ within one, and their spread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from .. import strategies
from ..errors import FluxTreeError
from ..topology import Topology
from ..units import format_seconds
from ._measured import Arrival
from ._table import Row, Table, natural, spec_of

__all__ = [
    "AUDIENCES",
    "DATA",
    "OWN",
    "Measure",
    "Series",
    "Spread",
    "by_series",
    "by_shape",
    "format_ratio",
    "labels",
    "load_of",
    "series_of",
    "shape_of",
    "spread",
    "tree_of",
]

#: Strategies whose tree is the TBON; any other direct one brings its own.
FOLLOW = ("all", "leaves", "middle-leaves", "tbon")
#: The strategy of a series whose trees are strategies with trees of their own.
OWN = "own trees"
AUDIENCES = {
    "all": "to all",
    "tbon": "down the TBON",
    "leaves": "to leaves",
    "middle-leaves": "to middle, then leaves",
}
#: What data is called in a label.
DATA = {"random": "random data", "zeros": "zeros", "": ""}


class Series(NamedTuple):
    """What is the same for all trees that are compared with each other.

    Attributes
    ----------
    backend, transport, data : str
        As in the table.
    strategy : str
        all, leaves, middle-leaves, tbon, or `OWN`.
    """

    backend: str
    transport: str
    strategy: str
    data: str


class Spread(NamedTuple):
    """A median, and from where to where the iterations went.

    Attributes
    ----------
    median, low, high : float
        In the unit of what was measured.
    number : int
        How many there were.
    """

    median: float
    low: float
    high: float
    number: int

    def __str__(self) -> str:
        return format_seconds(self.median) + (f" ({self.range})" if self.range else "")

    @property
    def range(self) -> str:
        """The lowest and the highest, as times; empty if they are the same."""
        low, high = format_seconds(self.low), format_seconds(self.high)
        if low == high:
            return ""
        if low.rpartition(" ")[2] == high.rpartition(" ")[2] and low.count(" ") == 1:
            low = low.rpartition(" ")[0]
        return f"{low} to {high}"


Measure = Union[Row, Arrival]


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of some numbers, of which there must be one that is not NaN."""
    known = np.array([v for v in values if not math.isnan(v)])
    return Spread(float(np.median(known)), float(known.min()), float(known.max()), len(known))


def series_of(row: Measure) -> Series:
    """Return the series that a row or an arrival is of."""
    base = row.strategy.partition(":")[0]
    strategy = base if row.transport == "content" or base in FOLLOW else OWN
    return Series(row.backend, row.transport, strategy, row.data)


def shape_of(row: Measure) -> str:
    """Return what the tree is called: the TBON's name, or that of a strategy with its own."""
    return row.strategy if series_of(row).strategy == OWN else row.topology


def by_series(table: Table) -> dict[Series, Table]:
    """Return the rows of each series, those with random data before zeros."""
    found: dict[Series, list[Row]] = {}
    for row in table:
        found.setdefault(series_of(row), []).append(row)
    return {s: Table(found[s]) for s in sorted(found, key=_series_key)}


def by_shape(table: Table) -> dict[str, Table]:
    """Return the rows of each tree, sorted as people sort names."""
    found: dict[str, list[Row]] = {}
    for row in table:
        found.setdefault(shape_of(row), []).append(row)
    return {shape: Table(found[shape]) for shape in sorted(found, key=natural)}


def labels(series: Iterable[Series]) -> dict[Series, str]:
    """Return a name for each series, of what is not the same for all of them."""
    known = list(dict.fromkeys(series))
    varies = [len({s[i] for s in known}) > 1 for i in range(4)]
    if len({(s.backend, s.transport) for s in known}) == len({s.transport for s in known}):
        varies[0] = False  # the transport says it already
    names = {}
    for s in known:
        words = (
            s.backend,
            s.transport,
            AUDIENCES.get(s.strategy, s.strategy),
            DATA.get(s.data, s.data),
        )
        names[s] = ", ".join(word for word, differs in zip(words, varies) if differs)
        names[s] = names[s] or ", ".join(words[1:3])
    return names


@lru_cache(maxsize=1024)
def tree_of(shape: str, nodes: int) -> tuple[NDArray[np.int32], int] | None:
    """Return the parents of a tree's ranks, and how many trees there are: this is the first.

    Parameters
    ----------
    shape : str
        As from `shape_of`.
    nodes : int
        Number of ranks.

    Returns
    -------
    (ndarray of int32 of shape (nodes,), int) or None
        None if the name does not say which tree it is.
    """
    try:
        return Topology.from_spec(spec_of(shape), nodes).parents, 1
    except FluxTreeError:
        pass
    try:
        plan = strategies.plan(shape, nodes)
    except FluxTreeError:
        return None
    return plan.parents[0], plan.stripes


@lru_cache(maxsize=1024)
def load_of(shape: str, nodes: int, strategy: str) -> float:
    """Return how often the busiest rank sends the whole data; NaN if it is not known.

    Parameters
    ----------
    shape : str
        As from `shape_of`.
    nodes : int
        Number of ranks.
    strategy : str
        That of the series.
    """
    try:
        if strategy == OWN:
            return strategies.plan(shape, nodes).max_load
        return strategies.plan(strategy, Topology.from_spec(spec_of(shape), nodes)).max_load
    except FluxTreeError:
        return math.nan


def format_ratio(ratio: float) -> str:
    """Return how many times as much, with two or three digits."""
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.3g}" if ratio >= 10 else f"{ratio:.2f}"


def _series_key(series: Series) -> tuple[object, ...]:
    order = [*FOLLOW[:3], FOLLOW[3], OWN]
    place = order.index(series.strategy) if series.strategy in order else len(order)
    return (series.backend, series.transport, place, series.strategy, series.data)
