"""What an interrupted run left, or stands there, is used; digests; what is on disk at the end."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import children, difference, leftovers, make_payload, own_disk

import flux_tree
from flux_tree import _local

CHUNK = 64 << 10
SIZE = 24 << 20
STAYS = "; what has come stays, for another run with resume"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(random.Random(3).randbytes(SIZE))
    return path


@pytest.fixture
def to(tmp_path):
    path = tmp_path / "to"
    path.mkdir()
    return path


def send(source, to, ranks=4, **options):
    options = {"bandwidth": 1e9, "chunk_size": CHUNK, **options}
    return flux_tree.broadcast(source, to / "{rank}", "chain", ranks=ranks, **options)


def interrupt(source, to, monkeypatch, resume=True):
    """Have a broadcast end early, as one of its ranks is killed."""
    monkeypatch.setattr(_local, "POLL_S", 0.002)

    def progress(records):
        got = records["bytes_in"][1:]
        if got.min() > 0 and got.max() > SIZE // 8:
            pids = [pid for launcher in children(os.getpid()) for pid in children(launcher)]
            for pid in pids[2:3]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    for _ in range(5):  # it may be over too soon
        try:
            send(source, to, progress=progress, resume=resume)
        except flux_tree.BroadcastError as exc:
            assert str(exc) == "rank 2: killed by SIGKILL" + (STAYS if resume else "")
            return
        for copy in to.iterdir():
            copy.unlink()
    pytest.fail("no broadcast was interrupted")


def check_copies(source: Path, to: Path, ranks=4) -> None:
    assert leftovers(to) == []
    for rank in range(ranks):
        assert difference(source, to / str(rank)) == ""


def test_an_interrupted_run_is_gone_on_with(source, to, monkeypatch):
    interrupt(source, to, monkeypatch)
    assert len(leftovers(to)) == len(os.listdir(to)) == 4
    result = send(source, to, resume=True)
    check_copies(source, to)
    r = result.receivers
    assert (r["bytes_in"] + r["bytes_kept"] == SIZE).all()
    assert r["bytes_kept"].max() > SIZE // 16
    assert r["bytes_in"][1] > 0
    assert result.limit == pytest.approx((SIZE - r["bytes_kept"].min()) / 1e9)
    assert "of what the ranks need was there already" in str(result)
    assert result.explanation.prediction is None


def test_what_has_come_stays_when_the_launcher_dies(source, to, monkeypatch):
    monkeypatch.setattr(_local, "POLL_S", 0.002)

    def progress(records):
        if records["bytes_in"].max() > SIZE // 8:
            for pid in children(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(flux_tree.BroadcastError, match=f"^the process .* died.*{STAYS}$"):
        send(source, to, resume=True, progress=progress)


def test_without_resume_nothing_stays(source, to, monkeypatch):
    interrupt(source, to, monkeypatch, resume=False)
    assert os.listdir(to) == []


def test_what_was_left_is_checked_not_believed(source, to, monkeypatch):
    interrupt(source, to, monkeypatch)
    for name in leftovers(to):
        with open(name, "r+b") as f:
            f.seek(100)
            f.write(b"something else")
    result = send(source, to, resume=True)
    check_copies(source, to)
    assert (result.receivers["bytes_kept"] < SIZE).all()


def test_a_changed_source_is_not_mixed_with_the_old(source, to, monkeypatch):
    interrupt(source, to, monkeypatch)
    data = bytearray(source.read_bytes())
    data[::4096] = bytes(len(data[::4096]))
    source.write_bytes(data)
    result = send(source, to, resume=True)
    check_copies(source, to)
    assert (result.receivers["bytes_in"] == SIZE).all()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_right_already_stays(source, to, tmp_path, kind):
    if kind == "folder":
        source = make_payload(tmp_path / "payload")
        to = to / "x-{rank}"  # a directory that exists would receive it under its name
        first = flux_tree.broadcast(source, to, "chain", ranks=4, bandwidth=1e9)
        copies = [Path(str(to).replace("{rank}", str(r))) for r in range(4)]
        for copy in copies:
            copy.rename(copy.with_name(f"in-{copy.name}"))
            copy.mkdir()
            copy.with_name(f"in-{copy.name}").rename(copy / "payload")
        copies = [copy / "payload" for copy in copies]
        assert first.bytes
        result = flux_tree.broadcast(source, to, "chain", ranks=4, bandwidth=1e9, resume=True)
    else:
        send(source, to)
        copies = [to / str(rank) for rank in range(4)]
        before = [copy.stat().st_ino for copy in copies]
        result = send(source, to, resume=True)
        assert [copy.stat().st_ino for copy in copies] == before
    assert all(difference(source, copy) == "" for copy in copies)
    assert (result.records["bytes_in"] == 0).all()
    assert (result.receivers["bytes_kept"] == result.bytes).all()
    assert "all of it was there already and is right, nothing was moved" in str(result)


def test_only_chunks_that_differ_move(source, to):
    send(source, to)
    for rank in range(4):
        with (to / str(rank)).open("r+b") as f:
            for at in (5, SIZE // 2, SIZE - 3):
                f.seek(at)
                f.write(b"x!")
    with pytest.raises(flux_tree.DestinationError, match=r": exists: "):
        send(source, to, resume=True)
    result = send(source, to, resume=True, overwrite=True)
    check_copies(source, to)
    assert (result.receivers["bytes_in"] == 3 * CHUNK).all()


COMMAND = [sys.executable, "-m", "flux_tree", "bcast"]


def test_the_command_says_what_stays_and_what_was_there(source, to):
    args = [*COMMAND, source, to / "{rank}", "--ranks=3", "--chunk-size=4KiB", "--resume"]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while len(leftovers(to)) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"flux-tree: interrupted{STAYS}\n"
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert "of what the ranks need was there already" in done.stdout
    check_copies(source, to, 3)
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert re.search(r"^kept +48 MiB +all of it was there already and is right", done.stdout, re.M)


def test_not_all_was_there_if_a_rank_has_failed(source, to):
    send(source, to)
    (to / "2").write_text("mine")
    result = send(source, to, resume=True, on_failure="continue")
    assert list(result.failures) == [2]
    assert not result.receivers["bytes_in"].any()
    assert "66.7% of what the ranks need was there already" in str(result)


def test_a_published_digest(source, to):
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    send(source, to, digest=f"sha256:{digest}")
    check_copies(source, to)


def test_another_digest_than_the_published_one(source, to):
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    text = f"rank 0: source {source}: is not the file that digest says: it has sha256:{digest}: get"
    with pytest.raises(flux_tree.SourceError, match="^" + re.escape(text)) as e:
        send(source, to, digest="sha256:" + "5" * 64)
    assert "\n" not in str(e.value)
    assert os.listdir(to) == []


@pytest.mark.lab
def test_fsync_has_it_on_disk(source, to, tmp_path):
    """A machine that stops right after the end has it all."""
    image, copy = tmp_path / "image", tmp_path / "copy"
    with own_disk(image, to, 4 * SIZE):
        send(source, to, ranks=1, fsync=True)
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    to = tmp_path / "after"
    to.mkdir()
    subprocess.run(["mount", "-o", "loop", copy, to], check=True)
    try:
        assert difference(source, to / "0") == ""
    finally:
        subprocess.run(["umount", to], check=True)
