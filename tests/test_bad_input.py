"""What cannot work: one clear error that names the thing, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support import children, difference, leftovers, make_payload, wait_gone

import flux_tree
from flux_tree import _local

BIG = 192 << 20


@pytest.fixture
def payload(tmp_path):
    return make_payload(tmp_path / "payload")


@pytest.fixture
def to(tmp_path):
    path = tmp_path / "to"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("big") / "big"
    with path.open("wb") as f:
        for _ in range(BIG >> 20):
            f.write(os.urandom(1 << 20))
    return path


def send(source, to, strategy="chain", ranks=4, **options):
    return flux_tree.broadcast(
        source, to / "{rank}", strategy, ranks=ranks, bandwidth=1e9, **options
    )


def check_clean(to: Path, names: tuple[str, ...] = ()) -> None:
    assert sorted(os.listdir(to)) == sorted(names)
    assert children(os.getpid()) == []


@contextmanager
def as_nobody():
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_such_source(to):
    with pytest.raises(flux_tree.SourceError, match=r"nothing/here: no such file or directory$"):
        send("nothing/here", to)
    check_clean(to)


@pytest.mark.parametrize("as_root", [pytest.param(True, marks=pytest.mark.lab), False])
def test_an_unreadable_file_in_a_directory(payload, to, as_root, tmp_path):
    if not as_root and os.geteuid() == 0:
        pytest.skip("root can read everything: the other case stands for this one")
    bad = payload / "sub" / "small07"
    bad.chmod(0)
    match = r"payload/sub/small07: cannot be read: permission denied$"
    if as_root:
        for path in (tmp_path, *tmp_path.parents):
            if not path.stat().st_mode & 1:
                path.chmod(path.stat().st_mode | 0o111)
        with as_nobody(), pytest.raises(flux_tree.SourceError, match="permission denied"):
            # the files of mode 0400 are as unreadable to nobody as this one is
            send(payload, to)
    else:
        with pytest.raises(flux_tree.SourceError, match=match):
            send(payload, to)
    check_clean(to)


def test_a_socket_in_a_directory(payload, to, monkeypatch):
    monkeypatch.chdir(payload)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("a-socket")
        with pytest.raises(flux_tree.SourceError, match=r"payload/a-socket: is a socket"):
            send(payload, to)
    check_clean(to)


def test_a_named_pipe_in_a_directory(payload, to):
    os.mkfifo(payload / "sub" / "fifo")
    with pytest.raises(flux_tree.SourceError, match=r"payload/sub/fifo: is a named pipe"):
        send(payload, to)
    check_clean(to)


def test_a_device(to):
    with pytest.raises(flux_tree.SourceError, match=r"/dev/null: is a device"):
        send("/dev/null", to)
    check_clean(to)


@pytest.mark.parametrize("change", ["append", "truncate", "rewrite"])
def test_a_source_that_changes_while_it_is_read(big, to, change, tmp_path):
    own = Path(shutil.copyfile(big, tmp_path / "own"))
    done = []

    def progress(records):
        if records["bytes_in"].max() > 0 and not done:
            done.append(True)
            with own.open("r+b") as f:
                if change == "append":
                    f.seek(0, 2)
                if change == "truncate":
                    f.truncate(BIG // 3)
                else:
                    f.write(b"other")

    with pytest.raises(flux_tree.SourceError, match=r"rank 0: source .*own: changed while"):
        send(own, to, progress=progress)
    assert done
    check_clean(to)


def test_a_destination_that_exists(payload, to):
    (to / "2").write_text("mine")
    with pytest.raises(
        flux_tree.DestinationError, match=r"rank 2: destination .*/2: exists: "
    ) as e:
        send(payload, to)
    assert e.value.rank == 2 and e.value.exit_code == 4
    assert (to / "2").read_text() == "mine"
    check_clean(to, ("2",))


def test_a_destination_that_exists_in_a_directory(payload, to):
    for rank in range(4):
        (to / str(rank)).mkdir()
    (to / "2" / payload.name).mkdir()
    name = re.escape(f"rank 2: destination {to}/2/{payload.name}: exists")
    with pytest.raises(flux_tree.DestinationError, match=name):
        send(payload, to)


def test_a_failure_replaces_nothing(payload, to):
    for rank in range(3):
        (to / str(rank)).write_text("mine")
    (to / "3").mkdir()
    (to / "3" / "payload").mkdir()
    with pytest.raises(flux_tree.DestinationError):
        flux_tree.broadcast(payload, f"{to}/{{rank}}/x", ranks=4, overwrite=True)
    for rank in range(3):
        assert (to / str(rank)).read_text() == "mine"
    check_clean(to, ("0", "1", "2", "3"))


@pytest.mark.parametrize("at", ["missing/{rank}", "file/{rank}"])
def test_a_destination_without_a_directory(payload, to, at):
    (to / "file").write_text("")
    with pytest.raises(flux_tree.DestinationError, match=r"rank 0: destination .*/0: "):
        flux_tree.broadcast(payload, to / at, ranks=3, bandwidth=1e9)
    check_clean(to, ("file",))


def test_a_destination_that_cannot_be_written(payload):
    with pytest.raises(flux_tree.DestinationError, match=r"rank 0: destination /proc/x-0: "):
        flux_tree.broadcast(payload, "/proc/x-{rank}", ranks=2, bandwidth=1e9)
    assert children(os.getpid()) == []


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BIG * 3 // 2}", "tmpfs", path]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.lab
def test_a_disk_that_is_full_in_the_middle(big, small_disk):
    # there is room for each of the two, but not for both
    with pytest.raises(flux_tree.DestinationError, match=r"rank \d: destination .*[Nn]o space"):
        send(big, small_disk, ranks=2)
    check_clean(small_disk)


@pytest.mark.lab
def test_a_disk_that_is_too_small_is_known_before(big, small_disk):
    (small_disk / "other").write_bytes(bytes(BIG))
    with pytest.raises(flux_tree.DestinationError, match=r"no space left .* needed, \d+ free"):
        send(big, small_disk, ranks=2)
    check_clean(small_disk, ("other",))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"strategy": "binomal"}, r"binomal.*binomial"),
        ({"strategy": "kary:x"}, r"kary:x"),
        ({"strategy": "no.such.module:Class"}, r"no\.such\.module"),
        ({"topology": "kary:"}, r"kary:"),
        ({"ranks": 0}, r"ranks 0: must be at least 1"),
        ({"ranks": -3}, r"ranks -3"),
        ({"ranks": 100_000}, r"ranks 100000: one machine takes at most 1024"),
        ({"security": "ssl"}, r"security 'ssl'.*tls, none"),
        ({"chunk_size": 5}, r"chunk size 5"),
        ({"chunk_size": 1 << 40}, r"chunk size"),
        ({"timeout": 0}, r"timeout 0"),
        ({"members": [99]}, r"99"),
        ({"workers": 0}, r"workers 0"),
        ({"workers": 1.5}, r"workers 1\.5"),
    ],
)
def test_parameters_that_make_no_sense(payload, to, options, match):
    with pytest.raises(flux_tree.UsageError, match=match) as e:
        send(payload, to, **options)
    assert e.value.exit_code == 2 and "\n" not in str(e.value)
    check_clean(to)


@pytest.mark.parametrize("bandwidth", [0, -1.0, float("nan")])
def test_a_bandwidth_that_makes_no_sense_is_known_before(payload, to, bandwidth):
    with pytest.raises(flux_tree.UsageError, match="bandwidth"):
        flux_tree.broadcast(payload, to / "{rank}", ranks=2, bandwidth=bandwidth)
    check_clean(to)


@pytest.mark.parametrize("path", ["", "a\0b-{rank}"])
def test_what_is_no_path(payload, to, path, monkeypatch):
    monkeypatch.chdir(to)
    with pytest.raises(flux_tree.UsageError, match=r"destination '.*: no path"):
        flux_tree.broadcast(payload, path, ranks=2)
    with pytest.raises(flux_tree.SourceError, match=r"source '.*: no path"):
        flux_tree.broadcast(path, to / "{rank}", ranks=2)
    check_clean(to)


def test_a_destination_without_rank(payload, to):
    with pytest.raises(flux_tree.UsageError, match=r"\{rank\}"):
        flux_tree.broadcast(payload, to / "x", ranks=2)
    check_clean(to)


def ranks_of(pid: int) -> tuple[list[int], list[int]]:
    """The process that starts the ranks, and the ranks, of the broadcast that `pid` makes."""
    launchers = children(pid)
    return launchers, [rank for p in launchers for rank in children(p)]


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_rank_that_is_killed(big, to, which):
    victims = []

    def progress(records):
        if records["bytes_in"].max() > 0 and not victims:
            _, ranks = ranks_of(os.getpid())
            victims.extend(ranks)
            os.kill(ranks[which], signal.SIGKILL)

    with pytest.raises(flux_tree.BroadcastError, match=rf"rank {which}: killed by SIGKILL$") as e:
        send(big, to, progress=progress)
    assert e.value.rank == which
    assert wait_gone(victims) == []
    check_clean(to)


def test_the_launcher_is_killed(big, to):
    pids = []

    def progress(records):
        if records["bytes_in"].max() > 0 and not pids:
            launchers, ranks = ranks_of(os.getpid())
            pids.extend(launchers + ranks)
            os.kill(launchers[0], signal.SIGKILL)

    with pytest.raises(flux_tree.BroadcastError, match="died"):
        send(big, to, progress=progress)
    assert wait_gone(pids) == []
    check_clean(to)


COMMAND = """
import sys, flux_tree
flux_tree.broadcast(sys.argv[1], sys.argv[2] + "/{rank}", "chain", ranks=4)
"""


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_caller_is_interrupted(big, to, sig):
    caller = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(big), str(to)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while not leftovers(to) and time.monotonic() < deadline:
        time.sleep(0.005)
    launchers, ranks = ranks_of(caller.pid)
    assert len(ranks) == 4
    os.kill(caller.pid, sig)
    assert caller.wait() != 0
    assert wait_gone(launchers + ranks) == []
    assert os.listdir(to) == []


MANY = 80


def test_an_interrupt_while_ranks_rename_leaves_all_or_none(to, tmp_path):
    source = tmp_path / "little"
    source.write_bytes(b"little")
    command = COMMAND.replace("4", str(MANY))
    caller = subprocess.Popen(
        [sys.executable, "-c", command, str(source), str(to)], stderr=subprocess.DEVNULL
    )
    while caller.poll() is None and all(n.startswith(".") for n in os.listdir(to)):
        pass
    caller.send_signal(signal.SIGINT)
    caller.wait()
    assert sorted(os.listdir(to)) == sorted(map(str, range(MANY)))


def test_a_slow_child_holds_back_nobody_else(to, tmp_path, monkeypatch):
    monkeypatch.setattr(_local, "POLL_S", 0.002)  # little data is enough to stop it meanwhile
    source = tmp_path / "source"
    source.write_bytes(os.urandom(BIG // 4))
    slow: list[int] = []
    others_done: list[bool] = []

    def progress(records):
        if not slow and records["bytes_in"].max() > 0:
            _, ranks = ranks_of(os.getpid())
            slow.append(ranks[2])
            os.kill(slow[0], signal.SIGSTOP)
        if slow and not others_done:
            others = np.delete(records, [0, 2])
            if (others["state"] >= 2).all() and records["state"][2] < 2:
                others_done.append(True)
                os.kill(slow[0], signal.SIGCONT)

    # whatever goes wrong, the test ends
    timer = threading.Timer(60, lambda: [os.kill(p, signal.SIGKILL) for p in slow])
    timer.start()
    try:
        send(source, to, "flat", 5, progress=progress)
    finally:
        timer.cancel()
    assert others_done
    for rank in range(5):
        assert difference(source, to / str(rank)) == ""


LIMITED = """
import resource, sys, flux_tree
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
try:
    flux_tree.broadcast(sys.argv[1], sys.argv[2] + "/{rank}", "chain", ranks=100)
except flux_tree.BroadcastError as exc:
    print(exc)
"""


def test_no_more_files(payload, to):
    command = [sys.executable, "-c", LIMITED, str(payload), str(to)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the ranks cannot be started: Too many open files" in done.stdout
    assert done.stderr == ""
    assert os.listdir(to) == []
