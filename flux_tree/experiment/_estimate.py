"""About how long an experiment takes, before it has run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .. import strategies
from ..topology import Topology
from ._backends import backend_class
from ._cells import Block, Cell
from ._values import is_builtin

if TYPE_CHECKING:
    from .design import Design

__all__ = ["Estimate", "Estimator"]

#: What a cell takes beside its data: commands, a job, checks; for each rank of it.
OVERHEAD_S = {"content": (0.4, 0.02), "direct": (0.5, 0.03)}
#: Making the data, writing and reading it; in an archive, and in the files of all ranks.
DISK_RATE = 150e6
PING_S = 0.02


class Estimate(NamedTuple):
    """About what a design comes to.

    Attributes
    ----------
    cells, instances : int
        How many are run and started, if nothing fails.
    seconds : float
        How long that takes, within a factor of two or so.
    """

    cells: int
    instances: int
    seconds: float


class Estimator:
    """Reckons from line time times the load of the busiest rank, and what comes on top.

    Parameters
    ----------
    design : Design
        What is run.
    """

    def __init__(self, design: Design) -> None:
        self._design = design
        self._known: dict[tuple[object, ...], float] = {}

    def all(self, blocks: Iterable[Block]) -> Estimate:
        """Return what some cells take, and the instances for them.

        Parameters
        ----------
        blocks : iterable of Block

        Returns
        -------
        Estimate
        """
        blocks = [block for block in blocks if block.cells]
        seconds = sum(self.start(block) + sum(map(self.cell, block.cells)) for block in blocks)
        return Estimate(sum(len(block.cells) for block in blocks), len(blocks), seconds)

    def start(self, block: Block) -> float:
        """Return about how many seconds an instance takes to start and to end.

        Parameters
        ----------
        block : Block

        Returns
        -------
        float
        """
        return backend_class(block.backend).start_seconds(block.nodes)

    def cell(self, cell: Cell) -> float:
        """Return about how many seconds a cell takes.

        Parameters
        ----------
        cell : Cell

        Returns
        -------
        float
        """
        kind = cell[:-1]  # of each iteration the same
        if kind not in self._known:
            self._known[kind] = self._reckon(cell)
        return self._known[kind]

    def _reckon(self, cell: Cell) -> float:
        backend = backend_class(cell.backend)
        topology = Topology.from_spec(cell.topology, cell.nodes)
        if cell.transport == "ping":
            each = [
                backend.line_seconds(self._design, 2, 2 * hop, cell.bytes) for hop in topology.depth
            ]
            return 2 * (cell.nodes * PING_S + sum(each))
        strategy = strategies.get(cell.strategy)
        # of a strategy that is not our own nobody knows what planning does
        load = strategies.plan(strategy, topology).max_load if is_builtin(strategy) else 1.0
        moved = cell.bytes if cell.data == "random" or cell.transport == "direct" else 1 << 20
        line = backend.line_seconds(self._design, cell.nodes, load, moved)
        fixed, each_rank = OVERHEAD_S[cell.transport]
        disk = (cell.nodes + 2) * cell.bytes / DISK_RATE / 2
        return fixed + each_rank * cell.nodes + line + disk
