"""The circumstances of a run: versions, machine, rates."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .._flux import flux_version
from .._version import __version__

if TYPE_CHECKING:
    from .design import Design

__all__ = ["circumstances", "merged"]


def circumstances(design: Design) -> dict[str, Any]:
    """Return what a run is made with, and on what.

    Parameters
    ----------
    design : Design
        What is run.

    Returns
    -------
    dict
        ``started``, ``versions``, ``machine``, ``seed``, ``goodput`` and ``goodputs`` (not measured
        yet), ``nic_rate`` (None without a lab).
    """
    lab = any(name.startswith("lab") for name in design.backends)
    return {
        "started": time.time(),
        "versions": {
            "flux-tree": __version__,
            "flux-core": flux_version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "kernel": platform.release(),
        },
        "machine": {
            "host": platform.node(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        },
        "seed": design.seed,
        "nic_rate": design.rate if lab else None,
        "goodput": None,
        "goodputs": {},
    }


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the circumstances of all runs into one folder.

    Parameters
    ----------
    before : dict
        Of earlier ones; empty if there were none.
    now : dict
        From `circumstances`.

    Returns
    -------
    dict
        Those of the first run, and in ``runs`` what each of them had: time, versions, machine.
    """
    run = {key: now[key] for key in ("started", "versions", "machine")}
    if not before:
        return {**now, "runs": [run]}
    return {**before, "nic_rate": now["nic_rate"], "runs": [*before.get("runs", []), run]}
