"""Who pulls from a registry: what goes wrong on the way, what is made good, and how it ends."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flux_tree
from flux_tree._registry import open_feed
from flux_tree._registry._feed import DATA, END, FAIL, HEAD
from flux_tree.errors import SourceError, UsageError

from flux_support import in_instance  # isort: skip
from hostile_registry import Registry, digest_of, hostile  # isort: skip
from pulling import bcast, directory, member, no, ok, own_folders, refusal, tree  # isort: skip
from support import leftovers  # isort: skip


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_folders(tmp_path, monkeypatch)


@pytest.fixture
def bad() -> Iterator[Registry]:
    with hostile() as found:
        yield found


# ---- what goes wrong on the way


def test_a_cut_connection_is_taken_up_where_it_was(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    bad.artifact("v1", {"a": data})
    bad.cut_after = [1_000_000, 500_000, 0]
    ok(bad, "x:v1", tmp_path, {"a": data})
    ranges = [h.get("Range") for h in bad.asked(digest_of(data))]
    assert ranges[0] is None and len(ranges) == 4
    assert all(r is not None and r != "bytes=0-" for r in ranges[1:])


def test_a_registry_without_ranges(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    bad.artifact("v1", {"a": data})
    bad.ranges, bad.cut_after = False, [2_500_000, 2_900_000]
    ok(bad, "x:v1", tmp_path, {"a": data})


def test_a_registry_that_always_cuts_at_the_same_place(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(100_000)})
    bad.ranges, bad.cut_after = False, [50_000] * 1000
    # what has come again and again is no progress
    why = refusal(bad, "x:v1", tmp_path, timeout=2)
    assert "nothing has come for 1.5 seconds" in why and "after 50000 of 100000 bytes" in why


def test_a_manifest_that_is_cut(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    bad.cut_manifest = True
    bad.dropped = 2
    ok(bad, "x:v1", tmp_path, {"a": b"1"})


def test_a_busy_registry(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"data"})
    bad.answers = [(503, {}), (429, {"Retry-After": "0"}), (500, {})]
    ok(bad, "x:v1", tmp_path, {"a": b"data"})
    bad.answers = [(429, {"Retry-After": "3600"})]
    why = no(bad, "x:v1")
    assert "429" in why and "is not to be asked again for 3600 seconds" in why


def test_wrong_bytes(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    bad.artifact("v1", {"a": data})
    bad.lie = lambda right: right[:-1] + bytes([right[-1] ^ 1])
    wrong = digest_of(bad.lie(data))
    why = refusal(bad, "x:v1", tmp_path)
    assert why == f"what came is not what its manifest names: {wrong} instead of {digest_of(data)}"
    bad.lie = lambda right: right + b"more"
    assert f"says that it has {len(data)}" in no(bad, "x:v1")
    bad.lie = lambda right: right[:100]
    assert "has 100 bytes" in no(bad, "x:v1")


def test_a_blob_that_is_not_there(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"data", "b": os.urandom(100_000)})
    del bad.blobs[digest_of(b"data")]
    assert "the registry has no such thing (404)" in refusal(bad, "x:v1", tmp_path)


def test_a_registry_that_stalls(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 400_000
    begin = time.monotonic()
    why = refusal(bad, "x:v1", tmp_path, timeout=3)
    # who pulls says so, before the ranks give up
    assert "nothing has come for 2.25 seconds" in why and time.monotonic() - begin < 20


def test_a_slow_registry(bad: Registry, tmp_path: Path) -> None:
    files = {"a": os.urandom(100_000)}
    bad.artifact("v1", files)
    bad.pause = 0.4
    # one chunk, which takes longer than the time limit
    ok(bad, "x:v1", tmp_path, files, timeout=3, chunk_size=1 << 20)


def test_a_registry_that_is_not_there(bad: Registry, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be reached .*refused"):
        flux_tree.broadcast("oci+http://127.0.0.1:1/x", tmp_path / "r{rank}", ranks=2)
    with pytest.raises(SourceError, match=r"no TLS that can be trusted.*oci\+http://"):
        flux_tree.broadcast(f"oci://{bad.host}/x", tmp_path / "r{rank}", ranks=2)


def test_a_destination_that_exists(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"data"})
    (tmp_path / "r1").write_text("mine")
    with pytest.raises(flux_tree.errors.DestinationError, match="rank 1"):
        bcast(bad, "x:v1", tmp_path)
    assert (tmp_path / "r1").read_text() == "mine"
    assert leftovers(tmp_path) == [] and not (tmp_path / "r0").exists()


@pytest.mark.lab
@pytest.mark.parametrize("rank", [0, 2])
def test_a_full_disk(bad: Registry, tmp_path: Path, rank: int) -> None:
    bad.artifact("v1", {"a": os.urandom(3_000_000)})
    for other in range(3):
        (tmp_path / f"d{other}").mkdir()
    small = tmp_path / f"d{rank}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        name = f"oci+http://{bad.host}/x:v1"
        with pytest.raises(flux_tree.errors.DestinationError, match="no space left") as caught:
            flux_tree.broadcast(name, tmp_path / "d{rank}" / "r", ranks=3, bandwidth=1e9)
        assert caught.value.rank == rank
        assert leftovers(tmp_path) == [] and not list(tmp_path.glob("d*/r"))
        assert pullers(bad) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("options", [[], ["--strategy", "auto"], ["--strategy", "chain", "--json"]])
def test_on_the_command_line(bad: Registry, tmp_path: Path, options: list[str]) -> None:
    files = {"a": os.urandom(100_000), "sub/b": b"b"}
    bad.artifact("v1", files)
    name, to = f"oci+http://{bad.host}/x:v1", f"{tmp_path}/r{{rank}}"
    command = [sys.executable, "-m", "flux_tree", "bcast", "--ranks", "3"]
    done = subprocess.run([*command, name, to, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [tree(tmp_path / f"r{rank}") for rank in range(3)] == [files] * 3
    done = subprocess.run([*command, f"{name}9", f"{to}x"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert "tag v19: the registry has no such thing" in done.stderr
    done = subprocess.run([*command, name, f"{to}x", "--resume"], capture_output=True, text=True)
    assert done.returncode == 2 and "resume: " in done.stderr


@pytest.mark.lab
def test_on_hosts_of_a_lab(bad: Registry, tmp_path: Path) -> None:
    files = {"a": os.urandom(100_000)}
    bad.artifact("v1", files)
    name, to = f"oci+http://{bad.host}/x:v1", f"{tmp_path}/r{{rank}}"
    command = [sys.executable, "-m", "flux_tree", "lab", "--hosts", "3", "bcast", name, to]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [tree(tmp_path / f"r{rank}") for rank in range(3)] == [files] * 3


# ---- who pulls


def pullers(registry: Registry) -> list[int]:
    """Return the processes that pull from a registry."""
    out = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True).stdout
    lines = [x for x in out.splitlines() if "flux_tree._registry" in x and registry.host in x]
    return [int(line.split()[0]) for line in lines]


def test_who_pulls_ends_with_whoever_wants_it(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 500_000
    name = f"oci+http://{bad.host}/x:v1"
    with open_feed(name, 600.0):
        assert len(pullers(bad)) == 1
    assert pullers(bad) == []
    assert not list((tmp_path / "tmp").iterdir())


def test_frames(bad: Registry) -> None:
    data = os.urandom(2_500_000)
    bad.artifact("v1", {"a": b"1", "b": data})
    command = [sys.executable, "-m", "flux_tree._registry", f"oci+http://{bad.host}/x:v1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    frames = list(frames_of(done.stdout))
    assert done.returncode == 0 and done.stderr == b""
    assert [kind for kind, _ in frames if kind != DATA] == [HEAD, END]
    assert frames[0][0] == HEAD and frames[-1] == (END, b"")
    assert b"".join(found for kind, found in frames if kind == DATA) == b"1" + data
    command[-1] += "9"
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    ((kind, text),) = frames_of(done.stdout)
    assert done.returncode == 1 and done.stderr == b"" and kind == FAIL
    assert text.startswith(f"source oci+http://{bad.host}/x:v19: tag v19".encode())


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        kind, length = struct.unpack_from("<II", data)
        yield kind, data[8 : 8 + length]
        data = data[8 + length :]


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "input", "output"])
def test_who_pulls_ends_at_once_and_quietly(bad: Registry, tmp_path: Path, end: str) -> None:
    directory(bad, "v1", [(member("dir/x"), os.urandom(1_000_000))])
    bad.stall = 500_000
    command = [sys.executable, "-m", "flux_tree._registry", f"oci+http://{bad.host}/x:v1"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*command, "--timeout=600"], **pipes) as process:
        # it unpacks, and waits for the rest of the archive
        deadline = time.monotonic() + 30
        while len(bad.asked("/blobs/")) < 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if end.startswith("SIG"):
            process.send_signal(signal.Signals[end])
        else:
            getattr(process, "stdin" if end == "input" else "stdout").close()
        assert process.wait(30) != 0
        assert process.stderr is not None and process.stderr.read() == b""
    assert not list((tmp_path / "tmp").iterdir())


def test_who_pulls_is_killed(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 500_000
    seen = []

    def kill(records: Any) -> None:
        if not seen and records["bytes_in"].any():
            seen.extend(pullers(bad))
            os.kill(seen[0], signal.SIGKILL)

    why = refusal(bad, "x:v1", tmp_path, progress=kill, chunk_size=65536)
    assert why == "who pulls it has died" and len(seen) == 1


@pytest.mark.flux
@pytest.mark.parametrize("end", ["kill -9 $puller", "flux cancel --all"])
def test_a_job_that_pulls_is_ended(bad: Registry, tmp_path: Path, end: str) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 500_000
    option = f"chain,file=oci+http://{bad.host}/x:v1,destination={tmp_path}/r{{rank}}"
    script = f"""
        flux run -N2 -o tree-bcast={option},chunk-size=64KiB true & job=$!
        until ls -d {tmp_path}/.flux-tree-*-1; do sleep 0.1; done 2>/dev/null
        puller=$(pgrep -f '[f]lux_tree._registry.*{bad.host}' | head -1)
        {end}
        wait $job || echo ended
        flux queue drain
        pgrep -f '[f]lux_tree._registry.*{bad.host}' || echo none
    """
    done = in_instance(script)
    assert done.stdout.split()[-2:] == ["ended", "none"], done
    if "kill" in end:
        assert "who pulls it has died" in done.stderr
    assert leftovers(tmp_path) == [] and not list(tmp_path.glob("r*"))


def test_what_does_not_go_with_it(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    with pytest.raises(UsageError, match=r"resume: .* always comes anew"):
        bcast(bad, "x:v1", tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"digest: .*@sha256:HEX"):
        bcast(bad, "x:v1", tmp_path, digest=digest_of(b"1"))
    assert bad.seen == []


def test_some_ranks_only(bad: Registry, tmp_path: Path) -> None:
    files = {"a": os.urandom(100_000)}
    bad.artifact("v1", files)
    bcast(bad, "x:v1", tmp_path, members=[2])
    assert tree(tmp_path / "r2") == files
    assert not (tmp_path / "r0").exists() and leftovers(tmp_path) == []


def test_into_a_directory_that_exists(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1", "sub/b": b"2"})
    for rank in range(3):
        (tmp_path / f"r{rank}").mkdir()
        (tmp_path / f"r{rank}" / "mine").write_bytes(b"3")
    ok(bad, "x:v1", tmp_path, {"a": b"1", "mine": b"3", "sub/b": b"2"})
