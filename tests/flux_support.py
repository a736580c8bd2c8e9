"""What the tests with real brokers need: an instance to run a script in."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "flux_tree"
#: Nothing of flux-tree is set up, whoever runs the tests.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in ("FLUX_SHELL_RC_PATH", "FLUX_CLI_PLUGINPATH", "FLUX_TREE_PYTHON", "FLUX_URI")
}
#: As `flux-tree env` sets it up.
SET_UP = {
    **CLEAN,
    "FLUX_SHELL_RC_PATH": str(PACKAGE / "shell"),
    "FLUX_CLI_PLUGINPATH": str(PACKAGE / "flux_cli"),
    "FLUX_TREE_PYTHON": sys.executable,
    "PYTHONPATH": str(PACKAGE.parent),
}


def in_instance(script, *args, size=2, env=None, cwd=None, check=False):
    """Run a shell script in an instance of so many brokers on this machine."""
    command = ["flux", "start", f"--test-size={size}", "sh", "-c", script, "sh", *map(str, args)]
    return subprocess.run(
        command,
        env=SET_UP if env is None else env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
    )


def flux_tree(*args):
    """Return the command line that runs the command of these sources."""
    return shlex.join([sys.executable, "-m", "flux_tree", *map(str, args)])


def wait_until(condition, seconds=60.0):
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def shells_of(job):
    """Return the processes of a job's shells, by the rank of their broker."""
    number = subprocess.run(
        ["flux", "job", "id", "--to=dec", job], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            args = (entry / "cmdline").read_bytes().decode().split("\0")
            if Path(args[0]).name != "flux-shell" or args[1:2] != [number]:
                continue
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            found[rank_of(int(parent))] = int(entry.name)
        except (OSError, UnicodeDecodeError):
            continue
    return found


def rank_of(broker):
    """Return the rank of a broker that `flux start --test-size` has started."""
    environment = Path(f"/proc/{broker}/environ").read_bytes().split(b"\0")
    (rank,) = (v for k, _, v in (e.partition(b"=") for e in environment) if k == b"PMI_RANK")
    return int(rank)
