"""Ranks that die, hang or fail: who goes on, who is named, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support import children, difference, own_disk, wait_gone

import flux_tree
from flux_tree import _local, _ranks
from flux_tree._table import MAX_REASONS, failure_lines
from flux_tree._transfer import Transfer
from flux_tree.lab import Lab

SIZE = 32 << 20
CHUNK = 64 << 10
#: Seconds after which a rank that is stopped counts as hung.
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "source"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def to(tmp_path):
    path = tmp_path / "to"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Look at the records often enough to strike at the right moment."""
    monkeypatch.setattr(_local, "POLL_S", 0.002)


class Strike:
    """Sends a signal to some ranks at a moment: a progress callback."""

    def __init__(self, sig: int, *ranks: int, at=lambda records: records["bytes_in"].any()):
        self.sig, self.ranks, self.at = sig, ranks, at
        self.pids: list[int] = []

    def __call__(self, records) -> None:
        if self.pids or not self.at(records):
            return
        launchers = children(os.getpid())
        pids = [pid for launcher in launchers for pid in children(launcher)]
        self.pids = launchers + pids
        for rank in self.ranks:
            with suppress(ProcessLookupError):  # it may just have done all
                os.kill(pids[rank], self.sig)

    def check_over(self) -> None:
        assert self.pids, "the moment never came"
        assert wait_gone(self.pids) == []


def some(share: float):
    """When a receiver has so much of the data."""
    return lambda records: records["bytes_in"].max() > share * SIZE


def send(source, to, strategy, ranks, strike, **options):
    options = {"bandwidth": 1e9, "chunk_size": CHUNK, "timeout": TIMEOUT, **options}
    try:
        return flux_tree.broadcast(
            source, to / "{rank}", strategy, ranks=ranks, progress=strike, **options
        )
    finally:
        strike.check_over()


def check_copies(source: Path, to: Path, ranks) -> None:
    """Those ranks have a copy, and nothing else is there."""
    assert sorted(os.listdir(to)) == sorted(map(str, ranks))
    for rank in ranks:
        assert difference(source, to / str(rank)) == ""
    assert children(os.getpid()) == []


def test_a_gate_is_open_when_it_was_opened():
    """When the launcher is killed, its pipes end one after the other."""

    def wait(opened: bool, cancelled: bool) -> bool:
        (cancel, cancel_w), (gate, gate_w) = os.pipe(), os.pipe()
        if opened:
            os.write(gate_w, b"!")
        os.close(gate_w)
        if cancelled:
            os.close(cancel_w)
        try:
            return _ranks._wait(cancel, gate) == {gate}
        finally:
            for fd in (cancel, gate, *([] if cancelled else [cancel_w])):
                os.close(fd)

    assert not wait(opened=False, cancelled=False)
    assert not wait(opened=False, cancelled=True)
    assert wait(opened=True, cancelled=False)
    assert wait(opened=True, cancelled=True)


#: Of 7 ranks: an inner rank of each strategy; several; a rank and its grandparent in the chain.
VICTIMS = [
    ("chain", (3,)),
    ("chain", (2, 4)),
    ("two-tree", (1,)),
    ("two-tree", (1, 2, 5)),
    ("binomial", (4, 6)),
]


@pytest.mark.parametrize(
    ("sig", "strategy", "victims"),
    [(signal.SIGKILL, *v) for v in VICTIMS] + [(signal.SIGSTOP, *v) for v in VICTIMS[1::2]],
)
def test_the_others_go_on(source, to, strategy, victims, sig):
    strike = Strike(sig, *victims, at=some(0.2))
    result = send(source, to, strategy, 7, strike, on_failure="continue")
    left = sorted(set(range(7)) - set(victims))
    check_copies(source, to, left)
    assert sorted(result.failures) == sorted(victims)
    texts = set(result.failures.values())
    if sig == signal.SIGKILL:
        assert texts == {"killed by SIGKILL"}
    else:
        assert all(t.startswith("hung: it has done nothing for 3") for t in texts), texts
    assert result.delivered.tolist() == left
    assert (result.records["deliver"] == 1).all()


