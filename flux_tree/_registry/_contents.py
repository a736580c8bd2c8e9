"""What a name in a registry stands for: the files that it comes to, and where each is."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Union

from ..errors import SourceError
from ._blob import Blob
from ._client import Client, network_errors, reason

__all__ = ["Item", "Kept", "contents", "encoded", "with_directories"]

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
IMAGES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
CREATED = "org.opencontainers.image.created"
#: No manifest is larger, and no registry takes one that is.
MANIFEST_MAX = 4 << 20
#: What Python calls a processor, and what OCI does.
PROCESSORS = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "loongarch64": "loong64",
}

#: No path is longer, in bytes.
PATH_LENGTH_MAX = 4095


@dataclass(frozen=True)
class Kept:
    """Where in a file the bytes are.

    Attributes
    ----------
    file : BinaryIO
        A temporary one.
    at : int
        From where on.
    """

    file: BinaryIO
    at: int


#: Bytes that are at hand, in a file, or still to be fetched.
Data = Union[bytes, Kept, Blob, None]


@dataclass(frozen=True)
class Item:
    """A file, a directory or a link of the payload.

    Attributes
    ----------
    path : str
        Below the destination.
    data : bytes, Kept, Blob or None
        Of a file.
    size : int
        Bytes.
    mode : int
        Permission bits.
    mtime : int
        Seconds since the epoch.
    directory : bool
        It is one.
    target : str or None
        Of a link.
    unpack : bool
        It is an archive, and what it holds is the directory `path`.
    """

    path: str
    data: Data = None
    size: int = 0
    mode: int = 0o644
    mtime: int = 0
    directory: bool = False
    target: str | None = None
    unpack: bool = False


def contents(client: Client) -> list[Item]:
    """Ask the registry what there is.

    Parameters
    ----------
    client : Client
        Of the registry.

    Returns
    -------
    list of Item
        In no order; directories that files are in are not all named.

    Raises
    ------
    SourceError
        If there is no such thing, or it is none that flux-tree knows.
    """
    reference = client.reference
    document, raw, digest = _manifest(client, reference.digest or reference.tag, reference.digest)
    if document.get("mediaType") in INDEXES or "manifests" in document:
        digest = _choose(client, document)
        document, raw, digest = _manifest(client, digest, digest)
    layers = document.get("layers")
    if document.get("schemaVersion") != 2 or not isinstance(layers, list):
        raise client.failure("its manifest is none of version 2 of OCI or Docker: push it anew")
    config = document.get("config")
    titled = any(_annotations(layer).get(TITLE) for layer in layers)
    if not titled and isinstance(config, dict) and config.get("mediaType") in IMAGES:
        return _layout(client, document, raw, digest)
    return [_file(client, layer, _created(document)) for layer in layers]


def _manifest(client: Client, name: str, digest: str | None) -> tuple[dict[str, Any], bytes, str]:
    what = f"manifest {name}" if name.startswith("sha256:") else f"tag {name}"
    while True:
        accept = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        with client.get(client.url("manifests", name), what, accept) as response:
            if response is None:
                continue
            raw = b""
            try:
                # the last read, of nothing, finds out whether it was cut
                while len(raw) <= MANIFEST_MAX and (
                    part := response.raw.read(MANIFEST_MAX + 1, decode_content=False)
                ):
                    raw += part
            except network_errors() as exc:
                client.patience.pause(f"{what}: {reason(exc)}")
                continue
            said = response.headers.get("Docker-Content-Digest")
            break
    client.patience.progress()
    if len(raw) > MANIFEST_MAX:
        raise client.failure(f"{what}: has more than {MANIFEST_MAX} bytes, so it is no manifest")
    found = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    wanted = digest or (said if said and said.startswith("sha256:") else found)
    if found != wanted:
        raise client.failure(f"{what}: its manifest is not the one: {found} instead of {wanted}")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise client.failure(f"{what}: its manifest is no object of JSON")
    return document, raw, found


def _choose(client: Client, index: dict[str, Any]) -> str:
    """Return the digest of the manifest that is for this machine."""
    machine = platform.machine()
    processor = PROCESSORS.get(machine, machine)
    listed = index.get("manifests")
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    there = []
    for entry in entries:
        known = entry.get("platform")
        if len(entries) == 1 and not known:
            return _descriptor(client, entry).digest
        known = known if isinstance(known, dict) else {}
        there.append(f"{known.get('os', 'unknown')}/{known.get('architecture', 'unknown')}")
        if there[-1] == f"linux/{processor}":
            return _descriptor(client, entry).digest
    names = ", ".join(n for n in dict.fromkeys(there) if "unknown" not in n) or "nothing"
    raise client.failure(f"there is none for linux/{processor}, only for {names[:1000]}")


def _descriptor(client: Client, entry: Any) -> Blob:
    digest = entry.get("digest") if isinstance(entry, dict) else None
    size = entry.get("size") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or type(size) is not int or not 0 <= size < 1 << 63:
        raise client.failure("its manifest is damaged: an entry has no digest or no size")
    if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise client.failure(f"its manifest names {digest[:80]}: only sha256: is known here")
    return Blob(digest, size)


def _annotations(entry: Any) -> dict[str, Any]:
    found = entry.get("annotations") if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


def _created(document: dict[str, Any]) -> int:
    # Python 3.9 knows neither Z nor nanoseconds
    text = re.sub(r"\.\d+", "", str(_annotations(document).get(CREATED))).replace("Z", "+00:00")
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp()))
    except ValueError:
        return int(time.time())


def _file(client: Client, layer: Any, mtime: int) -> Item:
    blob = _descriptor(client, layer)
    annotations = _annotations(layer)
    title = str(annotations.get(TITLE) or blob.digest)
    # oras for Python names no such thing, but packs directories as layers of that type
    unpack = annotations.get(UNPACK) == "true" or (
        UNPACK not in annotations
        and TITLE in annotations
        and layer.get("mediaType") == LAYER
        and not title.endswith((".tar.gz", ".tgz"))
    )
    return Item(title, blob, blob.size, mtime=mtime, unpack=unpack)


def _layout(client: Client, document: dict[str, Any], raw: bytes, digest: str) -> list[Item]:
    """Return the files of an OCI layout that has one image."""
    reference = client.reference
    mtime = _created(document)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEXES[0],
        "manifests": [
            {
                "mediaType": document.get("mediaType") or MANIFESTS[0],
                "digest": digest,
                "size": len(raw),
                "annotations": {
                    "io.containerd.image.name": reference.full_name,
                    "org.opencontainers.image.ref.name": reference.tag or digest,
                },
            }
        ],
    }
    texts = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps(index, indent=1).encode(),
        _place(digest): raw,
    }
    blobs = {}
    for entry in (document["config"], *document["layers"]):
        kind = str(entry.get("mediaType")) if isinstance(entry, dict) else ""
        if ("foreign" in kind or "nondistributable" in kind) and entry.get("urls"):
            raise client.failure("it has layers that are elsewhere than in its registry")
        blob = _descriptor(client, entry)
        blobs[_place(blob.digest)] = blob
    return [
        *(Item(path, text, len(text), mtime=mtime) for path, text in texts.items()),
        *(Item(path, blob, blob.size, mtime=mtime) for path, blob in blobs.items()),
    ]


def _place(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def with_directories(items: Iterable[Item], reference: str) -> list[Item]:
    """Return the items in the order of a manifest, and all directories that they are in.

    Parameters
    ----------
    items : iterable of Item
        In any order.
    reference : str
        What they are of, for messages.

    Returns
    -------
    list of Item

    Raises
    ------
    SourceError
        If two of them have the same name, or one has none that a file can have.
    """
    found: dict[str, Item] = {}
    for item in items:
        try:
            length = max(len(encoded(item.path)), len(encoded(item.target or "")))
        except UnicodeEncodeError:
            raise SourceError(f"source {reference}: {item.path[:200]!r} in it is no text") from None
        if length > PATH_LENGTH_MAX:
            raise SourceError(
                f"source {reference}: '{item.path[:200]}...' in it is longer than a path can be"
            )
        known = found.get(item.path)
        if known is not None and not (known.directory and item.directory):
            raise SourceError(f"source {reference}: it has '{item.path[:200]}' twice")
        found[item.path] = item
    for item in list(found.values()):
        parts = item.path.split("/")
        for depth in range(1, len(parts)):
            path = "/".join(parts[:depth])
            found.setdefault(path, Item(path, mode=0o755, mtime=item.mtime, directory=True))
    return sorted(found.values(), key=lambda i: encoded(i.path).split(b"/"))


def encoded(name: str) -> bytes:
    """Return a name as it is in the file system, whatever the locale.

    Parameters
    ----------
    name : str
        Of a manifest, or of an archive of which it need not be UTF-8.

    Returns
    -------
    bytes

    Raises
    ------
    UnicodeEncodeError
        If it is neither.
    """
    return name.encode("utf-8", "surrogateescape")
