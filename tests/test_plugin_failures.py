"""What becomes of a job's broadcast when its shells are killed, stopped or cut off."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from flux_support import PACKAGE, rank_of, shells_of, wait_until
from support import difference, instance, leftovers, make_payload, own_disk, wait_gone

pytestmark = pytest.mark.flux

SIZE = 4
#: Seconds until a shell that is stopped counts as hung.
TIMEOUT = 2
PLUGIN = PACKAGE / "_plugin.abi3.so"
HOST = os.uname().nodename
#: A task that leaves a trace where the copies are.
TOUCH = ("sh", "-c", "cd $ROOM && touch started-$FLUX_TASK_RANK")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    with instance(tmp_path_factory.mktemp("instance"), SIZE, "-Stbon.topo=kary:2") as uri:
        yield uri


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Data that takes long enough to stop somebody meanwhile."""
    path = tmp_path_factory.mktemp("large") / "large"
    block = os.urandom(1 << 20)
    with path.open("wb") as f:
        for i in range(128):
            f.write(i.to_bytes(8, "big") + block[8:])
    yield path
    path.unlink()


@pytest.fixture
def room(tmp_path):
    """A place for copies, which are not kept with the logs of the tests."""
    yield tmp_path
    for path in tmp_path.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)


@pytest.fixture(autouse=True)
def environment(uri, monkeypatch, tmp_path):
    monkeypatch.setenv("ROOM", str(tmp_path))
    monkeypatch.setenv("FLUX_URI", uri)
    monkeypatch.setenv("FLUX_SHELL_RC_PATH", str(PACKAGE / "shell"))


