"""Carries a schedule out in a lab: each rank on a host of its own, whose cable can be taken out."""

from __future__ import annotations

from pathlib import Path

from flux_tree.lab import Lab

from .judge import Outcome
from .local import run_with
from .place import place
from .schedule import Schedule

#: The rate of a slow NIC, as a part of that of the others.
SLOW = 0.1


def run(schedule: Schedule, folder: Path | None = None) -> tuple[Outcome, list[str]]:
    """Carry a schedule out and judge it, as `local.run` does."""
    slow = {
        rank: schedule.rate * SLOW
        for fault in schedule.faults
        if fault.kind == "slow"
        for rank in fault.ranks
    }
    with place(schedule, folder) as where, Lab(schedule.ranks, schedule.rate, slow=slow) as lab:
        return run_with(lab.broadcast, schedule, where, lab.set_link)
