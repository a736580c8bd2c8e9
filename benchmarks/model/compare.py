"""Predict what was measured, and say how far off that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flux_tree import strategies
from flux_tree.model import Network, predict
from flux_tree.topology import Topology

from .measure import ARCHIVE, AUTO, Cell

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
    for method in METHODS if compared else ():
        errors = np.abs([c.errors[method] for c in compared])
        worst = compared[int(errors.argmax())]
        lines.append(
            f"{method}: median error {np.median(errors):.1%}, {np.count_nonzero(errors > 0.15)} of"
            f" {len(errors)} above 15%; the worst {errors.max():.1%}: {worst.cell.what},"
            f" {worst.cell.hosts} hosts, {worst.cell.rate * 8 / 1e6:.0f} Mbit/s,"
            f" {worst.cell.size >> 20} MiB"
        )
    return lines


def choices(cells: Sequence[Cell]) -> list[str]:
    """Return how what "auto" chose compares with the best that was measured.

    Parameters
    ----------
    cells : sequence of Cell
        All of them.

    Returns
    -------
    list of str
        A line for each lab and size, and one on the worst; nothing if "auto" was not measured.
    """
    lines, ratios = [], []
    for cell in (c for c in cells if c.what == AUTO):
        same = [c for c in cells if c.key[1:] == cell.key[1:] and c.what != AUTO]
        if not same:
            continue
        best = min(same, key=lambda c: c.time)
        ratios.append(cell.time / best.time)
        lines.append(
            f"{cell.hosts} hosts, {cell.rate * 8 / 1e6:.0f} Mbit/s, {cell.size >> 20} MiB:"
            f" auto took {cell.chosen}, {cell.time:.2f} s; the best, {best.what},"
            f" {best.time:.2f} s: {ratios[-1]:.3f}"
        )
    if ratios:
        lines.append(f"auto against the best that was measured: at most {max(ratios):.3f}")
    return lines
