"""Layers that are directories, packed: what they hold is known only when they are unpacked.

Nothing is unpacked by name: the data of all files goes into one temporary file, which has none
itself. So no name in an archive can lead anywhere (they are checked with all others of the
payload), and nothing is left, however this ends.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import SourceError
from ._blob import Blob, stream
from ._client import Client
from ._contents import Item, Kept

__all__ = ["unpacked"]

CHUNK = 1 << 20


def unpacked(client: Client, items: list[Item]) -> list[Item]:
    """Replace items that are packed by what is in them.

    Parameters
    ----------
    client : Client
        Of the registry.
    items : list of Item
        Of the payload.

    Returns
    -------
    list of Item

    Raises
    ------
    SourceError
        If a layer cannot be had, or holds what cannot travel.
    """
    result = []
    for item in items:
        result += _unpack(client, item) if item.unpack else [item]
    return result


def _unpack(client: Client, item: Item) -> list[Item]:
    assert isinstance(item.data, Blob)
    what = f"layer {item.path[:200]}"
    top = Item(item.path, mode=0o755, mtime=item.mtime, directory=True)
    try:
        with tempfile.TemporaryFile() as packed:
            for part in stream(client, item.data):
                packed.write(part)
            packed.seek(0)
            return [top, *_members(client, item, packed)]
    except (SourceError, MemoryError):
        raise
    except OSError as exc:
        raise client.failure(
            f"{what}: cannot be unpacked in {tempfile.tempdir or 'TMPDIR'} ({exc.strerror or exc})"
        ) from None
    except Exception as exc:  # of tarfile and whatever decompresses, each has its own
        raise client.failure(f"{what}: cannot be unpacked ({exc or type(exc).__name__})") from None


def _members(client: Client, item: Item, packed: BinaryIO) -> Iterator[Item]:
    files: dict[str, Item] = {}
    # it has no name, and is gone when the last item is
    kept = tempfile.TemporaryFile()  # noqa: SIM115
    with tarfile.open(fileobj=packed, mode="r:*", encoding="utf-8") as archive:
        for member in archive:
            path = _path(item.path, member.name)
            if path == item.path:
                continue
            common: dict[str, Any] = {
                "mode": member.mode & 0o777,
                # what it says may be anything
                "mtime": int(min(max(0, member.mtime), 1 << 40)),
            }
            if member.isdir():
                yield Item(path, directory=True, **common)
            elif member.issym():
                yield Item(path, target=member.linkname, **common)
            elif member.isreg():
                source = archive.extractfile(member)
                assert source is not None
                at = kept.tell()
                shutil.copyfileobj(source, kept, CHUNK)
                files[path] = Item(path, Kept(kept, at), kept.tell() - at, **common)
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
        # what is packed has its checksum at its end
        while archive.fileobj is not None and archive.fileobj.read(CHUNK):
            pass
    kept.flush()


def _path(title: str, name: str) -> str:
    """Return where a member goes: who packed may or may not have put the title before it."""
    name = name[2:] if name.startswith("./") else name
    for prefix in (title, title.rsplit("/", 1)[-1]):
        if name.rstrip("/") == prefix:
            return title
        if name.startswith(f"{prefix}/"):
            return f"{title}/{name[len(prefix) + 1 :].rstrip('/')}"
    return title if name in ("", ".") else f"{title}/{name.rstrip('/')}"
