"""The benchmark against other ways to bring a file to every node: that it runs, and measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
PEERS = ["direct chain", "direct two-tree", "direct kary:2"]
PEERS += ["content kary:32", "extract kary:32", "stage-in kary:32"]


def peers(*args):
    command = [sys.executable, "-m", "benchmarks.peers", *map(str, args)]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=120)


@pytest.mark.lab
@pytest.mark.flux
def test_peers(tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.svg"
    sizes = ("--hosts", 3, "--size", "1MiB", "--only", ",".join(PEERS))
    done = peers(*sizes, "--json", figures, "--plot", picture)
    assert done.returncode == 0, done.stderr
    got = json.loads(figures.read_text())
    assert set(got["peers"]) == set(PEERS)
    for name, f in got["peers"].items():
        assert 0 < f["slowest"] < f["command"], name
        assert name in done.stdout
        assert name in picture.read_text()
        # the root sends to one, or to both
        assert round(f["sent"]) == (1 if name in ("direct chain", "direct two-tree") else 2), name
        assert (f["created"] is None) == name.startswith("direct")


def test_bad_input(tmp_path):
    assert "no such peer" in peers("--only", "pigeon").stderr
    assert "nothing to broadcast" in peers("--size", "0").stderr
    assert "no such folder" in peers("--json", tmp_path / "nowhere" / "figures").stderr
