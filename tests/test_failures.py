"""Ranks that die, hang or fail: who goes on, who is named, and that nothing is left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from flux_support import wait_until
from support import children, difference, wait_gone

import flux_tree

SIZE = 24 << 20
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


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_a_rank_that_stops_before_it_begins(source, to, on_failure):
    """Its process is there, and it never comes to its first step."""
    launched = threading.Event()

    def at(records):
        pids = [pid for launcher in children(os.getpid()) for pid in children(launcher)]
        if not launched.is_set() and len(pids) > 3:
            launched.set()
            os.kill(pids[3], signal.SIGSTOP)
        return len(pids) == 5

    strike = Strike(signal.SIGSTOP, 3, at=at)
    if on_failure == "abort":
        with pytest.raises(flux_tree.BroadcastError, match=r"^rank 3: hung"):
            send(source, to, "chain", 5, strike)
        check_copies(source, to, [])
    else:
        send(source, to, "chain", 5, strike, on_failure="continue")
        check_copies(source, to, [0, 1, 2, 4])


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


@pytest.fixture
def disk(to, tmp_path):
    """A file system of its own, for rank 2, that can be frozen."""
    image = tmp_path / "image"
    with image.open("wb") as f:
        f.truncate(4 * SIZE)
    (to / "2").mkdir()
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, to / "2"]):
        if not shutil.which(command[0]) or subprocess.run(command).returncode != 0:
            pytest.skip("file systems cannot be made and mounted here")
    yield to / "2"
    subprocess.run(["fsfreeze", "-u", to / "2"], check=False, capture_output=True)
    # whoever waited for it is killed already, and may need a moment to be gone
    wait_until(lambda: subprocess.run(["umount", to / "2"]).returncode == 0)


@pytest.mark.lab
@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_a_disk_that_hangs(source, to, disk, on_failure):
    """Not even SIGKILL ends a rank that waits for it; nobody waits for the rank."""
    frozen = []

    def progress(records):
        if not frozen and some(0.2)(records):
            frozen.append(subprocess.run(["fsfreeze", "-f", disk], check=True))

    options = {"bandwidth": 1e9, "chunk_size": CHUNK, "timeout": TIMEOUT, "progress": progress}
    at = f"{to}/{{rank}}/copy"
    for rank in (0, 1, 3):
        (to / str(rank)).mkdir()
    if on_failure == "abort":
        with pytest.raises(flux_tree.BroadcastError, match=r"^rank 2: hung"):
            flux_tree.broadcast(source, at, "chain", ranks=4, **options)
        assert [os.listdir(to / str(rank)) for rank in (0, 1, 3)] == [[], [], []]
    else:
        result = flux_tree.broadcast(source, at, "chain", ranks=4, on_failure="continue", **options)
        assert list(result.failures) == [2]
        assert all(difference(source, to / str(r) / "copy") == "" for r in (0, 1, 3))
    assert frozen


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_killed_while_the_ranks_rename(to, on_failure):
    """Who is killed is named, unless it had done all; all others have their names."""
    n, victims = 40, (20, 21, 30)
    little = to.parent / "little"
    little.write_bytes(b"little")
    launched: list[int] = []

    def progress(records):
        if not launched:
            pids = [pid for launcher in children(os.getpid()) for pid in children(launcher)]
            launched.extend(pids if len(pids) == n else [])
            if launched:
                threading.Thread(target=strike).start()

    def strike():
        while all(name.startswith(".") for name in os.listdir(to)):
            pass
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(launched[victim], signal.SIGKILL)

    failures = {}
    try:
        result = flux_tree.broadcast(
            little,
            to / "{rank}",
            "chain",
            ranks=n,
            bandwidth=1e9,
            on_failure=on_failure,
            progress=progress,
        )
        failures = result.failures
        assert on_failure == "continue" or not failures
    except flux_tree.BroadcastError as exc:
        failures = exc.failures
        assert on_failure == "abort" and exc.rank == min(failures)
    assert set(failures) <= set(victims)
    names = {int(name) for name in os.listdir(to)}  # temporary ones are no numbers
    assert names >= set(range(n)) - set(failures)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"on_failure": "cry"}, r"on_failure 'cry': must be one of abort, continue"),
        ({"min_ranks": 2}, r"min_ranks 2: only with on_failure='continue'"),
        ({"min_ranks": 0, "on_failure": "continue"}, r"min_ranks 0: .* at least 1"),
        ({"min_ranks": 1.5, "on_failure": "continue"}, r"min_ranks 1\.5: .*whole number"),
        ({"min_ranks": 5, "on_failure": "continue"}, r"min_ranks 5: only 4 ranks keep the data"),
        ({"digest": "md5:12"}, r"digest 'md5:12': give sha256: and 64 hex"),
        ({"digest": "sha256:" + "0" * 63}, r"give sha256: and 64 hex"),
    ],
)
def test_parameters_that_make_no_sense(source, to, options, match):
    with pytest.raises(flux_tree.UsageError, match=match):
        flux_tree.broadcast(source, to / "{rank}", ranks=4, bandwidth=1e9, **options)
    check_copies(source, to, [])


def test_a_digest_is_of_one_file(to, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    with pytest.raises(flux_tree.UsageError, match=r"digest: .*/folder is no single file"):
        flux_tree.broadcast(
            tmp_path / "folder", to / "{rank}", ranks=2, digest="sha256:" + "0" * 64
        )
