"""What is said of one schedule."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Callable

from .judge import Outcome
from .schedule import Schedule


@dataclass(frozen=True)
class Line:
    """How a schedule ended: one line, and what is wrong below it.

    Attributes
    ----------
    struck : tuple of str
        Kinds of the faults that happened.
    complaints : tuple of str
        What is wrong.
    """

    engine: str
    seed: int
    seconds: float
    shape: str
    faults: str
    outcome: str
    struck: tuple[str, ...]
    complaints: tuple[str, ...]

    def __str__(self) -> str:
        how = "FAILED" if self.complaints else "ok"
        text = f"{self.engine} {self.seed} [{self.shape}] {self.faults} -> {self.outcome} "
        text += f"({self.seconds:.1f} s) {how}"
        for complaint in self.complaints:
            text += f"\n    {complaint}"
        if self.complaints:
            text += f"\n    again: python -m tests.faults --engine {self.engine} --seed {self.seed}"
        return text


def carry_out(schedule: Schedule, run: Callable[[Schedule], tuple[Outcome, list[str]]]) -> Line:
    """Carry a schedule out; say how it ended."""
    begin = time.monotonic()
    try:
        outcome, complaints = run(schedule)
    except Exception:  # of what is here, not of what is tested: the others are run all the same
        outcome, complaints = None, [traceback.format_exc()]
    return line_of(schedule, time.monotonic() - begin, outcome, complaints)


def line_of(
    schedule: Schedule, seconds: float, outcome: Outcome | None, complaints: list[str]
) -> Line:
    """Return what is to be said of a schedule."""
    missed = set(outcome.missed) if outcome else set()
    faults = [f"{f}{' (missed)' if f in missed else ''}" for f in schedule.faults]
    return Line(
        schedule.engine,
        schedule.seed,
        seconds,
        schedule.shape,
        "; ".join(faults),
        str(outcome or "none"),
        tuple(f.kind for f in schedule.faults if f not in missed) if outcome else (),
        tuple(complaints),
    )
