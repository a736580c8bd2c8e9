"""Archives of Flux: what ``stage-in`` and the content transport send out.

An archive is a list of files under a name in the key-value store of an instance, with their data
in its content store (RFC 37). These functions are Flux's own command ``flux archive`` on the
instance of a handle.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterable
from typing import Any, Union

from .errors import DestinationError, FluxTreeError, SourceError, UsageError

__all__ = ["create", "names", "remove"]

Paths = Union[str, os.PathLike, Iterable[Union[str, os.PathLike]]]

#: Where an archive NAME stands in the key-value store, and its blobs.
FOLDER = "archive"
BLOBS = "_blobs"


def create(
    paths: Paths,
    name: str = "main",
    *,
    directory: str | os.PathLike[str] | None = None,
    mmap: bool = False,
    handle: Any = None,
) -> None:
    """Make an archive of files and directories of this machine.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        What goes into it, under the names given here.
    name : str, default "main"
        What the archive is called. There must be none of that name.
    directory : path-like, optional
        Where relative paths start; the current directory, if not given.
    mmap : bool, default False
        Map the files into the content store instead of copying them: faster to make, but they
        must not change, nor go away, until the archive is removed. Only on the node of rank 0.
    handle : flux.Flux, optional
        The instance; the one around, if not given.

    Raises
    ------
    SourceError
        If a path is not there, or cannot be read.
    DestinationError
        If there is an archive of that name.
    UsageError
        If a name makes no sense, or no instance can be reached.
    """
    name = _name(name)
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    texts = [os.fspath(path) for path in paths]
    if not texts:
        raise UsageError(f"archive '{name}': no paths, give what goes into it")
    where = os.fspath(directory) if directory is not None else os.getcwd()
    for path in texts:
        whole = os.path.join(where, path)
        if not os.path.lexists(whole):
            raise SourceError(f"{whole}: there is no such file or directory")
    from ._flux import connect

    handle = connect(handle)
    if name in names(handle=handle):
        raise DestinationError(
            f"archive '{name}': it is there already, remove it first, or give another name"
        )
    options = ["--name", name, "--directory", where]
    if mmap:
        options.append("--mmap")
    error = _run(handle, "create", *options, "--", *texts)
    if error:
        raise SourceError(f"archive '{name}': it cannot be made ({error})")


def remove(*archives: str, handle: Any = None) -> None:
    """Remove archives. Their data goes from the content store when Flux collects its garbage.

    Parameters
    ----------
    *archives : str
        Their names; "main", if none is given.
    handle : flux.Flux, optional
        The instance; the one around, if not given.

    Raises
    ------
    SourceError
        If there is none of that name; those named before it are removed then.
    UsageError
        If a name makes no sense, or no instance can be reached.
    """
    wanted = [_name(name) for name in archives or ("main",)]
    from ._flux import connect

    handle = connect(handle)
    for name in wanted:
        error = _run(handle, "remove", "--name", name)
        if error:
            there = ", ".join(names(handle=handle)) or "none"
            raise SourceError(f"archive '{name}': it cannot be removed ({error}); there is {there}")


def names(*, handle: Any = None) -> list[str]:
    """Return the names of all archives of an instance, sorted.

    Parameters
    ----------
    handle : flux.Flux, optional
        The instance; the one around, if not given.

    Returns
    -------
    list of str

    Raises
    ------
    UsageError
        If no instance can be reached, or its key-value store does not answer.
    """
    from ._flux import connect

    handle = connect(handle)
    import flux.kvs

    try:
        found = list(flux.kvs.get_dir(handle, FOLDER, namespace="primary"))
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            return []
        raise UsageError(
            f"the archives of the instance cannot be listed ({exc.strerror or exc})"
        ) from None
    # beside NAME there may be the folder NAME_blobs, which holds no archive of its own
    return sorted(n for n in found if not (n.endswith(BLOBS) and n[: -len(BLOBS)] in found))


def _name(name: str) -> str:
    if not isinstance(name, str) or not name or "." in name or "/" in name or "\0" in name:
        raise UsageError(f"archive {name!r}: this is no name, give one without dots and slashes")
    return name


def _run(handle: Any, *args: str | os.PathLike[str]) -> str:
    """Run ``flux archive`` on the instance of a handle; return what it had to say if it failed."""
    from ._flux import flux_command

    command = flux_command()
    if command is None:
        raise FluxTreeError("the command 'flux' is not on PATH: set PATH to where Flux is")
    run = subprocess.run(
        [command, "archive", *args],
        env={**os.environ, "FLUX_URI": handle.attr_get("local-uri")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if run.returncode == 0:
        return ""
    lines = os.fsdecode(run.stderr).strip().splitlines() or [f"exit code {run.returncode}"]
    return lines[-1].replace("flux-archive: ", "", 1)
