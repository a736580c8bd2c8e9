"""Streams one blob of a registry, and checks its digest while it flows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._client import Client, _reason

__all__ = ["Blob", "stream"]

CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """What a descriptor says of a blob.

    Attributes
    ----------
    digest : str
        ``sha256:`` and 64 hexadecimal digits.
    size : int
        Bytes.
    """

    digest: str
    size: int


def stream(client: Client, blob: Blob) -> Iterator[bytes]:
    """Fetch a blob, from where it was cut whenever it is.

    Parameters
    ----------
    client : Client
        Of its registry.
    blob : Blob
        What is fetched.

    Yields
    ------
    bytes
        At most 1 MiB.

    Raises
    ------
    SourceError
        If it cannot be had, or at its end, if that was not it.
    """
    what = f"blob {blob.digest[:19]}..."
    sha256 = hashlib.sha256()
    have = 0
    while have < blob.size:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with client.get(client.url("blobs", blob.digest), what, headers) as response:
            if response is None:
                continue
            skip = have - _start(response)
            length = response.headers.get("Content-Length")
            if skip < 0 or (length is not None and int(length) != blob.size - have + skip):
                raise client.failure(
                    f"{what}: the registry has {length} bytes of it from {have - skip} on, and its"
                    f" manifest says that it has {blob.size}"
                )
            try:
                while have < blob.size:
                    part = _read(response.raw, skip if 0 < skip < CHUNK else CHUNK)
                    if not part:
                        break
                    client.patience.progress()
                    if skip:
                        skip -= len(part)
                        continue
                    have += len(part)
                    if have > blob.size:
                        break
                    sha256.update(part)
                    yield part
            except _network_errors() as exc:
                client.patience.pause(f"{what}: {_reason(exc)}")
                continue
            if have > blob.size:
                raise client.failure(f"{what}: more has come than the {blob.size} bytes it has")
            if have < blob.size:
                client.patience.pause(f"{what}: it ended after {have} of {blob.size} bytes")
    found = f"sha256:{sha256.hexdigest()}"
    if found != blob.digest:
        raise client.failure(
            f"what came is not what its manifest names: {found} instead of {blob.digest}"
        )


def _read(raw: Any, size: int) -> bytes:
    """Return what has come, instead of waiting for all of `size`."""
    read = getattr(raw, "read1", raw.read)  # no such thing before urllib3 2.1
    return bytes(read(size, decode_content=False))


def _start(response: Any) -> int:
    """Return where the body begins; a registry may not heed a Range."""
    if response.status_code != 206:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else 0


def _network_errors() -> tuple[type[Exception], ...]:
    import urllib3

    return (urllib3.exceptions.HTTPError, OSError)