def flux(*args, check=True):
    done = subprocess.run(["flux", *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or not check, done.stderr
    return done


def submit(source, room, *command, args=(), **options):
    """Start a broadcast down a chain."""
    options = {"strategy": "chain", "timeout": TIMEOUT, "security": "none", **options}
    keys = [f"-otree-bcast.{k.replace('_', '-')}={v}" for k, v in options.items()]
    keys += [f"-otree-bcast.file={source}", f"-otree-bcast.destination={room}/{{rank}}"]
    return flux("submit", f"-N{SIZE}", *args, *keys, *(command or ("true",))).stdout.strip()


def signal_midway(job, room, rank, number):
    """Send a signal to the shell of a rank when it has begun to receive."""
    wait_until(lambda: any(name.endswith(f"-{rank}") for name in leftovers(room)))
    pid = shells_of(job)[rank]
    os.kill(pid, number)
    return pid


def report(job):
    return json.loads(flux("job", "info", job, "guest.tree-bcast").stdout)


def record(document, rank):
    return dict(zip(document["fields"], document["records"][rank]))


def notes(job):
    """Return the notes of a job's fatal exceptions."""
    events = map(json.loads, flux("job", "eventlog", "--format=json", job).stdout.splitlines())
    exceptions = [e["context"] for e in events if e["name"] == "exception"]
    return [e["note"] for e in exceptions if e["severity"] == 0]


def attach(job, stopped=None):
    """Wait for the end of a job; return what it printed.

    Flux itself waits long until it kills shells that it has asked to end, so one that was stopped
    is killed here as soon as the job has its exception.
    """
    begin = time.monotonic()
    if stopped is not None:
        flux("job", "wait-event", "--timeout=30", job, "exception")
        os.kill(stopped, signal.SIGKILL)
    done = flux("job", "attach", job, check=False)
    assert time.monotonic() - begin < 30
    assert "Traceback" not in done.stderr
    return done


def started(room):
    """Return the tasks that have left a trace."""
    return sorted(int(path.name.partition("-")[2]) for path in room.glob("started-*"))


def have_it(large, room, ranks):
    for rank in range(SIZE):
        if rank in ranks:
            assert difference(large, room / str(rank)) == ""
        else:
            assert not (room / str(rank)).exists()


# ---- on-failure=continue


@pytest.mark.parametrize(
    ("number", "text"),
    [(signal.SIGKILL, "its shell has died"), (signal.SIGSTOP, "hung: nothing was heard of it")],
)
def test_the_others_go_on_without_a_shell_that_is_gone(large, room, number, text):
    job = submit(large, room, *TOUCH, on_failure="continue")
    pid = signal_midway(job, room, 1, number)
    done = attach(job, stopped=pid if number == signal.SIGSTOP else None)
    document = report(job)
    assert (document["ok"], document["error"], document["failed"]) == (True, None, [1])
    assert record(document, 1)["state"] == 4
    assert text in record(document, 1)["text"]
    have_it(large, room, {0, 2, 3})
    assert all(name.endswith("-1") for name in leftovers(room))  # of the one that is gone
    assert started(room) == []
    assert f"rank 1 ({HOST}) is given up: {text}" in done.stderr
    (note,) = notes(job)
    assert note.startswith(f"rank 1 ({HOST}): {text}")
    assert note.endswith(
        "; 3 of 4 nodes have the data, but Flux starts no job without one of its shells"
    )


def test_a_shell_that_dies_before_it_has_said_hello(large, room, tmp_path_factory, monkeypatch):
    """Nobody waits for it until the time limit."""
    folder = tmp_path_factory.mktemp("rc")
    text = f'if shell.info.rank ~= 2 then plugin.load {{ file = "{PLUGIN}" }} end\n'
    (folder / "partial.lua").write_text(text)
    monkeypatch.setenv("FLUX_SHELL_RC_PATH", str(folder))
    job = submit(large, room, "sleep", "60", on_failure="continue", timeout=60)
    flux("job", "wait-event", "-p", "exec", job, "shell.init")
    os.kill(shells_of(job)[2], signal.SIGKILL)
    attach(job)
    assert report(job)["failed"] == [2]
    have_it(large, room, {0, 1, 3})


def test_two_that_fail_in_different_ways(large, room):
    (room / "3").write_text("mine")
    job = submit(large, room, *TOUCH, on_failure="continue", min_ranks=2)
    signal_midway(job, room, 1, signal.SIGKILL)
    attach(job)
    # those of rank 3, which failed at once, have waited for the others
    assert started(room) == []
    document = report(job)
    assert document["ok"]
    assert document["failed"] == [1, 3]
    assert "exists" in record(document, 3)["text"]
    assert (room / "3").read_text() == "mine"
    assert difference(large, room / "2") == ""


def test_too_few_are_left(large, room):
    (room / "3").write_text("mine")
    job = submit(large, room, *TOUCH, on_failure="continue", min_ranks=SIZE)
    attach(job)
    document = report(job)
    assert not document["ok"]
    assert document["error"]["rank"] == 3
    assert document["error"]["kind"] == "destination"
    (note,) = notes(job)
    assert note.startswith(f"rank 3 ({HOST}): destination {room}/3: exists")
    assert note.endswith("; 3 ranks are left to get the data, and min-ranks is 4")
    # nobody has renamed, no task has started
    assert [p.name for p in room.iterdir()] == ["3"]


def test_just_enough_are_left(large, room):
    (room / "3").write_text("mine")
    job = submit(large, room, *TOUCH, on_failure="continue", min_ranks=SIZE - 1)
    assert attach(job).returncode == 0
    assert started(room) == list(range(SIZE))
    assert report(job)["failed"] == [3]


def test_more_ranks_than_there_are(large, room):
    job = submit(large, room, on_failure="continue", min_ranks=3, members="0,2")
    attach(job)
    assert notes(job) == ["option tree-bcast.min-ranks=3: only 2 ranks keep the data: give fewer"]
    assert list(room.iterdir()) == []


def test_phases_do_not_wait_for_a_rank_that_failed(large, room):
    """middle-leaves: the leaf of kary:2 over 4 begins when the middle has everything."""
    (room / "1").write_text("mine")
    job = submit(large, room, strategy="middle-leaves:strict", on_failure="continue")
    assert attach(job).returncode == 0
    document = report(job)
    assert document["failed"] == [1]
    kept = [rank for rank in range(SIZE) if record(document, rank)["deliver"]]
    assert 3 in kept
    assert difference(large, room / "3") == ""


def test_through_the_content_cache(room, tmp_path_factory):
    top = make_payload(tmp_path_factory.mktemp("archived") / "payload")
    for path in top.iterdir():
        if not path.name.isprintable():
            path.unlink()
    (room / "2").write_text("mine")
    flux("archive", "create", "--name=failures", "-C", top.parent, "payload")
    try:
        option = "-otree-bcast=all,transport=content,archive=failures,on-failure=continue,fsync"
        job = flux(
            "submit", f"-N{SIZE}", f"{option},destination={room}/{{rank}}", "true"
        ).stdout.strip()
        done = attach(job)
    finally:
        flux("archive", "remove", "--name=failures")
    assert done.returncode == 0
    assert report(job)["failed"] == [2]
    for rank in (0, 1, 3):
        assert (room / str(rank) / "payload" / "file4").read_bytes() == (top / "file4").read_bytes()


def test_a_broker_that_dies(large, room, tmp_path_factory, monkeypatch):
    """Flux would end the job at once if its shell were as critical as others."""
    top = tmp_path_factory.mktemp("mortal")
    options = ("--test-exit-mode=leader", "-Stbon.topo=kary:2")
    with instance(top, SIZE, *options) as uri:
        monkeypatch.setenv("FLUX_URI", uri)
        job = submit(large, room, on_failure="continue", timeout="5s")
        wait_until(lambda: any(name.endswith("-3") for name in leftovers(room)))
        shell = shells_of(job)[3]
        parent = int(Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1])
        assert rank_of(parent) == 3
        os.kill(parent, signal.SIGKILL)
        attach(job)
        document = report(job)
        assert document["ok"]
        assert document["failed"] == [3]
        have_it(large, room, {0, 1, 2})


# ---- on-failure=abort


def test_a_shell_that_hangs_ends_the_job(large, room):
    job = submit(large, room)
    attach(job, stopped=signal_midway(job, room, 2, signal.SIGSTOP))
    (note,) = notes(job)
    assert note == f"rank 2 ({HOST}): hung: nothing was heard of it for {TIMEOUT} s"
    assert report(job)["error"]["rank"] == 2
    assert list(room.iterdir()) == [Path(name) for name in leftovers(room)]
    assert all(name.endswith("-2") for name in leftovers(room))


@pytest.mark.lab
def test_a_disk_that_hangs_while_ranks_rename(large, room, tmp_path_factory):
    """The shell's other threads go on then, and so does its reactor."""
    (room / "2").mkdir()
    image = tmp_path_factory.mktemp("disk") / "image"
    with own_disk(image, room / "2", 160 << 20):
        job = submit(large, room, strategy="flat", on_failure="continue")
        late = signal_midway(job, room, 1, signal.SIGSTOP)
        time.sleep(1)  # rank 2 gets all meanwhile, and can go on only with rank 1
        subprocess.run(["fsfreeze", "-f", room / "2"], check=True)
        os.kill(late, signal.SIGCONT)
        flux("job", "wait-event", "--timeout=20", job, "exception")
        (note,) = notes(job)
        assert note.startswith(f"rank 2 ({HOST}): hung: nothing was heard of it for {TIMEOUT} s")
        assert report(job)["failed"] == [2]
        assert all(difference(large, room / str(r)) == "" for r in (0, 1, 3))
        # not even SIGKILL ends it before the disk goes on
        subprocess.run(["fsfreeze", "-u", room / "2"], check=True)
        attach(job)


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_the_first_shell_hangs(large, room, on_failure):
    job = submit(large, room, on_failure=on_failure)
    attach(job, stopped=signal_midway(job, room, 0, signal.SIGSTOP))
    texts = notes(job)
    assert texts
    assert any(f"rank 0 ({HOST}) hung: nothing was heard of it for" in text for text in texts)
    assert all(name.endswith("-0") for name in leftovers(room))
    have_it(large, room, set())


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
def test_the_first_shell_dies(large, room, on_failure):
    job = submit(large, room, on_failure=on_failure)
    signal_midway(job, room, 0, signal.SIGKILL)
    attach(job)
    assert any("shell rank 0" in text for text in notes(job))
    assert all(name.endswith("-0") for name in leftovers(room))
    have_it(large, room, set())


# ---- what is there already, and what must come


def test_a_run_after_one_that_failed_fetches_the_rest(large, room):
    job = submit(large, room, resume="true")
    wait_until(lambda: len(leftovers(room)) == SIZE)
    os.kill(shells_of(job)[3], signal.SIGKILL)
    attach(job)
    have_it(large, room, set())
    job = submit(large, room, resume="true")
    assert attach(job).returncode == 0
    have_it(large, room, set(range(SIZE)))
    document = report(job)
    size = large.stat().st_size
    for rank in range(1, SIZE):
        values = record(document, rank)
        assert values["bytes_kept"] + values["bytes_in"] == size
    assert sum(record(document, rank)["bytes_kept"] for rank in range(1, SIZE)) > 0
    assert leftovers(room) == []
    # and again: what is right is left as it is
    job = submit(large, room, resume="true", digest=f"sha256:{digest_of(large)}", fsync="true")
    assert attach(job).returncode == 0
    assert [record(report(job), rank)["bytes_in"] for rank in range(1, SIZE)] == [0] * (SIZE - 1)


def digest_of(path):
    return subprocess.run(
        ["sha256sum", path], capture_output=True, text=True, check=True
    ).stdout.split()[0]


def test_what_is_not_what_was_published_gets_nowhere(large, room):
    job = submit(large, room, digest=f"sha256:{digest_of(Path(__file__))}")
    assert attach(job).returncode != 0
    (note,) = notes(job)
    assert "sha256" in note
    assert list(room.iterdir()) == []


def test_a_digest_is_of_one_file(room, tmp_path_factory):
    top = make_payload(tmp_path_factory.mktemp("many") / "payload")
    job = submit(top, room, digest="sha256:" + "0" * 64)
    attach(job)
    (note,) = notes(job)
    assert note == f"option tree-bcast.digest: is of one file, and {top} is none: leave it out"


# ---- secrets


def test_the_key_is_nowhere_to_be_read(room, tmp_path_factory):
    """Nor is anything that could be one: 256 bits as text."""
    source = tmp_path_factory.mktemp("small") / "source"
    source.write_bytes(os.urandom(5000))
    job = submit(source, room, "true", args=["-overbose=2"], security="tls")
    seen = attach(job)
    texts = [seen.stdout, seen.stderr, flux("dmesg").stdout]
    namespace = f"job.{flux('job', 'id', '--to=kvs', job).stdout.strip().removeprefix('job.')}"
    keys = flux("kvs", "ls", "-R", "-1", namespace).stdout.split()
    assert keys
    for key in ("eventlog", "guest.exec.eventlog", "guest.output", "guest.tree-bcast", "jobspec"):
        texts.append(flux("job", "info", job, key).stdout)
    texts.append(flux("kvs", "dir", "-R", namespace).stdout)
    assert "the first shell answered" in "".join(texts)  # all of its messages are there
    assert re.findall("[0-9a-fA-F]{64,}", "".join(texts)) == []


@pytest.mark.parametrize("midway", [True, False])
def test_a_shell_with_the_key_leaves_no_core_file(large, room, midway, monkeypatch):
    """One whose tasks run does, as any other."""
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core" or os.geteuid() != 0:
        pytest.skip("needs root, and a kernel that writes core files where a program runs")
    folder = room / "cores"
    folder.mkdir()
    monkeypatch.chdir(folder)
    job = submit(large, room, "sleep", "60")
    if midway:
        pid = signal_midway(job, room, 1, 0)
    else:
        flux("job", "wait-event", "-p", "exec", job, "shell.start")
        pid = shells_of(job)[1]
    subprocess.run(["prlimit", f"--pid={pid}", "--core=unlimited"], check=True)
    os.kill(pid, signal.SIGABRT)
    assert wait_gone([pid]) == []
    flux("cancel", job, check=False)
    flux("job", "wait-event", job, "clean")
    assert bool(list(folder.glob("core*"))) != midway
