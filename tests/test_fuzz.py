"""The fuzz targets of tests/fuzz: what libFuzzer has found before is replayed under sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "fuzz"
TARGETS = ["manifest", "wire", "down", "up"]
# too much memory is refused, as malloc does
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"}


def _run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kwargs
    )


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the targets with a main (), and of the seeds."""
    directory = tmp_path_factory.mktemp("fuzz")
    compiler = os.environ.get("CC", "cc")
    if not shutil.which(compiler) or not shutil.which("make"):
        pytest.skip("no C compiler or no make")
    source = directory / "probe.c"
    source.write_text("int main (void) { return 0; }\n")
    command = [compiler, "-fsanitize=address,undefined", "-o", str(directory / "probe")]
    if _run([*command, str(source)]).returncode != 0:
        pytest.skip("the compiler has no runtime for -fsanitize=address,undefined")
    made = _run(["make", "-s", "-j4", "-C", str(HERE), f"BUILD={directory}", "replay"])
    assert made.returncode == 0, made.stdout
    seeds = _run([str(directory / "replay/seeds"), str(directory / "seeds")])
    assert seeds.returncode == 0, seeds.stdout
    return directory


@pytest.mark.parametrize("target", TARGETS)
def test_replay(replay: Path, target: str) -> None:
    inputs = [replay / "seeds" / target, HERE / "corpus" / target]
    # files are made and removed by the thousand, which is no matter of the disk
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as directory:
        done = _run(
            [str(replay / f"replay/fuzz_{target}"), *map(str, inputs)],
            env={**os.environ, **OPTIONS, "TMPDIR": directory},
            timeout=300,
        )
    assert done.returncode == 0, done.stdout
    count = sum(len(list(i.iterdir())) for i in inputs)
    assert f"{count} inputs" in done.stdout
