"""Which tests can run here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

# tests make the instances that they need; commands go elsewhere inside the one around
os.environ.pop("FLUX_URI", None)


def pytest_configure():
    # a shell without job control has what it runs in the background ignore Ctrl-C, and the
    # programs that are tested would inherit that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header():
    if not shutil.which("flux"):
        return "flux-core: not found"
    version = subprocess.run(["flux", "version"], capture_output=True, text=True).stdout
    return f"flux-core: {version.splitlines()[0].split()[-1]}"


def pytest_collection_modifyitems(items):
    no_flux = pytest.mark.skip(reason="flux is not on PATH: install flux-core to run this")
    no_root = pytest.mark.skip(reason="needs root")
    for item in items:
        if "flux" in item.keywords and not shutil.which("flux"):
            item.add_marker(no_flux)
        if "lab" in item.keywords and os.geteuid() != 0:
            item.add_marker(no_root)
