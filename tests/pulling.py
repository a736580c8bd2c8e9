"""Broadcasts of what a registry of the tests' own has, and what is to come of them."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import deque
from pathlib import Path
from typing import Any

import pytest

import flux_tree
from flux_tree._registry._blob import Blob, stream
from flux_tree._registry._client import Client, Patience
from flux_tree._registry._contents import contents, with_directories
from flux_tree._registry._manifest import compose
from flux_tree._registry._reference import Reference
from flux_tree._registry._unpack import unpacked
from flux_tree.errors import SourceError

from hostile_registry import TITLE, Registry  # isort: skip
from support import leftovers  # isort: skip


def own_folders(top: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the logins of whoever runs the tests out of it; return where there may be some."""
    monkeypatch.setenv("DOCKER_CONFIG", str(top / "docker"))
    monkeypatch.setenv("TMPDIR", str(top / "tmp"))
    (top / "tmp").mkdir()
    (top / "docker").mkdir()
    return top / "docker" / "config.json"


def bcast(registry: Registry, name: str, to: Path, ranks: int = 3, **more: Any) -> Any:
    reference = f"{registry.scheme}{registry.host}/{name}"
    return flux_tree.broadcast(reference, to / "r{rank}", ranks=ranks, bandwidth=1e9, **more)


def refusal(registry: Registry, name: str, to: Path, **more: Any) -> str:
    """Broadcast what cannot be; return why not, if nothing is left of it."""
    to.mkdir(exist_ok=True)
    with pytest.raises(SourceError) as caught:
        bcast(registry, name, to, **more)
    assert not list(to.glob("r*")) and leftovers(to) == []
    text = str(caught.value)
    assert text.count("\n") == 0 and f"source {registry.scheme}{registry.host}/{name}: " in text
    return text.partition(f"/{name}: ")[2]


def no(registry: Registry, name: str) -> str:
    """Pull what cannot be, in this process, which is quicker; return why not."""
    reference = Reference.parse(f"{registry.scheme}{registry.host}/{name}")
    with pytest.raises(SourceError) as caught:
        client = Client(reference, Patience(reference, 20))
        items = with_directories(unpacked(client, contents(client)), reference.text)
        compose(items)
        for item in items:
            if isinstance(item.data, Blob):
                deque(stream(client, item.data), 0)
    return str(caught.value).partition(f"source {reference.text}: ")[2] or str(caught.value)


def tree(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def ok(registry: Registry, name: str, to: Path, files: dict[str, bytes], **more: Any) -> Any:
    result = bcast(registry, name, to, **more)
    for rank in range(3):
        assert tree(to / f"r{rank}") == files
    assert not list((to / "tmp").iterdir())
    return result


def packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(out.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, target, mode, 1_600_000_000
    return info


def directory(bad: Registry, tag: str, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Add a plain file and a packed directory under a tag."""
    notes = {TITLE: "dir", "io.deis.oras.content.unpack": "true"}
    layer = {**bad.blob(packed(members)), "annotations": notes}
    plain = {**bad.blob(b"plain"), "annotations": {TITLE: "plain"}}
    config = {**bad.blob(b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"}
    bad.manifest(tag, {"config": config, "layers": [plain, layer]})
