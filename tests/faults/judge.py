"""What must be true after a broadcast with faults, and what is not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from flux_tree.errors import BroadcastError, DestinationError, FluxTreeError

from .schedule import Fault, Schedule

#: What a rank that fails says of a fault of its own.
REASONS = {
    "kill": "killed by SIGKILL|its shell has died",
    "stop": "hung: ",
    "full": "[Nn]o space",
}
#: Seconds after the end of the root within which all others have ended, above the time limit.
GRACE_S = 15.0


@dataclass
class Outcome:
    """How a broadcast ended.

    Attributes
    ----------
    seconds : float
        It took.
    error : Exception or None
        What `broadcast` raised.
    result : Result or None
        What it returned.
    struck : dict of Fault to float
        Faults that happened, and how many seconds before the end.
    late : bool
        It had to be killed.
    alive : list of int
        Processes of it that still run.
    stderr : str
        What was written to standard error.
    missed : list of Fault
        Those whose moment never came.
    sealed : set of int
        Ranks that had all of it, checked, or may have had.
    copies : dict of int to str
        As of `Place.look`.
    temporaries, others : list of str
        Names that are left.
    """

    seconds: float
    error: Exception | None
    result: Any
    struck: dict[Fault, float]
    late: bool
    alive: list[int]
    stderr: str
    missed: list[Fault] = field(default_factory=list)
    sealed: set[int] = field(default_factory=set)
    copies: dict[int, str] = field(default_factory=dict)
    temporaries: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def failures(self) -> dict[int, str]:
        """The ranks that failed, and why."""
        return getattr(self.error or self.result, "failures", {})

    def __str__(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        return f"{len(self.result.delivered)} have it" + (
            f", not {','.join(map(str, self.failures))}" if self.failures else ""
        )


class Judge:
    """Looks for what is wrong with the outcome of a schedule; `complaints` has it."""

    def __init__(self, schedule: Schedule, outcome: Outcome) -> None:
        self.schedule = schedule
        self.outcome = outcome
        self.complaints: list[str] = []
        self.everybody = set(range(schedule.ranks))
        good = [f for f in outcome.struck if f.for_good]
        self.faults = {rank: f for f in good for rank in f.ranks}
        self.harmed = set(self.faults)
        #: without a link of the root nobody gets anything
        cut_off = any(f.kind == "link" and 0 in f.ranks for f in good)
        self.excused = self.everybody if cut_off else self.harmed
        self.have = {r for r, c in outcome.copies.items() if c == "right"}
        #: who is harmed while all rename has everything: nobody can take that back
        all_or_any = all if schedule.on_failure == "abort" else any
        self.renaming = all_or_any(rank in outcome.sealed for rank in self.harmed)
        self._always()
        if outcome.error is None:
            self._ended_well()
        else:
            self._ended_badly(outcome.error)

    def need(self, true: Any, complaint: str) -> None:
        """Complain, if something is not true."""
        if not true:
            self.complaints.append(complaint)

    def _always(self) -> None:
        out = self.outcome
        self.need(not out.late, f"hung: killed after {out.seconds:.0f} s")
        self.need(not out.alive, f"processes are left: {out.alive}")
        self.need("Traceback" not in out.stderr, f"a traceback:\n{out.stderr}")
        self.need(not out.others, f"files are left: {out.others}")
        kept = [t for t in out.temporaries if not self._may_stay(t)]
        self.need(not kept, f"temporaries are left: {kept}")
        for rank, copy in out.copies.items():
            self.need(copy in ("right", "old", "nothing"), f"rank {rank}: {copy}")
            self.need(
                copy != "nothing" or not self.schedule.old, f"rank {rank}: what was there has gone"
            )
        for rank, text in out.failures.items():
            fault = self.faults.get(rank)
            self.need(text and "\n" not in text, f"rank {rank}: reason {text!r}")
            if fault is not None:
                reason = REASONS.get(fault.kind, "")
                self.need(re.search(reason, text), f"{fault}: reason {text!r} of rank {rank}")
        root = [ago for f, ago in out.struck.items() if f.for_good and 0 in f.ranks]
        limit = self.schedule.timeout + GRACE_S
        self.need(
            not root or out.error is None or max(root) < limit,
            f"the root was lost {max(root, default=0):.1f} s before the end",
        )

    def _may_stay(self, temporary: str) -> bool:
        if self.schedule.resume:
            return "/.flux-tree-partial-" in temporary
        # a shell that was killed cannot clean up, and nobody else is on its host
        rank = int(temporary.rpartition("/to/")[2].split("/")[0])
        return self.schedule.engine == "job" and rank in self.harmed

    def _ended_well(self) -> None:
        out, failed = self.outcome, set(self.outcome.failures)
        self.need(
            self.schedule.on_failure == "continue" or not failed, f"abort, but {failed} failed"
        )
        self.need(0 not in failed, f"it ended well without the root: {out.failures.get(0)}")
        for rank in sorted(failed - self.excused):
            self.need(False, f"rank {rank} failed unharmed: {out.failures[rank]}")
        for rank in sorted(self.everybody - failed - self.have):
            self.need(False, f"rank {rank} has nothing, and no failure")
        enough = self.schedule.min_ranks or 1
        self.need(self.renaming or len(self.have) >= enough, f"only {len(self.have)} have it")
        self.need(
            set(out.result.delivered.tolist()) == self.everybody - failed,
            f"delivered: {out.result.delivered.tolist()}",
        )
        for record in out.result.records[1:]:
            if record["state"] == 3 and not record["bad_chunks"]:
                got = int(record["bytes_in"] + record["bytes_kept"])
                rank = int(record["rank"])
                self.need(got == out.result.bytes, f"rank {rank}: {got} bytes of it were fetched")

    def _ended_badly(self, error: Exception) -> None:
        failed = set(self.outcome.failures)
        self.need(isinstance(error, FluxTreeError), f"it raised {error!r}")
        self.need(
            isinstance(error, (BroadcastError, DestinationError)),
            f"{type(error).__name__}: {error}",
        )
        if not self.harmed:
            self.need(False, f"nobody was harmed, but: {error}")
            return
        self.need("\n" not in str(error), f"more than one line: {error}")
        self.need(self._names_one(error), f"it names none of {sorted(self.excused)}: {error}")
        if self.schedule.on_failure == "continue" and 0 not in self.harmed:
            enough = self.schedule.min_ranks or 1
            self.need(
                len(self.everybody - self.excused) < enough,
                f"{sorted(self.everybody - self.excused)} could have it: {error}",
            )
            for rank in sorted(failed - self.excused):
                self.need(False, f"rank {rank} failed unharmed: {self.outcome.failures[rank]}")
        unharmed = self.everybody - self.excused
        all_of_them = self.renaming and self.have >= unharmed
        self.need(not self.have or all_of_them, f"an error, but {sorted(self.have)} have it")

    def _names_one(self, error: Exception) -> bool:
        rank = getattr(error, "rank", None)
        if rank is not None:
            return rank in self.excused and re.search(rf"rank {rank}\b", str(error)) is not None
        return any(re.search(rf"(rank |lab){rank}\b", str(error)) for rank in self.excused)


def judge(schedule: Schedule, outcome: Outcome) -> list[str]:
    """Return what is wrong with the outcome of a schedule."""
    return Judge(schedule, outcome).complaints


def judge_resumed(
    schedule: Schedule, outcome: Outcome, before: dict[int, str], partial: dict[int, int]
) -> list[str]:
    """Return what is wrong with a run without faults after one that has left something.

    Parameters
    ----------
    schedule, outcome
        As of `judge`.
    before : dict of int to str
        As of `Place.look`, of the first run.
    partial : dict of int to int
        Bytes that it left of each rank's data.
    """
    complaints = judge(schedule, outcome)
    if outcome.error is not None:
        return complaints
    if outcome.temporaries:
        complaints.append(f"the second run has left {outcome.temporaries}")
    for record in outcome.result.records[1:]:
        rank, kept = int(record["rank"]), int(record["bytes_kept"])
        if before[rank] == "right" and kept != outcome.result.bytes:
            complaints.append(f"rank {rank} had everything, and kept {kept}")
        elif partial[rank] > schedule.size // 2 and kept == 0:
            complaints.append(f"rank {rank} had {partial[rank]} bytes, and kept none")
    return complaints
