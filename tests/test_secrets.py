"""The key of a broadcast is in the memory of its ranks, and nobody else gets to see it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import children, difference, wait_gone

import flux_tree
from flux_tree import _local

KEY = bytes(range(97, 129))

#: The launcher, with a key that is known.
START = """
import sys; sys.path += sys.argv[1:]
from flux_tree import _ranks
_ranks.new_key = lambda: _ranks.ffi.new("unsigned char[]", bytes(range(97, 129)))
from flux_tree._launcher import main; main()
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(os.urandom(16 << 20))
    return path


def processes(pid: int) -> list[int]:
    """The launcher and the ranks of the broadcast that `pid` makes."""
    launchers = children(pid)
    return launchers + [rank for launcher in launchers for rank in children(launcher)]


def memory(pid: int) -> bytes:
    """What a process has in memory that it may write to."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            where, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(x, 16) for x in where.split("-"))
                mem.seek(start)
                found.append(mem.read(end - start) or b"")
    return b"".join(found)


def has_key(data: bytes) -> bool:
    return KEY in data or KEY.hex().encode() in data.lower()


@pytest.mark.lab
def test_the_key_is_in_the_memory_of_the_ranks_alone(source, tmp_path, monkeypatch):
    monkeypatch.setattr(_local, "_START", START)
    seen = {}

    def progress(records):
        pids = processes(os.getpid())
        if seen or len(pids) != 4 or not records["bytes_in"].any():
            return
        for pid in pids:  # whoever is stopped keeps what it has
            os.kill(pid, signal.SIGSTOP)
        seen["memory"] = [has_key(memory(pid)) for pid in pids]
        seen["told"] = [
            str(path)
            for name in ("cmdline", "environ")
            for path in Path("/proc").glob(f"[0-9]*/{name}")
            if has_key(_read(path))
        ]
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    result = flux_tree.broadcast(
        source, tmp_path / "{rank}", "chain", ranks=3, bandwidth=1e9, progress=progress
    )
    assert result.delivered.tolist() == [0, 1, 2]
    # the launcher, which has made it, has forgotten it when all ranks have it
    assert seen == {"memory": [False, True, True, True], "told": []}
    assert difference(source, tmp_path / "2") == ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


CALLER = """
import os, sys, resource, flux_tree
os.chdir(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
flux_tree.broadcast(sys.argv[1], sys.argv[2] + "/{rank}", "chain", ranks=3)
"""


def test_ranks_leave_no_core_file(source, tmp_path):
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith(("|", "/")):
        pytest.skip(f"core files go elsewhere: {pattern}")
    to = tmp_path / "to"
    to.mkdir()

    def limits():
        os.chdir(to)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)

    # that core files are made at all here
    abort = "import os; os.abort()"
    subprocess.run([sys.executable, "-c", abort], preexec_fn=limits, stderr=subprocess.DEVNULL)
    cores = list(to.glob("*core*"))
    assert cores
    for core in cores:
        core.unlink()

    command = [sys.executable, "-c", CALLER, str(source), str(to)]
    caller = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    pids: list[int] = []
    while len(pids) != 4 or len(os.listdir(to)) < 3:
        assert caller.poll() is None
        pids = processes(caller.pid)
    os.kill(pids[2], signal.SIGSEGV)
    assert caller.wait() != 0
    assert wait_gone(pids) == []
    assert os.listdir(to) == []


#: Becomes another user, and may be looked into by that user, as any program may.
NOBODY = """
import sys; sys.path += sys.argv[1:]
import ctypes, os
from flux_tree._launcher import main
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
LOOK = 'for f in "$@"; do if (: <$f) 2>/dev/null; then echo $f; fi; done'


def readable(pids: list[int]) -> list[str]:
    """Which files of processes the other user can open."""
    names = ("environ", "maps", "mem", "fd/1")
    files = [f"/proc/{pid}/{name}" for pid in pids for name in names]
    look = ["sh", "-c", LOOK, "sh", *files]
    return subprocess.run(
        look, user=65534, group=65534, capture_output=True, text=True
    ).stdout.split()


@pytest.mark.lab
def test_the_same_user_cannot_read_the_memory_of_a_rank(source, tmp_path, monkeypatch):
    begin = f"{NOBODY}print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", begin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        assert f"/proc/{other.pid}/environ" in readable([other.pid])
        other.stdin.close()

    monkeypatch.setattr(_local, "_START", f"{NOBODY}main()")
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 0o111)
    to = tmp_path / "to"
    to.mkdir()
    os.chown(to, 65534, 65534)
    seen = []

    def progress(records):
        pids = processes(os.getpid())
        if not seen and len(pids) == 4 and records["bytes_in"].any():
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            seen.append(readable(pids))
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    flux_tree.broadcast(source, to / "{rank}", "chain", ranks=3, bandwidth=1e9, progress=progress)
    assert seen == [[]]
