"""The programs in tests/native: the C core under AddressSanitizer, UBSan and ThreadSanitizer."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "native"
#: Stays for the next run, in which make builds what has changed.
BUILD = HERE.parent.parent / "build" / "tests"
PROGRAMS = sorted(p.stem for p in HERE.glob("test_*.c"))
THREADED = [
    "test_table_cache",
    "test_node",
    # it waits for 20 s; the same threads are at work in test_node and test_hostile
    pytest.param("test_peer", marks=pytest.mark.slow),
    "test_hostile",
    "test_replay",
    "test_again",
    "test_crowd",
    "test_repair",
    "test_feed",
]
OPTIONS = {
    # too much memory is refused, as malloc does
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:allocator_may_return_null=1",
}


def _run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kwargs
    )


def _build(target: str) -> Path:
    """Build a target, or skip if this machine cannot; return where it is, and its probe."""
    compiler = os.environ.get("CC", "cc")
    if not shutil.which(compiler) or not shutil.which("make"):
        pytest.skip("no C compiler or no make")
    flags = "-fsanitize=thread" if target == "thread" else "-fsanitize=address,undefined"
    build = BUILD / Path(compiler).name
    directory = build / target
    directory.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may build as well
        source = directory / "probe.c"
        source.write_text("int main (void) { return 0; }\n")
        probe = _run([compiler, flags, "-o", str(directory / "probe"), str(source)])
        if probe.returncode != 0:
            pytest.skip(f"the compiler has no runtime for {flags}")
        made = _run(["make", "-s", "-j4", "-C", str(HERE), f"BUILD={build}", target])
        assert made.returncode == 0, made.stdout
    return directory


@pytest.fixture(scope="module")
def address() -> Path:
    return _build("address")


@pytest.fixture(scope="module")
def thread() -> tuple[list[str], Path]:
    """The directory, and what to run its programs with."""
    programs = _build("thread")
    # some kernels place memory where ThreadSanitizer wants none
    for prefix in [], ["setarch", "-R"]:
        if (not prefix or shutil.which(prefix[0])) and _run(
            [*prefix, str(programs / "probe")]
        ).returncode == 0:
            return prefix, programs
    pytest.skip("programs under ThreadSanitizer do not start on this machine")


def _check(command: list[str]) -> None:
    # deep trees and many files are a matter of the disk, which is not tested here
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as directory:
        os.chmod(directory, 0o755)  # parts run as nobody
        done = _run(command, env={**os.environ, **OPTIONS, "TMPDIR": directory}, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "not ok" not in done.stdout, done.stdout
    for line in done.stdout.splitlines():
        if line.startswith("# skip:"):
            print(line)


@pytest.mark.parametrize("program", PROGRAMS)
def test_address(address: Path, program: str) -> None:
    _check([str(address / program)])


@pytest.mark.parametrize("program", THREADED)
def test_thread(thread: tuple[list[str], Path], program: str) -> None:
    prefix, programs = thread
    _check([*prefix, str(programs / program)])
