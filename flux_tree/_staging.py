"""A source as an archive of Flux, for as long as one broadcast through the content cache takes."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any, Callable, NamedTuple

from .errors import SourceError, UsageError

__all__ = ["Staged", "stage"]


class Staged(NamedTuple):
    """An archive that was made for one broadcast.

    Attributes
    ----------
    name : str
        Of the archive.
    destination : str
        The directory that its contents must go to, so that the source stands where it should.
    remove : callable
        Removes the archive.
    """

    name: str
    destination: str
    remove: Callable[[], None]


def stage(handle: Any, source: str, destination: str, hosts: list[str]) -> Staged:
    """Make an archive of a source that comes out at a destination as `cp` would put it there.

    An archive goes into a directory, so what it must hold depends on whether the destination is
    one already. That is looked up here, on the ranks of this host.

    Parameters
    ----------
    handle : flux.Flux
        The instance.
    source : str
        Path of a file or a directory.
    destination : str
        As it was given to `flux_tree.broadcast`, but absolute or beginning with a template.
    hosts : list of str
        Of each rank.

    Returns
    -------
    Staged

    Raises
    ------
    SourceError
        If there is no such source, or it does not fit into an archive.
    UsageError
        If the destination cannot be reached with one archive.
    """
    from . import archive

    real = os.path.realpath(source)
    own = os.path.basename(os.path.abspath(source))
    name = f"flux-tree-{secrets.token_hex(8)}"
    if not os.path.exists(real):
        raise SourceError(f"source {source}: no such file or directory")
    into = _is_directory(destination, hosts)
    directory, wanted = (destination, own) if into else os.path.split(destination)
    where, what = os.path.split(real)
    if "{" in wanted and not os.path.isdir(real):
        raise UsageError(
            f"destination {destination}: through the content cache a file has one name on all"
            f" ranks: give a directory, as in {destination}/"
        )
    if "{" in wanted:  # another name on each rank: what is in the directory goes there
        where, what, directory = real, ".", destination
    # mapped files are read where they are, but only by the broker of rank 0
    archive.create(what, name, directory=where, mmap=handle.get_rank() == 0, handle=handle)
    staged = Staged(name, directory, lambda: archive.remove(name, handle=handle))
    try:
        if what not in (".", wanted):
            _rename(handle, name, what, wanted)
    except BaseException:
        staged.remove()
        raise
    return staged


def _is_directory(destination: str, hosts: list[str]) -> bool:
    """Return whether the source goes into the destination, under its own name."""
    if destination.endswith("/"):
        return True
    if destination.startswith("{{"):
        return "/" not in destination  # such as {{tmpdir}}
    here = [r for r, host in enumerate(hosts) if host == socket.gethostname()]
    found = {os.path.isdir(destination.replace("{rank}", str(r))) for r in here}
    if len(found) > 1:
        raise UsageError(
            f"destination {destination}: a directory on some ranks, not on others: end it with /"
            " if the source shall go into it, or remove them"
        )
    return found == {True}


def _rename(handle: Any, name: str, old: str, new: str) -> None:
    """Give the one thing at the top of an archive another name."""
    import flux.kvs

    key = f"archive.{name}"
    entries = flux.kvs.get(handle, key)
    for entry in entries:
        first, slash, rest = entry["path"].partition("/")
        if first == old:
            entry["path"] = new + slash + rest
    flux.kvs.put(handle, key, entries)
    flux.kvs.commit(handle)
