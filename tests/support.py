"""What several tests need: payloads, comparison of trees, a look at processes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def make_payload(top: Path, seed: int = 1) -> Path:
    """Make a directory with a bit of everything that travels."""
    rng = random.Random(seed)
    top.mkdir()
    (top / "sub" / "deep" / "er").mkdir(parents=True)
    (top / "empty-dir").mkdir()
    (top / "empty").write_bytes(b"")
    for i, size in enumerate((1, 4095, 4096, 70_000, 8192 * 3)):
        (top / f"file{i}").write_bytes(rng.randbytes(size))
    for i in range(30):
        (top / "sub" / f"small{i:02}").write_bytes(rng.randbytes(rng.randrange(600)))
    (top / "sub" / "deep" / "er" / "there").write_bytes(rng.randbytes(12_345))
    (top / "sub" / "dangling").symlink_to("nowhere/at all")
    (top / "link").symlink_to("sub/deep")
    os.link(top / "file1", top / "sub" / "hard")
    (Path(os.fsencode(top).decode(errors="surrogateescape")) / os.fsdecode(b"n\xfcr \xff")).touch()
    with (top / "holes").open("wb") as f:
        f.truncate(5 << 20)
        f.seek(1 << 20)
        f.write(rng.randbytes(9000))
        f.seek(3 << 20)
        f.write(rng.randbytes(100))
    (top / "file2").chmod(0o751)
    (top / "sub" / "small03").chmod(0o400)
    (top / "sub" / "deep" / "er").chmod(0o555)
    for i, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        when = 1_600_000_000_123_456_789 + i * 1_000_000_007
        os.utime(path, ns=(when, when), follow_symlinks=False)
    return top


def difference(a: Path, b: Path) -> str:
    """Return what differs first between two files or trees, or an empty string."""
    x, y = a.lstat(), b.lstat()
    if x.st_mode != y.st_mode:
        return f"{b}: mode {y.st_mode:o}, not {x.st_mode:o}"
    if x.st_mtime_ns != y.st_mtime_ns:
        return f"{b}: time {y.st_mtime_ns}, not {x.st_mtime_ns}"
    if a.is_symlink():
        return "" if os.readlink(a) == os.readlink(b) else f"{b}: another target"
    if a.is_dir():
        names = sorted(os.listdir(a))
        if names != sorted(os.listdir(b)):
            return f"{b}: {sorted(os.listdir(b))}, not {names}"
        return next(filter(None, (difference(a / n, b / n) for n in names)), "")
    return "" if a.read_bytes() == b.read_bytes() else f"{b}: other bytes"


def leftovers(top: Path) -> list[str]:
    """Return the temporary names below `top`."""
    return [str(p) for p in top.rglob(".flux-tree-*")]


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that live, in the order of their birth.

    Numbers of processes do not have it, as they begin again when they have become too large.
    """
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return [p for p in found if _lives(p)]


def wait_gone(pids: list[int], seconds: float = 15.0) -> list[int]:
    """Wait until none of `pids` lives; return those that still do."""
    deadline = time.monotonic() + seconds
    while True:
        alive = [p for p in pids if _lives(p)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def own_disk(image: Path, at: Path, size: int) -> Iterator[None]:
    """Mount a file system of its own, which can be frozen; skip the test where that cannot be."""
    with image.open("wb") as f:
        f.truncate(size)
    if not shutil.which("fsfreeze"):
        pytest.skip("there is no fsfreeze")
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, at]):
        if not shutil.which(command[0]) or subprocess.run(command).returncode != 0:
            pytest.skip("file systems cannot be made and mounted here")
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "-u", at], check=False, capture_output=True)
        deadline = time.monotonic() + 10  # what waited for it has to end first
        while subprocess.run(["umount", at], capture_output=True).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@contextmanager
def instance(top: Path, size: int, *options: str) -> Iterator[str]:
    """Run an instance of Flux with real brokers; give its URI."""
    os.mkfifo(top / "end")
    script = f"echo $FLUX_URI >{top}/uri.new; mv {top}/uri.new {top}/uri; read x <{top}/end"
    command = ["flux", "start", f"--test-size={size}", *options, "sh", "-c", script]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not (top / "uri").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        yield (top / "uri").read_text().strip()
    finally:
        (top / "end").write_text("now\n")
        assert process.wait(60) == 0
