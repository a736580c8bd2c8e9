"""What the tests with real brokers need: an instance to run a script in."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
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
