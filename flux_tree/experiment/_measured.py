"""All that was measured, wherever it was read from: events, pings, and ranks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ._table import Table

__all__ = ["Arrival", "Measured", "Ping", "read_text"]


@dataclass(frozen=True)
class Ping:
    """One round trip to a service of a broker.

    Attributes
    ----------
    topology : str
        The TBON, as the study names it: kary-2.
    nodes, iteration, rank : int
        Number of brokers, repetition, the broker that answered.
    service : str
        "broker" or "kvs".
    bytes : int
        Payload, there and back.
    time_seconds : float
        The round trip.
    hops : int
        As the source counts them: the study, the parts of the route that ``flux ping`` prints.
    backend : str
        Where it was measured.
    """

    topology: str
    nodes: int
    iteration: int
    rank: int
    service: str
    bytes: int
    time_seconds: float
    hops: int
    backend: str = "study"


@dataclass(frozen=True)
class Arrival:
    """When one rank received.

    Attributes
    ----------
    backend, nodes, topology, strategy, transport, bytes, data, iteration
        The cell, as in `_table.Row`.
    rank, depth : int
        The rank, and how deep it stands in the plan (direct) or the TBON (content).
    first_byte_seconds, verified_seconds : float
        Since the distribution began; NaN if unknown.
    bytes_in : int or None
        Bytes that it received.
    retries : int
        How often it had to ask again.
    """

    backend: str
    nodes: int
    topology: str
    strategy: str
    transport: str
    bytes: int
    data: str
    iteration: int
    rank: int
    depth: int
    first_byte_seconds: float
    verified_seconds: float
    bytes_in: int | None
    retries: int


@dataclass
class Measured:
    """What was read.

    Attributes
    ----------
    name : str
        What the source is called.
    kind : str
        What it is, in words.
    table : Table
        The events.
    pings : list of Ping
        Round trips.
    arrivals : list of Arrival
        Ranks, of cells that did not fail.
    environment : dict
        Versions, machine, rates; empty if unknown.
    notes : list of str
        What the reader of a report should know of the source, a line each.
    """

    name: str
    kind: str
    table: Table = field(default_factory=Table)
    pings: list[Ping] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(len(self.table) or self.pings)


def read_text(path: Path) -> str:
    """Return what is in a file of measurements, whatever its bytes and line ends are.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError as exc:
        raise SourceError(f"'{path}': {exc.strerror}") from exc
