"""What of flux-tree is in place for Flux, what is not, and the mend."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import _install, _setup
from ._flux import flux_command, flux_output, flux_version, import_flux
from ._version import __version__
from .errors import FluxTreeError, UsageError

__all__ = ["OLDEST", "Check", "checks"]

#: The oldest flux-core with all that is used here: plugins of flux run.
OLDEST = (0, 77)
#: Since then, `flux NAME` finds flux-NAME on PATH.
PATH_SINCE = (0, 86)
#: Seconds that a job for a check may wait for a node, and run.
JOB_S = 30.0

SET_UP = 'eval "$(flux-tree env)"'


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What it is about.
    state : str
        ``ok``; ``warn``, it works without; ``missing``, something needed is not there.
    text : str
        What was found.
    mend : str
        What to do; empty if nothing.
    """

    name: str
    state: str
    text: str
    mend: str = ""


def checks(job: bool = True) -> Iterator[Check]:
    """Look at all that a broadcast in a Flux job needs.

    Parameters
    ----------
    job : bool, default True
        Inside an instance, also run a job on one node.

    Yields
    ------
    Check
        One after the other, as soon as it is known.
    """
    yield _core()
    yield _registries()
    version = flux_version()
    yield _flux(version)
    if version is None:
        return
    yield (plugin := _plugin())
    if plugin.state == "ok":
        yield _libraries()
    yield _rc()
    yield _cli()
    yield _command(version)
    yield _bindings(version)
    size = flux_output("getattr", "size")
    if size is None:
        text = "none around: nodes and jobs were not looked at"
        yield Check("instance", "warn", text, "run it in one: flux start flux-tree doctor")
        return
    yield Check("instance", "ok", f"{size} brokers, flux-core {flux_output('getattr', 'version')}")
    if plugin.state == "ok":
        yield _nodes(int(size))
        if job:
            yield _job()


def _core() -> Check:
    try:
        importlib.import_module("flux_tree._native")
    except ImportError as exc:
        return Check("native core", "missing", str(exc), "pip install --force-reinstall flux-tree")
    return Check("native core", "ok", f"flux-tree {__version__}, Python {sys.version.split()[0]}")


