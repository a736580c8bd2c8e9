"""The manifest of a payload that is yet to come."""

from __future__ import annotations

from collections.abc import Sequence

from .._native import check, ffi, lib
from ..errors import SourceError
from ._contents import Item, encoded

__all__ = ["compose"]


def compose(items: Sequence[Item]) -> bytes:
    """Return the encoded manifest of what will be in a directory.

    Parameters
    ----------
    items : sequence of Item
        Sorted by their components, each directory before what is in it.

    Returns
    -------
    bytes

    Raises
    ------
    SourceError
        If a name is none below the destination.
    """
    for item in items:
        if "\0" in item.path or "\0" in (item.target or ""):
            raise SourceError(
                f"{item.path[:200]!r} in the source: not a name below the destination"
            )
    array = ffi.new("struct node_item[]", len(items))
    keep = []
    for entry, item in zip(array, items):
        keep.append(ffi.new("char[]", encoded(item.path)))
        entry.path = keep[-1]
        if item.target is not None:
            keep.append(ffi.new("char[]", encoded(item.target)))
            entry.target = keep[-1]
        entry.size = item.size
        entry.mode = item.mode
        entry.directory = item.directory
        entry.mtime = item.mtime
    size = ffi.new("size_t *")
    fault = ffi.new("struct fault *")
    data = lib.node_compose(array, len(items), size, fault)
    if data == ffi.NULL:
        check(-1, fault, SourceError)
    try:
        return bytes(ffi.buffer(data, size[0]))
    finally:
        lib.node_free(data)