def test_an_inner_rank_of_every_tree(source, to):
    plan = flux_tree.Plan([[-1, 0, 1, 1, 1, 2], [-1, 0, 1, 1, 3, 1], [-1, 0, 4, 1, 1, 1]])
    strike = Strike(signal.SIGKILL, 1, at=some(0.3))
    result = send(source, to, plan, None, strike, on_failure="continue")
    check_copies(source, to, [0, 2, 3, 4, 5])
    assert result.failures == {1: "killed by SIGKILL"}
    # whoever had it as a parent has asked another one
    assert (result.records["retries"][2:] > 0).all()


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(lambda r: r["state"].max() >= 0, id="first"),
        pytest.param(lambda r: (r["started"] > 0).all(), id="started"),
        pytest.param(some(0.7), id="late"),
        pytest.param(lambda r: (r["state"] >= 2).any(), id="received"),
    ],
)
def test_killed_at_any_moment(source, to, at):
    def there(records):  # all processes
        pids = [pid for launcher in children(os.getpid()) for pid in children(launcher)]
        return len(pids) == 6 and at(records)

    strike = Strike(signal.SIGKILL, 2, 3, at=there)
    result = send(source, to, "two-tree", 6, strike, on_failure="continue")
    assert set(result.failures) <= {2, 3}
    check_copies(source, to, result.delivered.tolist())
    assert set(result.delivered) | set(result.failures) == set(range(6))


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
def test_abort_ends_all(source, to, sig):
    strike = Strike(sig, 2, at=some(0.2))
    why = "killed by SIGKILL" if sig == signal.SIGKILL else "hung: it has done nothing for 3"
    with pytest.raises(flux_tree.BroadcastError, match=rf"^rank 2: {why}") as e:
        send(source, to, "chain", 5, strike)
    assert e.value.rank == 2 and e.value.exit_code == 5 and list(e.value.failures) == [2]
    check_copies(source, to, [])


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
def test_without_the_root_nobody_goes_on(source, to, sig, on_failure):
    strike = Strike(sig, 0, at=some(0.2))
    why = "killed by SIGKILL" if sig == signal.SIGKILL else "hung: it has done nothing for "
    with pytest.raises(flux_tree.BroadcastError, match=rf"^rank 0: {why}"):
        send(source, to, "two-tree", 5, strike, on_failure=on_failure)
    check_copies(source, to, [])


def test_too_few_are_left(source, to):
    strike = Strike(signal.SIGKILL, 1, 4, at=some(0.2))
    match = (
        "^only 4 of the 6 ranks that keep the data can have it, and min_ranks is 5:"
        " rank [14]: killed by SIGKILL$"
    )
    with pytest.raises(flux_tree.BroadcastError, match=match) as e:
        send(source, to, "chain", 6, strike, on_failure="continue", min_ranks=5)
    assert sorted(e.value.failures) == [1, 4]
    check_copies(source, to, [])


def test_just_enough_are_left(source, to):
    strike = Strike(signal.SIGKILL, 1, 4, at=some(0.2))
    send(source, to, "chain", 6, strike, on_failure="continue", min_ranks=4)
    check_copies(source, to, [0, 2, 3, 5])


def test_only_those_that_keep_the_data_count(source, to):
    plan = flux_tree.Plan([-1, 0, 1, 2, 3], deliver=[False, False, True, True, True])
    strike = Strike(signal.SIGKILL, 1, at=some(0.2))  # a relay
    result = send(source, to, plan, None, strike, on_failure="continue", min_ranks=3)
    assert result.failures == {1: "killed by SIGKILL"}
    check_copies(source, to, [2, 3, 4])


def test_a_phase_does_not_wait_for_who_is_lost(source, to):
    plan = flux_tree.Plan([-1, 0, 0, 1, 2], phase=[0, 0, 0, 1, 1])
    strike = Strike(signal.SIGKILL, 2, at=some(0.2))
    result = send(source, to, plan, None, strike, on_failure="continue")
    check_copies(source, to, [0, 1, 3, 4])
    r = result.records
    assert r["started"][3:].min() >= r["verified"][1]


