"""Installs the plugins into Flux's own folders, so that all users have them with no set-up.

What is copied stands in a private folder beside Flux's shell plugins, laid out as in the package,
and out of the way of what flux-shell loads by itself. Flux's own folders get a line, a link and a
script that lead there.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import _setup
from ._flux import flux_output
from .errors import DestinationError, SourceError, UsageError

__all__ = ["Folders", "flux_folders", "install", "remove", "unreadable"]

#: The list of all that was installed, in the private folder.
LIST = "installed"
RC_NAME = "tree-bcast.lua"
CLI_NAME = "tree_bcast.py"


class Folders(NamedTuple):
    """Where things go.

    Attributes
    ----------
    private : Path
        Of flux-tree alone.
    rc : Path
        flux-shell sources all Lua files there.
    cli : Path
        ``flux run`` imports all Python files there.
    commands : Path
        ``flux NAME`` looks for ``flux-NAME`` there.
    """

    private: Path
    rc: Path
    cli: Path
    commands: Path


def flux_folders() -> Folders:
    """Return the folders of the ``flux`` on PATH.

    Returns
    -------
    Folders

    Raises
    ------
    UsageError
        If there is none, or it does not tell.
    """
    plugins = flux_output("config", "builtin", "shell_pluginpath")
    rc = flux_output("config", "builtin", "shell_initrc")
    libexec = flux_output("config", "builtin", "libexecdir")
    conf = flux_output("config", "builtin", "confdir")
    commands = flux_output("config", "builtin", "exec_path")
    if not (plugins and rc and libexec and conf and commands):
        raise UsageError(
            "Flux's folders cannot be found: 'flux config builtin' does not work here; set PATH"
            " to where Flux is"
        )
    cli = Path(libexec) / "cli" / "plugins"
    return Folders(
        private=Path(plugins.split(":")[0]).parent / "tree-bcast",
        rc=Path(rc).parent / "lua.d",
        cli=cli if cli.is_dir() else Path(conf) / "cli" / "plugins",  # no such before Flux 0.84
        commands=Path(commands.split(":")[0]),
    )


def install(folders: Folders, destdir: Path = Path("/")) -> list[Path]:
    """Install for all users.

    Parameters
    ----------
    folders : Folders
        Where to.
    destdir : Path, default /
        Put before every folder, to make a package or a layer of an image; what is written does
        not mention it.

    Returns
    -------
    list of Path
        What was written, in that order.

    Raises
    ------
    SourceError
        If there is no plugin to install.
    DestinationError
        If a file of another origin is in the way, or a folder cannot be written.
    """
    missing = _setup.no_plugin()
    if missing is not None:
        raise SourceError(missing)
    private = folders.private
    rc_file = private / "shell" / RC_NAME
    cli_file = private / "flux_cli" / CLI_NAME
    copies = {
        private / _setup.PLUGIN.name: (_setup.PLUGIN.read_bytes(), 0o755),
        rc_file: (_setup.RC_FILE.read_bytes(), 0o644),
        cli_file: ((_setup.CLI_FOLDER / CLI_NAME).read_bytes(), 0o644),
        private / "python": (os.fsencode(sys.executable + "\n"), 0o644),
        # only for jobs that want it: were the private folder missing on a node, others go on
        folders.rc / RC_NAME: (
            'if shell.options["tree-bcast"] ~= nil then\n'
            f"    source {_lua_text(_setup.glob_escape(str(rc_file)))}\n"
            "end\n".encode(),
            0o644,
        ),
        folders.commands / "flux-tree": (
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flux_tree "$@"\n'.encode(),
            0o755,
        ),
    }
    link = folders.cli / CLI_NAME
    known = _known(folders, destdir)
    written: list[Path] = []
    made: list[Path] = []
    for path in [*copies, link]:
        if path not in known and os.path.lexists(_below(destdir, path)):
            raise DestinationError(
                f"{_below(destdir, path)}: not installed by flux-tree, move it out of the way"
            )
    try:
        for path, (content, mode) in copies.items():
            made += _make_folders(destdir, path.parent)
            _write(_below(destdir, path), content, mode)
            written.append(path)
        made += _make_folders(destdir, link.parent)
        _link(_below(destdir, link), cli_file)
        written.append(link)
        listed = [*[p for p in known if p not in written], *made, *written]
        text = "".join(f"{path}\n" for path in [*listed, private / LIST])
        _write(_below(destdir, private / LIST), os.fsencode(text), 0o644)
    except OSError as exc:
        for path in reversed([p for p in [*made, *written] if p not in known]):
            _delete(_below(destdir, path))
        name = os.fsdecode(exc.filename) if exc.filename else str(private)
        raise DestinationError(
            f"{name}: cannot be written ({exc.strerror}): run this as who owns Flux's folders,"
            " or use 'flux-tree env', which needs no rights"
        ) from None
    return [_below(destdir, path) for path in [*written, private / LIST]]


def remove(folders: Folders, destdir: Path = Path("/")) -> list[Path]:
    """Take away what `install` has written, and the folders that it made, if nothing is in them.

    Parameters
    ----------
    folders : Folders
        Where it was installed.
    destdir : Path, default /
        As in `install`.

    Returns
    -------
    list of Path
        What was taken away.

    Raises
    ------
    SourceError
        If nothing is installed.
    DestinationError
        If a folder cannot be written.
    """
    known = _known(folders, destdir)
    if not known:
        raise SourceError(
            f"{_below(destdir, folders.private / LIST)}: no such file, so nothing is installed"
        )
    gone = []
    # what Flux's interpreter made of the CLI plugin
    cache = _below(destdir, folders.cli) / "__pycache__"
    compiled = [Path("/", p.relative_to(destdir)) for p in cache.glob(f"{Path(CLI_NAME).stem}.*")]
    known += compiled
    files = [p for p in known if not _is_folder(_below(destdir, p))]
    # what leads to the private folder goes first, the list of all last
    order = sorted(files, key=lambda p: (folders.private in p.parents, p.name == LIST))
    order += sorted((p for p in known if p not in files), key=lambda p: -len(p.parts))
    for path in order:
        place = _below(destdir, path)
        try:
            if _delete(place):
                gone.append(place)
        except OSError as exc:
            raise DestinationError(
                f"{place}: cannot be removed ({exc.strerror}): run this as who owns Flux's folders"
            ) from None
    return gone


def unreadable(path: str | os.PathLike[str]) -> Path | None:
    """Return the first folder or file on the way to a path that other users may not enter.

    Parameters
    ----------
    path : path-like
        Absolute.

    Returns
    -------
    Path or None
    """
    whole = Path(path)
    for part in [*reversed(whole.parents), whole]:
        if not part.stat().st_mode & stat.S_IXOTH:
            return part
    return None


def _below(destdir: Path, path: Path) -> Path:
    return destdir / path.relative_to("/")


def _known(folders: Folders, destdir: Path) -> list[Path]:
    try:
        text = _below(destdir, folders.private / LIST).read_bytes()
    except OSError:
        return []
    return [Path(os.fsdecode(line)) for line in text.splitlines()]


def _make_folders(destdir: Path, folder: Path) -> Iterator[Path]:
    """Make a folder and those above it; yield each that was not there."""
    missing = []
    while not _below(destdir, folder).is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        place = _below(destdir, path)
        place.mkdir()
        place.chmod(0o755)  # whatever the umask
        yield path


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file under a temporary name, so that nobody ever reads half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _link(path: Path, target: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(target)
    os.replace(temporary, path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _delete(path: Path) -> bool:
    """Remove a file, a link, or a folder that is empty; return whether anything went."""
    try:
        if _is_folder(path):
            path.rmdir()
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError:
        if _is_folder(path) and any(path.iterdir()):  # others have put something there
            return False
        raise
    return True


def _lua_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