def _registries() -> Check:
    """Whether sources in registries can be pulled; nothing else needs that."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Check("registries", "ok", f"oras {version('oras')}")
    except PackageNotFoundError:
        return Check(
            "registries",
            "warn",
            "oras is not installed, so file=oci://... cannot be pulled",
            "pip install 'flux-tree[registry]'",
        )


def _flux(version: str | None) -> Check:
    if version is None:
        return Check(
            "flux", "missing", "not on PATH", "install flux-core, or set PATH to where it is"
        )
    text = f"flux-core {version}, {flux_command()}"
    if _numbers(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Check("flux", "missing", text, f"use flux-core {oldest} or later")
    return Check("flux", "ok", text)


def _plugin() -> Check:
    reason = _setup.no_plugin()
    if reason is not None:
        text, _, mend = reason.partition("; ")
        return Check("shell plugin", "missing", text, mend)
    return Check("shell plugin", "ok", str(_setup.PLUGIN))


def _libraries() -> Check:
    """Look at what the loader would load for flux-shell, which has no Python in it."""
    name = "libraries"
    mine = _loaded(str(_setup.PLUGIN))
    lacking = [lib for lib, path in mine.items() if not path]
    if lacking:
        return Check(
            name, "missing", f"the plugin lacks {', '.join(lacking)}", "install them, or rebuild it"
        )
    python = [lib for lib in mine if lib.startswith("libpython")]
    if python:
        return Check(
            name, "missing", f"the plugin links {python[0]}", "rebuild it with this version"
        )
    its = _real(mine, "libflux-core")
    that = _real(_loaded(os.path.realpath(flux_command() or "")), "libflux-core")
    if that and its != that:
        return Check(
            name,
            "missing",
            f"the plugin loads {its}, flux loads {that}",
            "pip install --force-reinstall --no-deps --no-binary flux-tree flux-tree, with"
            " PKG_CONFIG_PATH set to where that flux is",
        )
    return Check(name, "ok", f"{its}, no Python")


def _rc() -> Check:
    name = "rc file"
    for pattern in os.environ.get("FLUX_SHELL_RC_PATH", "").split(":"):
        folder = Path(re.sub(r"\\(.)", r"\1", pattern))
        if pattern and (folder / _setup.RC_FILE.name).exists():
            text = f"{folder}, in FLUX_SHELL_RC_PATH"
            if not (folder.parent / _setup.PLUGIN.name).exists():
                return Check(name, "missing", f"{text}, has no plugin beside it", SET_UP)
            if (folder / _setup.RC_FILE.name).resolve() != _setup.RC_FILE:
                return Check(name, "warn", f"{text}, is of another flux-tree", SET_UP)
            return Check(name, "ok", text)
    try:
        folders = _install.flux_folders()
    except UsageError as exc:
        return Check(name, "missing", str(exc), "")
    if (folders.rc / _setup.RC_FILE.name).exists():
        plugin = folders.private / _setup.PLUGIN.name
        if not plugin.exists():
            text = f"installed in {folders.rc}, but {plugin} is not there"
            return Check(name, "missing", text, "flux-tree install")
        if not _same(plugin, _setup.PLUGIN):
            text = f"installed in {folders.rc}, with another plugin than that of this flux-tree"
            return Check(name, "warn", text, "flux-tree install")
        return Check(name, "ok", f"installed in {folders.rc}")
    text = "in no folder of FLUX_SHELL_RC_PATH, and not installed"
    return Check(name, "missing", f"{text}: -o tree-bcast would be ignored", SET_UP)


def _cli() -> Check:
    if "--tree-bcast" in (flux_output("run", "--help") or ""):
        return Check("flux run", "ok", "has --tree-bcast")
    return Check("flux run", "missing", "has no --tree-bcast", SET_UP)


def _command(version: str) -> Check:
    name = "flux tree"
    said = flux_output("tree", "--version")
    if said == f"flux-tree {__version__}":
        return Check(name, "ok", said)
    if said is not None:
        return Check(name, "warn", f"it is {said}, not {__version__}", SET_UP)
    if _numbers(version) < PATH_SINCE:
        mend = "set FLUX_EXEC_PATH_PREPEND to the folder of flux-tree, or type flux-tree"
        return Check(name, "warn", "not found", mend)
    return Check(name, "warn", "not found", f"{SET_UP}, or type flux-tree")


def _bindings(version: str) -> Check:
    name = "flux-python"
    try:
        flux = import_flux()
    except FluxTreeError as exc:
        text, _, mend = str(exc).rpartition(": ")
        return Check(name, "warn", text, mend)
    where = os.path.dirname(flux.__file__ or "")
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        wheel = distribution("flux-python")
    except PackageNotFoundError:
        return Check(name, "ok", f"Flux's own, {where}")
    if not wheel.locate_file("flux").samefile(where):  # type: ignore[attr-defined]
        return Check(name, "ok", f"Flux's own, {where}")
    if _numbers(wheel.version) != _numbers(version):
        return Check(
            name,
            "warn",
            f"{wheel.version}, and Flux is {version}",
            f"pip install 'flux-python=={version}'",
        )
    return Check(name, "ok", f"{wheel.version}, {where}")


def _nodes(size: int) -> Check:
    """Ask every broker for the plugin that its shells would load."""
    plugin = _setup.PLUGIN
    # what an installed rc file loads is elsewhere
    if not os.environ.get("FLUX_SHELL_RC_PATH"):
        installed = _install.flux_folders().private / plugin.name
        plugin = installed if installed.exists() else plugin
    name = "all nodes"
    digest = hashlib.sha256(plugin.read_bytes()).hexdigest()
    script = 'sha256sum < "$0" || echo none'
    command = [flux_command() or "flux", "exec", "--label-io", "-r", "all"]
    run = subprocess.run(
        [*command, "sh", "-c", script, str(plugin)], capture_output=True, text=True, check=False
    )
    answers = dict(re.findall(r"^(\d+): (\w+)", run.stdout, re.M))
    bad = [int(rank) for rank in answers if answers[rank] != digest]
    bad += [rank for rank in range(size) if str(rank) not in answers]
    if not bad:
        return Check(name, "ok", f"the same plugin on all {size} ranks")
    what = "no such file" if all(answers.get(str(r)) == "none" for r in bad) else "another or none"
    shown = ",".join(map(str, sorted(bad)[:8])) + ("..." if len(bad) > 8 else "")
    return Check(
        name,
        "missing",
        f"{plugin}: {what} on {len(bad)} of {size} ranks ({shown})",
        "install flux-tree on every node, or in a folder that all of them share",
    )


def _job() -> Check:
    """Run a job on one node that needs the plugin."""
    name = "a job"
    with tempfile.TemporaryDirectory() as top:
        source = Path(top) / "source"
        source.write_bytes(b"flux-tree")
        command = [flux_command() or "flux", "run", "-N1", "--time-limit=1m"]
        command += [f"--setopt=userrc={_setup.glob_escape(str(_setup.RC_FILE))}"]
        command += [f"--setopt=tree-bcast.file={source}"]
        command += ["sh", "-c", 'cat "$FLUX_JOB_TMPDIR/source"']
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=JOB_S
            )
        except subprocess.TimeoutExpired:
            text = f"none ran within {JOB_S:.0f} s, and its last state is unknown"
            return Check(name, "warn", text, "try again when a node is free; see 'flux jobs'")
    if run.stdout == "flux-tree":
        return Check(name, "ok", "a file was broadcast")
    lines = run.stderr.strip().splitlines() or ["it said nothing"]
    return Check(name, "missing", lines[0], "see the line above, and 'flux jobs'")


def _loaded(path: str) -> dict[str, str]:
    """Return the libraries that a file would load, each with its path or an empty text."""
    run = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    found = re.findall(r"^\s+(\S+)(?: => (.*?))?(?: \(0x\w+\))?$", run.stdout, re.M)
    return {
        os.path.basename(lib): "" if path == "not found" else (path or lib) for lib, path in found
    }


def _real(libraries: dict[str, str], name: str) -> str:
    for lib, path in libraries.items():
        if lib.startswith(name):
            return os.path.realpath(path)
    return ""


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (0, 88, 0) of 0.88.0-12-gabcdef."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