def test_who_fails_says_why_and_the_others_go_on(source, to):
    (to / "2").write_text("mine")
    result = flux_tree.broadcast(
        source, to / "{rank}", "chain", ranks=5, bandwidth=1e9, on_failure="continue"
    )
    assert list(result.failures) == [2]
    assert "/2: exists: " in result.failures[2]
    assert (to / "2").read_text() == "mine"
    (to / "2").unlink()
    check_copies(source, to, [0, 1, 3, 4])


#: The launcher; its fourth process, rank 3, stops as soon as it is there.
STOPPED = """
import sys; sys.path += sys.argv[1:]
import os, signal
from flux_tree import _launcher
fork, count = os.fork, [0]
def fork_stopped():
    count[0] += 1
    pid = fork()
    if pid == 0 and count[0] == 4:
        os.kill(os.getpid(), signal.SIGSTOP)
    return pid
os.fork = fork_stopped
_launcher.main()
"""


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_a_rank_that_stops_before_it_begins(source, to, on_failure, monkeypatch):
    monkeypatch.setattr(_local, "_START", STOPPED)
    options = {"bandwidth": 1e9, "timeout": TIMEOUT, "on_failure": on_failure}
    if on_failure == "abort":
        with pytest.raises(flux_tree.BroadcastError, match=r"^rank 3: hung") as e:
            flux_tree.broadcast(source, to / "{rank}", "chain", ranks=5, **options)
        assert list(e.value.failures) == [3]
        check_copies(source, to, [])
    else:
        result = flux_tree.broadcast(source, to / "{rank}", "chain", ranks=5, **options)
        assert list(result.failures) == [3]
        check_copies(source, to, [0, 1, 2, 4])


def test_nobody_renames_while_a_rank_is_silent(source, to):
    """One has all it needs and hangs; before it counts as hung, the last of the others is done."""
    stopped: list[int] = []
    late: list[threading.Timer] = []

    def progress(records):
        pids = [pid for launcher in children(os.getpid()) for pid in children(launcher)]
        if not stopped and len(pids) == 4:
            stopped.append(pids[3])
            os.kill(pids[3], signal.SIGSTOP)
        if stopped and not late and len(pids) == 4 and (records["state"][:3] == 2).all():
            late.append(threading.Timer(1.5, os.kill, (pids[3], signal.SIGCONT)))
            late[0].start()
            os.kill(pids[1], signal.SIGSTOP)

    with pytest.raises(flux_tree.BroadcastError, match=r"^rank 1: hung"):
        flux_tree.broadcast(
            source,
            to / "{rank}",
            "flat",
            ranks=4,
            bandwidth=1e9,
            timeout=TIMEOUT,
            progress=progress,
        )
    assert late
    check_copies(source, to, [])


def test_a_pause_is_no_failure(source, to):
    strike = Strike(signal.SIGSTOP, 2, at=some(0.2))
    timers = []

    def progress(records):
        before = bool(strike.pids)
        strike(records)
        if strike.pids and not before:
            pid = strike.pids[1 + 2]
            timers.append(threading.Timer(TIMEOUT / 2, os.kill, (pid, signal.SIGCONT)))
            timers[0].start()

    try:
        flux_tree.broadcast(
            source,
            to / "{rank}",
            "chain",
            ranks=5,
            bandwidth=1e9,
            chunk_size=CHUNK,
            timeout=TIMEOUT,
            progress=progress,
        )
    finally:
        strike.check_over()
    check_copies(source, to, range(5))


