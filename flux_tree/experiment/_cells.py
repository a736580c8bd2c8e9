"""The cells of an experiment: what names each, the seed of its data, and their order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["STUDY", "Block", "Cell", "blocks"]

#: The strategies of the flux-distribute study: the only ones that follow the brokers' own tree step
#: by step, so that the content cache can carry them out.
STUDY = ("all", "leaves", "middle-leaves")


class Cell(NamedTuple):
    """One run of one broadcast, or of the pings of one size: the least that is run and recorded.

    Attributes
    ----------
    backend : str
        Where it runs.
    nodes : int
        Ranks.
    topology : str
        The TBON, as for ``tbon.topo``.
    strategy : str
        Who passes it on to whom; "ping" for pings.
    transport : str
        "content", "direct" or "ping".
    bytes : int
        Of the payload.
    data : str
        "random", or "zeros" (of pings always: their padding is one letter).
    iteration : int
        From 0 on.
    """

    backend: str
    nodes: int
    topology: str
    strategy: str
    transport: str
    bytes: int
    data: str
    iteration: int

    @property
    def key(self) -> str:
        """What identifies it, in the results too."""
        return "/".join(map(str, self))

    def seed(self, seed: int) -> int:
        """Return the seed of its data, which no other cell has.

        Parameters
        ----------
        seed : int
            Of the design.

        Returns
        -------
        int
            Of 48 bits, so that every reader of JSON keeps it whole.
        """
        return int.from_bytes(hashlib.sha256(f"{seed}:{self.key}".encode()).digest()[:6], "big")

    def to_dict(self) -> dict[str, Any]:
        """Return what the line of its result begins with.

        Returns
        -------
        dict
        """
        return {"cell": self.key, **self._asdict()}


class Block(NamedTuple):
    """The cells that one instance runs, one after the other.

    Attributes
    ----------
    backend, nodes, topology, iteration
        As of `Cell`.
    cells : tuple of Cell
        In the order in which they run.
    """

    backend: str
    nodes: int
    topology: str
    iteration: int
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """What the instance is called in messages."""
        return f"{self.backend}/{self.nodes}/{self.topology}"


def blocks(cells: Iterable[Cell], seed: int) -> list[Block]:
    """Return cells in the order in which they run: a randomized block design.

    Each iteration is done before the next, with its instances in an order of its own, and the cells
    of each instance in another. So what changes with time, such as other load on the machine, does
    not fall on one topology or one size.

    Parameters
    ----------
    cells : iterable of Cell
        In any order.
    seed : int
        Of the design. The same one gives the same order.

    Returns
    -------
    list of Block
    """
    groups: dict[tuple[int, str, int, str], list[Cell]] = {}
    for cell in sorted(cells):
        place = (cell.iteration, cell.backend, cell.nodes, cell.topology)
        groups.setdefault(place, []).append(cell)
    ordered = []
    for iteration in sorted({place[0] for place in groups}):
        places = [place for place in groups if place[0] == iteration]
        for _, backend, nodes, topology in _shuffled(places, f"{seed}:{iteration}"):
            inside = groups[iteration, backend, nodes, topology]
            order = _shuffled(inside, f"{seed}:{iteration}:{backend}:{nodes}:{topology}")
            ordered.append(Block(backend, nodes, topology, iteration, tuple(order)))
    return ordered


def _shuffled(items: Sequence[Any], seed: str) -> list[Any]:
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled
