"""Flux's Python bindings, found when they are first needed and never before.

They come from the package ``flux-python``, or with Flux itself, for the one version of Python that
it was built with.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .errors import UsageError

__all__ = [
    "connect",
    "flux_command",
    "flux_output",
    "flux_version",
    "import_flux",
    "outside_flux",
]


def import_flux() -> ModuleType:
    """Return the module ``flux``: an installed one, or the one that the ``flux`` on PATH has.

    Returns
    -------
    module

    Raises
    ------
    UsageError
        If there is none for this Python; it says how to get one.
    """
    try:
        return importlib.import_module("flux")
    except ImportError as exc:
        _forget()
        reason = str(exc)
    folder = flux_output("config", "builtin", "python_path")
    this = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # the bindings' file names do not tell which Python they are for, only their folder does
    if folder and os.path.basename(folder) == this and folder not in sys.path:
        sys.path.append(folder)
        try:
            return importlib.import_module("flux")
        except ImportError as exc:
            reason = str(exc)
            sys.path.remove(folder)
            _forget()
    version = flux_version()
    if version is None:
        raise UsageError(
            "no Flux here: 'flux' is not on PATH; install flux-core, or set PATH to where it is"
        )
    raise UsageError(
        f"Flux's Python bindings do not load in {this} ({reason}):"
        f" pip install 'flux-tree[flux]' 'flux-python=={version}'"
    )


def connect(handle: Any = None) -> Any:
    """Return a handle to a Flux instance: the one given, or one to the instance around.

    Parameters
    ----------
    handle : flux.Flux, optional
        Returned as it is.

    Returns
    -------
    flux.Flux

    Raises
    ------
    UsageError
        If there are no bindings, or no instance.
    """
    if handle is not None:
        return handle
    flux = import_flux()
    try:
        return flux.Flux()
    except OSError as exc:
        uri = os.environ.get("FLUX_URI")
        where = f"FLUX_URI={uri}" if uri else "no FLUX_URI is set, and there is no system instance"
        raise UsageError(
            f"no Flux instance can be reached ({exc.strerror or exc}; {where}):"
            " run this in one, such as 'flux start' or 'flux alloc' makes"
        ) from None


def flux_command() -> str | None:
    """Return the path of the command ``flux``; None if it is not on PATH.

    Returns
    -------
    str or None
    """
    return shutil.which("flux")


def flux_output(*args: str) -> str | None:
    """Return what a command of Flux printed, without the last newline; None if it failed.

    Parameters
    ----------
    *args : str
        As after ``flux``.

    Returns
    -------
    str or None
    """
    command = flux_command()
    if command is None:
        return None
    run = subprocess.run([command, *args], capture_output=True, text=True, check=False)
    return run.stdout.rstrip("\n") if run.returncode == 0 else None


def flux_version() -> str | None:
    """Return the version of the ``flux`` on PATH, such as "0.88.0"; None if there is none.

    Returns
    -------
    str or None
    """
    for line in (flux_output("version") or "").splitlines():
        name, _, version = line.partition(":")
        if name == "commands":
            return version.strip()
    return None


def outside_flux(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what an instance of Flux around has put into it.

    Parameters
    ----------
    environment : mapping of str to str

    Returns
    -------
    dict of str to str
    """
    names = ("FLUX_URI", "FLUX_KVS_NAMESPACE", "FLUX_PROXY_REMOTE")
    starts = ("FLUX_JOB_", "FLUX_TASK_", "PMI_", "PMIX_")
    return {k: v for k, v in environment.items() if k not in names and not k.startswith(starts)}


def _forget() -> None:
    """Drop what an import that failed has left half done."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("flux", "_flux"):
            del sys.modules[name]