#: The launcher; the disk of rank 2 hangs when all has come, and files are to be completed.
FROZEN = """
import sys; sys.path += sys.argv[1:]
import subprocess
from flux_tree import _launcher, _ranks
run_rank, wait_first = _launcher.run_rank, _ranks._wait
def run(shared, rank, cancel, gates, status):
    def wait(cancel, *fds):
        is_time = wait_first(cancel, *fds)
        if rank == 2 and is_time and fds[0] not in gates:
            at = shared.setup["destinations"][2].rpartition("/")[0]
            subprocess.run(["fsfreeze", "-f", at], check=True)
        return is_time
    _ranks._wait = wait
    return run_rank(shared, rank, cancel, gates, status)
_launcher.run_rank = run
_launcher.main()
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    ("on_failure", "begin", "hung"),
    [
        pytest.param("abort", None, 2, id="abort", marks=pytest.mark.slow),
        pytest.param("continue", None, 2, id="continue"),
        pytest.param("abort", None, 0, id="root"),
        pytest.param("abort", FROZEN, 2, id="abort at the end"),
        pytest.param("continue", FROZEN, 2, id="continue at the end", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_hangs(source, to, tmp_path, on_failure, begin, hung, monkeypatch):
    """Not even SIGKILL ends a rank that waits for it; nobody waits for the rank."""
    if begin is not None:
        monkeypatch.setattr(_local, "_START", begin)
    for rank in range(4):
        (to / str(rank)).mkdir()
    others = [rank for rank in range(4) if rank != hung]
    frozen = []

    def progress(records):
        if begin is None and not frozen and some(0.2)(records):
            frozen.append(subprocess.run(["fsfreeze", "-f", to / str(hung)], check=True))

    def send():
        at = f"{to}/{{rank}}/copy"
        options = {"bandwidth": 1e9, "chunk_size": CHUNK, "timeout": 2.0}
        options.update(progress=progress, on_failure=on_failure)
        return flux_tree.broadcast(source, at, "chain", ranks=4, **options)

    with own_disk(tmp_path / "image", to / str(hung), 4 * SIZE):
        if on_failure == "abort":
            with pytest.raises(flux_tree.BroadcastError, match=f"^rank {hung}: hung"):
                send()
            assert [os.listdir(to / str(rank)) for rank in others] == [[], [], []]
        else:
            assert list(send().failures) == [hung]
            assert all(difference(source, to / str(r) / "copy") == "" for r in others)


#: The launcher; rank 1 is killed when it is to rename, and rank 3 comes to that only later.
KILLED = """
import sys; sys.path += sys.argv[1:]
import os, signal, time
from flux_tree import _launcher, _ranks
run_rank, wait_serving = _launcher.run_rank, _ranks._wait_serving
def run(shared, rank, *args):
    def wait(*args):
        if rank == 3:
            time.sleep(1)
        is_time = wait_serving(*args)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return is_time
    _ranks._wait_serving = wait
    return run_rank(shared, rank, *args)
