"""Measure the cells: each strategy and each topology, in labs of each kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.bench import Bench
from benchmarks.peers.in_flux import InFlux
from flux_tree.lab import Lab

STRATEGIES = ("flat", "chain", "kary:2", "kary:3", "binomial", "two-tree", "edst")
TOPOLOGIES = ("kary:1", "kary:2", "kary:8", "binomial")
ARCHIVE = "archive "
AUTO = "auto"

#: Cells that take longer than this are measured once, seconds.
LONG_S = 8.0


@dataclass
class Cell:
    """What was measured of one way to broadcast.

    Attributes
    ----------
    what : str
        A strategy, or "archive " and a topology.
    hosts, size : int
        Of the lab, and bytes of the payload.
    rate, goodput : float
        Of a NIC, and of one TCP stream between two of them, bytes per second.
    times : list of float
        Of the slowest rank, seconds: one of each repetition.
    ranks : list of list of float
        Of each rank but the first, seconds; the same repetitions.
    busy : list of float
        The share of the time that the processors were busy.
    chosen : str
        What "auto" chose.
    """

    what: str
    hosts: int
    rate: float
    size: int
    goodput: float
    times: list[float] = field(default_factory=list)
    ranks: list[list[float]] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    chosen: str = ""

    @property
    def key(self) -> tuple[str, int, float, int]:
        return self.what, self.hosts, self.rate, self.size

    @property
    def time(self) -> float:
        return float(np.median(self.times))


class Kept:
    """The cells that are there already, and a place for new ones.

    Parameters
    ----------
    path : Path or None
        A file, a line a cell; None to keep them in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.cells: dict[Any, Cell] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                cell = Cell(**json.loads(line))
                self.cells[cell.key] = cell

    def add(self, cell: Cell) -> None:
        self.cells[cell.key] = cell
        if self.path is not None:
            with self.path.open("a") as f:
                f.write(json.dumps(asdict(cell)) + "\n")


def measure(
    kept: Kept,
    hosts: list[int],
    rates: list[float],
    sizes: list[int],
    names: list[str],
    repeat: int,
) -> list[Cell]:
    """Measure what is not there yet; return all cells that were asked for.

    Parameters
    ----------
    kept : Kept
        Where cells are and go.
    hosts, rates, sizes, names
        What to combine; rates in bytes per second.
    repeat : int
        Of each cell that is not a long one.

    Returns
    -------
    list of Cell
    """
    wanted = [(w, n, r, s) for n in hosts for r in rates for s in sizes for w in names]
    for n in hosts:
        for rate in rates:
            todo = [k for k in wanted if k[1:3] == (n, rate) and k not in kept.cells]
            if todo:
                with Lab(n, rate) as lab:
                    for cell in _in_lab(lab, rate, todo, repeat):
                        kept.add(cell)
                        print(
                            f"{cell.what}, {n} hosts, {cell.size >> 20} MiB: {cell.time:.2f} s,"
                            f" {cell.time / (cell.size / cell.goodput):.2f} x line time,"
                            f" busy {np.median(cell.busy):.0%}",
                            file=sys.stderr,
                            flush=True,
                        )
    return [kept.cells[key] for key in wanted]


def _in_lab(lab: Lab, rate: float, todo: list[Any], repeat: int) -> Iterator[Cell]:
    goodput = lab.goodput()
    for topo in dict.fromkeys(k[0] for k in todo):
        mine = [k for k in todo if k[0] == topo]
        if topo.startswith(ARCHIVE):
            bench = Bench(lab, mine[0][3])
            bench.renew()
            with InFlux(topo[len(ARCHIVE) :], []).start(bench) as case:
                for key in mine:
                    yield _repeat(Bench(lab, key[3]), key, goodput, repeat, case)
        else:
            for key in mine:
                yield _repeat(Bench(lab, key[3]), key, goodput, repeat, None)


def _repeat(bench: Bench, key: Any, goodput: float, repeat: int, case: Any) -> Cell:
    cell = Cell(*key, goodput)
    while len(cell.times) < (1 if cell.times and cell.times[0] > LONG_S else repeat):
        bench.renew()
        if case is None:
            with bench.measure() as figures:
                result = bench.lab.broadcast(
                    bench.source, f"{bench.to}/{{rank}}/", key[0], members=range(1, key[1])
                )
            ranks = [float(t) for t in result.receivers["verified"]]
            cell.chosen = result.plan.strategy
        else:
            figures = case("extract " + key[0][len(ARCHIVE) :])
            stamp = [
                [
                    (bench.work / f"{w}.{bench.lab.names[h]}").stat().st_mtime
                    for h in bench.receivers
                ]
                for w in ("begin", "end")
            ]
            ranks = [end - min(stamp[0]) for end in stamp[1]]
        bench.verify()
        cell.times.append(max(ranks))
        cell.ranks.append([round(t, 4) for t in ranks])
        cell.busy.append(round(1 - figures.idle, 3))
    return cell
