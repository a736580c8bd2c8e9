"""Broadcasts under faults that follow from a seed; `make soak` runs hundreds of others."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace

import pytest
from faults import job, lab, local
from faults.schedule import KINDS, MOMENTS, Fault, Schedule

#: Such as take about a second, or hang no longer than their time limit of 4 or 5 s; in Flux, all
#: of these.
LOCAL = (
    *(3, 20, 24, 46, 49, 51, 104, 117, 125, 145, 148, 153, 163),
    *(168, 172, 175, 180, 186, 206, 209, 220, 222, 228, 236),
)
LAB = (16, 37, 38)
JOBS = (7, 27, 28, 30)
STOPPED = (3, 4, 5, 6, 7)


#: A fault may come too late, as all has come by then; what is right then as well is looked at too.
TRIES = 8


def check(run, schedule, tmp_path):
    for _ in range(TRIES):
        outcome, complaints = run(schedule, tmp_path)
        assert complaints == []
        assert list(tmp_path.iterdir()) == []
        if outcome.struck:
            return outcome
    raise AssertionError("no fault came in time")


@pytest.mark.parametrize("seed", LOCAL)
def test_between_processes(seed, tmp_path):
    schedule = Schedule.of(seed)
    if schedule.needs_root and (os.geteuid() != 0 or not shutil.which("ss")):
        pytest.skip("mounts file systems or resets connections: needs root, and iproute2")
    check(local.run, schedule, tmp_path)


@pytest.mark.lab
@pytest.mark.parametrize("seed", LAB)
def test_in_the_lab(seed, tmp_path):
    check(lab.run, Schedule.of(seed, "lab"), tmp_path)


@pytest.mark.lab
@pytest.mark.flux
def test_jobs():
    lines = list(job.run_many(iter(JOBS), time.monotonic() + 60))
    assert [line.seed for line in lines] == list(JOBS)
    assert [str(line) for line in lines if line.complaints] == []
    assert any(line.struck for line in lines)


def test_a_seed_is_a_schedule():
    for engine, kinds in KINDS.items():
        schedules = [Schedule.of(seed, engine) for seed in range(300)]
        assert schedules == [Schedule.of(seed, engine) for seed in range(300)]
        faults = [f for s in schedules for f in s.faults]
        assert {f.kind for f in faults} == set(kinds)
        assert {f.at for f in faults} == set(MOMENTS)


def test_a_rank_that_stops_before_it_has_closed_what_it_inherited(tmp_path):
    """It holds the ends of the others' pipes."""
    schedule = Schedule.of(0)
    schedule = replace(
        schedule, ranks=8, size=1_000_000, timeout=2.0, faults=(Fault("stop", STOPPED, 0.0),)
    )
    outcome = check(local.run, schedule, tmp_path)
    assert sorted(outcome.failures) == list(STOPPED)
