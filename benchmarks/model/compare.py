"""Predict what was measured, and say how far off that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flux_tree import strategies
from flux_tree.model import Network, predict
from flux_tree.topology import Topology

from .measure import ARCHIVE, Cell

METHODS = ("simulation", "closed-form")


@dataclass
class Compared:
    """A cell, and what each method says of it: errors as shares of what was measured."""

    cell: Cell
    errors: dict[str, float]


def compare(cells: Sequence[Cell], network: Network) -> list[Compared]:
    """Predict each cell.

    Parameters
    ----------
    cells : sequence of Cell
        What was measured.
    network : Network
        As calibrated, once; of each cell only what a stream moves between two of its hosts is
        taken.

    Returns
    -------
    list of Compared
    """
    done = []
    for cell in cells:
        here = replace(network, bandwidth=cell.goodput)
        content = cell.what.startswith(ARCHIVE)
        if content:
            topology = Topology.from_spec(cell.what[len(ARCHIVE) :], cell.hosts)
            plan = strategies.plan("all", topology, range(1, cell.hosts))
        else:
            plan = strategies.plan(cell.what, cell.hosts, range(1, cell.hosts))
        errors = {}
        for method in METHODS:
            transport = "content" if content else "direct"
            time = predict(plan, cell.size, here, method=method, transport=transport).time
            errors[method] = time / cell.time - 1
        done.append(Compared(cell, errors))
    return done


def table(compared: Sequence[Compared], method: str) -> list[str]:
    """Return a table in Markdown: measured seconds, and the error of a method.

    Parameters
    ----------
    compared : sequence of Compared
        A row for each way, a column for each lab and size.
    method : str
        Which.

    Returns
    -------
    list of str
        Lines.
    """
    columns = list(dict.fromkeys((c.cell.hosts, c.cell.rate, c.cell.size) for c in compared))
    found = {(c.cell.what, c.cell.hosts, c.cell.rate, c.cell.size): c for c in compared}
    titles = [f"{n} hosts, {r * 8 / 1e6:.0f} Mbit/s, {s >> 20} MiB" for n, r, s in columns]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(columns)]
    for what in dict.fromkeys(c.cell.what for c in compared):
        row = []
        for column in columns:
            c = found.get((what, *column))
            row.append(f"{c.cell.time:.2f} s {c.errors[method]:+.1%}" if c else "-")
        lines.append(f"| {what} | " + " | ".join(row) + " |")
    return lines


def summary(compared: Sequence[Compared]) -> list[str]:
    """Return the errors of each method in a line each.

    Parameters
    ----------
    compared : sequence of Compared
        All cells.

    Returns
    -------
    list of str
    """
    lines = []
    for method in METHODS:
        errors = np.abs([c.errors[method] for c in compared])
        worst = compared[int(errors.argmax())]
        lines.append(
            f"{method}: median error {np.median(errors):.1%}, {np.count_nonzero(errors > 0.15)} of"
            f" {len(errors)} above 15%; the worst {errors.max():.1%}: {worst.cell.what},"
            f" {worst.cell.hosts} hosts, {worst.cell.rate * 8 / 1e6:.0f} Mbit/s,"
            f" {worst.cell.size >> 20} MiB"
        )
    return lines


def choices(compared: Sequence[Compared], chosen: dict[tuple[int, float, int], Cell]) -> list[str]:
    """Return how what "auto" chooses compares with the best strategy that was measured.

    Parameters
    ----------
    compared : sequence of Compared
        All cells.
    chosen : dict
        The measured cell of the strategy that was chosen, by hosts, rate and size.

    Returns
    -------
    list of str
        A line for each, and one on the worst.
    """
    lines, ratios = [], []
    for key, cell in chosen.items():
        best = min(
            (c.cell for c in compared if (c.cell.hosts, c.cell.rate, c.cell.size) == key),
            key=lambda c: c.time,
        )
        ratios.append(cell.time / best.time)
        hosts, rate, size = key
        lines.append(
            f"{hosts} hosts, {rate * 8 / 1e6:.0f} Mbit/s, {size >> 20} MiB: {cell.what}"
            f" {cell.time:.2f} s; the best, {best.what}, {best.time:.2f} s: {ratios[-1]:.3f}"
        )
    lines.append(f"auto against the best that was measured: at most {max(ratios):.3f}")
    return lines