_launcher.run_rank = run
_launcher.main()
"""


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_killed_while_the_ranks_rename(source, to, on_failure, monkeypatch):
    """It is named, and all others have their names: nobody stops them any more."""
    monkeypatch.setattr(_local, "_START", KILLED)
    options = {"bandwidth": 1e9, "on_failure": on_failure}
    if on_failure == "abort":
        with pytest.raises(flux_tree.BroadcastError, match=r"^rank 1: killed by SIGKILL$") as e:
            flux_tree.broadcast(source, to / "{rank}", "chain", ranks=4, **options)
        assert e.value.failures == {1: "killed by SIGKILL"}
    else:
        result = flux_tree.broadcast(source, to / "{rank}", "chain", ranks=4, **options)
        assert result.failures == {1: "killed by SIGKILL"}
    check_copies(source, to, [0, 2, 3])


@pytest.mark.lab
def test_hosts_of_a_lab(source, to):
    strike = Strike(signal.SIGKILL, 2, at=some(0.1))
    with Lab(4, rate=50e6) as lab:
        result = lab.broadcast(
            source,
            to / "{rank}",
            "chain",
            on_failure="continue",
            min_ranks=3,
            timeout=TIMEOUT,
            chunk_size=CHUNK,
            progress=strike,
        )
    strike.check_over()
    assert result.failures == {2: "killed by SIGKILL"}
    assert result.summary()["failures"] == [
        {"rank": 2, "host": result.hosts[2], "text": "killed by SIGKILL"}
    ]
    check_copies(source, to, [0, 1, 3])


def bcast(source, to, *options):
    command = [sys.executable, "-m", "flux_tree", "bcast", source, to / "{rank}", "--ranks=4"]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def test_the_command_goes_on_and_says_who_failed(source, to):
    (to / "2").write_text("mine")
    (to / "3").write_text("mine")
    why = [f"destination {to}/{r}: exists: remove it, or allow overwrite" for r in (2, 3)]
    lines = [f"flux-tree: rank {r} failed: {why[r - 2]}\n" for r in (2, 3)]

    done = bcast(source, to, "--on-failure=continue", "--min-ranks=2")
    assert done.returncode == 0
    assert done.stderr == "".join(lines)
    assert re.search(r"^delivered +2 of 4 +ranks that keep .*; failed: 2, 3$", done.stdout, re.M)
    (to / "0").unlink()
    (to / "1").unlink()

    done = bcast(source, to, "--on-failure=continue", "--json")
    assert (done.returncode, done.stderr.splitlines(True)[2:]) == (0, lines)
    data = json.loads(done.stdout)
    assert data["summary"]["delivered"] == 2
    assert [f["text"] for f in data["summary"]["failures"]] == why
    assert [r["text"] for r in data["records"]] == ["", "", *why]
    (to / "0").unlink()
    (to / "1").unlink()

    done = bcast(source, to, "--on-failure=continue", "--min-ranks=3", "--quiet")
    assert done.returncode == 5
    first, last = done.stderr.splitlines(True)
    assert first == lines[1]
    assert "error: only 2 of the 4 ranks that keep the data can have it" in last
    assert last.endswith(f"{why[0]}\n")
    assert sorted(os.listdir(to)) == ["2", "3"]
    assert (to / "2").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"on_failure": "cry"}, r"on_failure 'cry': must be one of abort, continue"),
        ({"min_ranks": 2}, r"min_ranks 2: only with on_failure continue"),
        ({"min_ranks": 0, "on_failure": "continue"}, r"min_ranks 0: .* at least 1"),
        ({"min_ranks": 1.5, "on_failure": "continue"}, r"min_ranks 1\.5: .*whole number"),
        ({"min_ranks": 5, "on_failure": "continue"}, r"min_ranks 5: only 4 ranks keep the data"),
        ({"digest": "md5:12"}, r"digest 'md5:12': give sha256: and 64 hex"),
        ({"digest": "sha256:" + "0" * 63}, r"give sha256: and 64 hex"),
        ({"digest": 12}, r"digest 12: give sha256: and 64 hex"),
        ({"resume": "no"}, r"resume 'no': must be True or False"),
        ({"fsync": None}, r"fsync None: must be True or False"),
        ({"timeout": "3s"}, r"timeout '3s': must be above 0 seconds"),
    ],
)
def test_parameters_that_make_no_sense(source, to, options, match):
    with pytest.raises(flux_tree.UsageError, match=match):
        flux_tree.broadcast(source, to / "{rank}", ranks=4, bandwidth=1e9, **options)
    check_copies(source, to, [])


def test_numbers_of_numpy_travel_to_a_job():
    given = Transfer(
        timeout=np.float32(2),
        workers=np.int64(3),
        on_failure="continue",
        min_ranks=2.0,
        resume=np.bool_(True),
    )
    options = json.loads(json.dumps(given.options()))
    assert options["timeout"] == 2
    assert str(options["min-ranks"]) == "2"  # the plugin takes no 2.0
    assert (options["workers"], options["resume"]) == (3, True)


def test_a_digest_is_of_one_file(to, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    with pytest.raises(flux_tree.UsageError, match=r"digest: .*/folder is no single file"):
        flux_tree.broadcast(
            tmp_path / "folder", to / "{rank}", ranks=2, digest="sha256:" + "0" * 64
        )


def test_reasons_are_told_once_and_not_without_end():
    same = failure_lines({2: "killed by SIGKILL", 3: "no room", 4: "killed by SIGKILL"})
    assert same == ["ranks 2,4 failed: killed by SIGKILL", "rank 3 failed: no room"]
    assert failure_lines({1: "no room"}, ["a", "b"]) == ["rank 1 (b) failed: no room"]
    many = failure_lines({rank: f"destination /to/{rank}: exists" for rank in range(100)})
    assert len(many) == MAX_REASONS + 1
    assert many[-1] == "84 more failed, each for a reason of its own: 16-99"
