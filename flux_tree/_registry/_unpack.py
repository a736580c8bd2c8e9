"""Layers that are directories, packed: what they hold is known only when they are unpacked.

Nothing is unpacked by name: each file goes into a temporary one that has a number, so that no name
in an archive can lead anywhere; the names are checked with all others of the payload.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._blob import Blob, stream
from ._client import Client
from ._contents import Item

__all__ = ["unpacked"]

CHUNK = 1 << 20


def unpacked(client: Client, items: list[Item], folder: Path) -> list[Item]:
    """Replace items that are packed by what is in them.

    Parameters
    ----------
    client : Client
        Of the registry.
    items : list of Item
        Of the payload.
    folder : Path
        A temporary one, for what is unpacked.

    Returns
    -------
    list of Item

    Raises
    ------
    SourceError
        If a layer cannot be had, or holds what cannot travel.
    """
    result = []
    for number, item in enumerate(items):
        if not item.unpack:
            result.append(item)
            continue
        assert isinstance(item.data, Blob)
        place = folder / str(number)
        place.mkdir()
        packed = place / "packed"
        with open(packed, "wb") as out:
            for part in stream(client, item.data):
                out.write(part)
        result.append(Item(item.path, mode=0o755, mtime=item.mtime, directory=True))
        try:
            result += _members(client, item, packed, place)
        except (tarfile.TarError, EOFError, OSError, ValueError) as exc:
            raise client.failure(f"layer {item.path[:200]}: cannot be unpacked ({exc})") from None
        packed.unlink()
    return result


def _members(client: Client, item: Item, packed: Path, place: Path) -> Iterator[Item]:
    files: dict[str, Item] = {}
    with tarfile.open(packed, "r:*") as archive:
        for number, member in enumerate(archive):
            path = _path(item.path, member.name)
            if path == item.path:
                continue
            common: dict[str, Any] = {
                "mode": member.mode & 0o777,
                "mtime": max(0, int(member.mtime)),
            }
            if member.isdir():
                yield Item(path, directory=True, **common)
            elif member.issym():
                yield Item(path, target=member.linkname, **common)
            elif member.isreg():
                source = archive.extractfile(member)
                assert source is not None
                data = place / f"f{number}"
                with open(data, "wb") as out:
                    shutil.copyfileobj(source, out, CHUNK)
                files[path] = Item(path, data, os.path.getsize(data), **common)
                yield files[path]
            elif member.islnk() and _path(item.path, member.linkname) in files:
                other = files[_path(item.path, member.linkname)]
                files[path] = Item(path, other.data, other.size, **common)
                yield files[path]
            else:
                raise client.failure(
                    f"layer {item.path[:200]}: '{member.name[:200]}' in it is neither a file, a"
                    " directory nor a link"
                )


def _path(title: str, name: str) -> str:
    """Return where a member goes: who packed may or may not have put the title before it."""
    name = name[2:] if name.startswith("./") else name
    for prefix in (title, title.rsplit("/", 1)[-1]):
        if name.rstrip("/") == prefix:
            return title
        if name.startswith(f"{prefix}/"):
            return f"{title}/{name[len(prefix) + 1 :].rstrip('/')}"
    return title if name in ("", ".") else f"{title}/{name.rstrip('/')}"
