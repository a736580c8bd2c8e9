"""The fuzz targets of tests/fuzz: what libFuzzer has found before is replayed under sanitizers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from test_native import OPTIONS, _build, _run

HERE = Path(__file__).resolve().parent / "fuzz"
TARGETS = ["manifest", "wire", "down", "up"]


@pytest.fixture(scope="module")
def programs() -> Path:
    return _build("replay")


@pytest.fixture(scope="module")
def seeds(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fuzz") / "seeds"
    made = _run([str(programs / "seeds"), str(directory)])
    assert made.returncode == 0, made.stdout
    return directory


@pytest.mark.parametrize("target", TARGETS)
def test_replay(programs: Path, seeds: Path, target: str) -> None:
    inputs = [seeds / target, HERE / "corpus" / target]
    # files are made and removed by the thousand, which is no matter of the disk
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as directory:
        done = _run(
            [str(programs / f"fuzz_{target}"), *map(str, inputs)],
            env={**os.environ, **OPTIONS, "TMPDIR": directory},
            timeout=300,
        )
    assert done.returncode == 0, done.stdout
    count = sum(len(list(i.iterdir())) for i in inputs)
    assert f"{count} inputs" in done.stdout
