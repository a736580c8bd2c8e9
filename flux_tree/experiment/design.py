"""The design of an experiment: what is run, in a file that people read and change."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from ..designs import design_set
from ..errors import FluxTreeError, SourceError, UsageError
from ..topology import Topology
from . import _design_file, _values
from ._backends import BACKENDS, backend_class
from ._cells import STUDY, Block, Cell, blocks

__all__ = ["TRANSPORTS", "Design"]

TRANSPORTS = ("content", "direct", "ping")
DATA = ("random", "zeros")

#: Keys that what was measured depends on, though they are not part of what names a cell.
CONDITIONS = ("seed", "rate")


@dataclass(frozen=True)
class Design:
    """What an experiment runs: every combination of the lists, as often as `iterations` says.

    Values may be given as in the file, so sizes, rates and times also as text ("8MiB", "100mbit",
    "10m"), and one thing without its list. Combinations that make no sense are left out: the
    content cache carries the strategies of the study only, and each backend has its transports.

    Parameters
    ----------
    backends : list of str
        Where it runs: "local", "flux-start", "lab", "lab-flux".
    nodes : list of int
        Numbers of ranks, from 2 on.
    topologies : list of str
        Specs as for ``tbon.topo``; or "study": for each number of ranks the set of
        `flux_tree.designs.design_set`.
    strategies : list of str, default the three of the study
        Who passes it on to whom.
    transports : list of str, default ["direct"]
        How the data moves: "content", "direct"; "ping" moves none, and measures round trips.
    sizes : list of int
        Of the payload, bytes. None are needed for pings alone.
    data : list of str, default ["random"]
        "random": no two cells have the same. "zeros": as in the study.
    ping_sizes : list of int
        Of the padding of pings, bytes.
    iterations : int, default 3
        How often each cell is run.
    seed : int, default 1
        For the data and the order.
    rate : float, default 12.5e6
        Of each NIC in each direction, bytes per second; of the lab.
    cell_limit : float, default 300
        Seconds that a cell may take.
    instance_limit : float, default 120
        Seconds that starting an instance may take.
    workdir : str, optional
        Where temporary files go. /dev/shm if there is room, else TMPDIR.

    Raises
    ------
    UsageError, PlanError, TopologyError
        If a value makes no sense; it names the key and the mend.

    Examples
    --------
    >>> design = Design(["flux-start"], [8], ["kary:1", "kary:2"], sizes=["8MiB"])
    >>> len(design.cells())
    18
    """

    backends: Any
    nodes: Any
    topologies: Any
    strategies: Any = STUDY
    transports: Any = ("direct",)
    sizes: Any = ()
    data: Any = ("random",)
    ping_sizes: Any = (0, 1024, 65536, 1 << 20)
    iterations: Any = 3
    seed: Any = 1
    rate: Any = 12.5e6
    cell_limit: Any = 300.0
    instance_limit: Any = 120.0
    workdir: Any = None

    def __post_init__(self) -> None:
        for key, read in _values.READERS.items():
            object.__setattr__(self, key, read(key, getattr(self, key)))
        _values.known("transports", self.transports, TRANSPORTS)
        _values.known("data", self.data, DATA)
        _values.known("backends", self.backends, BACKENDS)
        if {"content", "direct"} & set(self.transports) and not self.sizes:
            raise UsageError("sizes: there is none, give at least one, such as [1MiB]")
        for nodes in self.nodes:
            self._check_plans(nodes)
        self._check_use()

    # ---- the file

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Design:
        """Return the design in a file.

        Parameters
        ----------
        path : path-like
            YAML, as `to_yaml` writes it.

        Returns
        -------
        Design

        Raises
        ------
        SourceError
            If the file cannot be read.
        UsageError, PlanError, TopologyError
            If it is no design: it names the file, the key and the mend.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise SourceError(f"'{path}': {reason}, give a design file") from None
        return cls.from_text(text, str(path))

    @classmethod
    def from_text(cls, text: str, name: str = "design") -> Design:
        """Return the design in a text.

        Parameters
        ----------
        text : str
            YAML, as `to_yaml` writes it.
        name : str, default "design"
            What messages call it.

        Returns
        -------
        Design

        Raises
        ------
        UsageError, PlanError, TopologyError
            If it is no design: it names the key and the mend.
        """
        try:
            return cls.from_mapping(_design_file.parse(text))
        except FluxTreeError as exc:
            raise type(exc)(f"'{name}': {exc}") from None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Design:
        """Return the design of keys and values.

        Parameters
        ----------
        mapping : mapping
            The parameters of `Design` by name.

        Returns
        -------
        Design

        Raises
        ------
        UsageError, PlanError, TopologyError
            If there is an unknown key, one is missing, or a value makes no sense.
        """
        names = [field.name for field in fields(cls)]
        for key in mapping:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(names)}"
                raise UsageError(f"there is no key '{key}', {hint}")
        for key in ("backends", "nodes", "topologies"):
            if key not in mapping:
                raise UsageError(f"the key '{key}' is missing, add it")
        return cls(**mapping)

    def to_yaml(self) -> str:
        """Return the text of a design file, with a comment on each key.

        Returns
        -------
        str
        """
        return _design_file.text_of({f.name: getattr(self, f.name) for f in fields(self)})

    # ---- what it comes to

    def specs(self, nodes: int) -> list[str]:
        """Return the topologies for a number of ranks.

        Parameters
        ----------
        nodes : int
            Ranks.

        Returns
        -------
        list of str
        """
        if self.topologies == ("study",):
            return [design.topo for design in design_set([nodes])]
        return list(self.topologies)

    def cells(self) -> list[Cell]:
        """Return all cells, in no particular order.

        Returns
        -------
        list of Cell
        """
        return [
            Cell(backend, nodes, spec, strategy, transport, size, data, iteration)
            for backend in self.backends
            for nodes in self.nodes
            for spec in self.specs(nodes)
            for transport in self.transports
            if transport in backend_class(backend).transports
            for strategy in (("ping",) if transport == "ping" else self.strategies)
            if transport != "content" or strategy in STUDY
            for size in (self.ping_sizes if transport == "ping" else self.sizes)
            for data in (("zeros",) if transport == "ping" else self.data)
            for iteration in range(self.iterations)
        ]

    def blocks(self) -> list[Block]:
        """Return all cells in the order in which they run.

        Returns
        -------
        list of Block
        """
        return blocks(self.cells(), self.seed)

    def difference(self, old: Design, done: set[str]) -> str | None:
        """Return why results of another design cannot be added to; None if they can.

        Parameters
        ----------
        old : Design
            Of those results.
        done : set of str
            The keys of the cells that have one.

        Returns
        -------
        str or None
            What is different.
        """
        for key in CONDITIONS:
            if getattr(self, key) != getattr(old, key):
                return f"{key} is {getattr(self, key)} and was {getattr(old, key)}"
        gone = sorted(done - {cell.key for cell in self.cells()})
        if gone:
            cells = "a cell that has a result is" if len(gone) == 1 else f"{len(gone)} cells are"
            return f"{cells} not in it any more ({gone[0]})"
        return None

    def _check_plans(self, nodes: int) -> None:
        """Refuse topologies and strategies that there are not for some number of ranks."""
        specs = self.specs(nodes)
        if not specs:
            raise UsageError(f"topologies: the study has none for {nodes} nodes, name them")
        for spec in specs:
            if spec.partition(":")[0] == "custom":
                raise UsageError(
                    "topologies: 'custom' has no parents here, give kary:K, binomial or mincrit"
                )
            try:
                topology = Topology.from_spec(spec, nodes)
            except FluxTreeError as exc:
                raise type(exc)(f"topologies: {exc}") from None
            for strategy in self.strategies:
                _values.check_strategy(strategy, topology)

    def _check_use(self) -> None:
        """Refuse what no cell has: it would be left out without a word."""
        cells = self.cells()
        used = {
            "backends": {cell.backend for cell in cells},
            "transports": {cell.transport for cell in cells},
            "strategies": {cell.strategy for cell in cells},
        }
        reasons = {
            "backends": "it has none of the transports {transports}: it has {own}",
            "transports": "no backend of {backends} has it with these strategies",
            "strategies": "transport content has only all, leaves and middle-leaves:"
            " add transport direct, or take it out",
        }
        for key in ("backends", "transports", "strategies"):
            if key == "strategies" and set(self.transports) == {"ping"}:
                continue
            for value in getattr(self, key):
                if value in used[key]:
                    continue
                own = backend_class(value).transports if key == "backends" else ()
                reason = reasons[key].format(
                    transports=", ".join(self.transports),
                    backends=", ".join(self.backends),
                    own=", ".join(own),
                )
                raise UsageError(f"{key}: '{value}' would not be used, {reason}")
