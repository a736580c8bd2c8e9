"""A registry as the source: what is pulled, what goes wrong, and what is made good."""

from __future__ import annotations

import json
import os
import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_tree._registry import Reference, is_reference
from flux_tree._registry._contents import Item, with_directories
from flux_tree._registry._manifest import compose
from flux_tree.errors import SourceError, UsageError

from hostile_registry import INDEX, TITLE, Registry, digest_of, hostile  # isort: skip
from pulling import bcast, directory, member, no, ok, own_folders, packed, refusal  # isort: skip

PROCESSOR = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_folders(tmp_path, monkeypatch)


@pytest.fixture
def bad() -> Iterator[Registry]:
    with hostile() as found:
        yield found


# ---- names


@pytest.mark.parametrize(
    ("text", "host", "name", "tag", "digest"),
    [
        ("oci://a.b/c", "a.b", "c", "latest", None),
        ("oci://a:5000/c/d-e_f:V1.2", "a:5000", "c/d-e_f", "V1.2", None),
        ("oci+http://[::1]:5000/c", "[::1]:5000", "c", "latest", None),
        (f"oci://a/c@sha256:{'0' * 64}", "a", "c", "", f"sha256:{'0' * 64}"),
        (f"oci://a/c:t@sha256:{'f' * 64}", "a", "c", "t", f"sha256:{'f' * 64}"),
        ("oci://docker.io/debian:12", "docker.io", "library/debian", "12", None),
    ],
)
def test_names(text: str, host: str, name: str, tag: str, digest: str | None) -> None:
    found = Reference.parse(text)
    assert (found.host, found.name, found.tag, found.digest) == (host, name, tag, digest)
    assert found.protocol == ("http" if "+http" in text else "https") and is_reference(text)


@pytest.mark.parametrize(
    "rest",
    ["", "a", "a/", "a/B", "a/b:", "a/b@sha256:12", "a/b c", "/b", "a/../b", "u:p@a/b", "a/b?x=1"],
)
def test_no_names(rest: str) -> None:
    with pytest.raises(UsageError, match="no name in a registry"):
        Reference.parse(f"oci://{rest}")


def test_other_sources_are_no_references() -> None:
    assert not any(map(is_reference, ("a", "/oci://a/b", Path("oci://a/b"), None, "http://a/b")))


# ---- what there is


def test_an_artifact(bad: Registry, tmp_path: Path) -> None:
    files = {
        "a.bin": os.urandom(3_000_000),
        "sub/deep/b": b"b",
        "sub/c": os.urandom(70_000),
        "e": b"",
    }
    bad.artifact("v1", files)
    result = ok(bad, "x:v1", tmp_path, files)
    assert result.bytes == sum(map(len, files.values())) and result.files == 4
    assert result.source == f"oci+http://{bad.host}/x:v1"
    # once, by rank 0 alone
    assert len(bad.asked(digest_of(files["a.bin"]))) == 1


def test_by_digest(bad: Registry, tmp_path: Path) -> None:
    digest = bad.artifact("v1", {"a": b"1"})
    ok(bad, f"x@{digest}", tmp_path, {"a": b"1"})
    bad.artifact("v1", {"a": b"2"})
    bad.manifests[digest] = bad.manifests["v1"]
    assert "its manifest is not the one: sha256:" in refusal(bad, f"x@{digest}", tmp_path / "2")


def test_an_image_becomes_a_layout(bad: Registry, tmp_path: Path) -> None:
    layers = [os.urandom(500_000), os.urandom(10), b"same", b"same"]
    digest = bad.image("v1", layers)
    bcast(bad, "x:v1", tmp_path)
    top = tmp_path / "r2"
    assert json.loads((top / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((top / "index.json").read_text())["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"]["io.containerd.image.name"] == f"{bad.host}/x:v1"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "v1"
    blobs = list((top / "blobs" / "sha256").iterdir())
    assert len(blobs) == 5  # manifest, config, three layers
    for blob in blobs:
        assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"
    manifest = json.loads((top / "blobs/sha256" / digest[7:]).read_bytes())
    for descriptor in (manifest["config"], *manifest["layers"]):
        blob = top / "blobs/sha256" / descriptor["digest"][7:]
        assert blob.stat().st_size == descriptor["size"]


def test_an_index(bad: Registry, tmp_path: Path) -> None:
    entries = []
    for name in ("s390x", PROCESSOR):
        digest = bad.image(name, [name.encode()])
        where = {"os": "linux", "architecture": name}
        entries.append({"digest": digest, "size": 1, "platform": where})
    bad.manifest("v1", {"manifests": entries}, INDEX)
    bcast(bad, "x:v1", tmp_path)
    blobs = [p.read_bytes() for p in (tmp_path / "r0/blobs/sha256").iterdir()]
    assert PROCESSOR.encode() in blobs and b"s390x" not in blobs
    other = {"os": "windows", "architecture": "vax"}
    entries = [{**e, "platform": other} for e in entries]
    bad.manifest("v2", {"manifests": entries}, INDEX)
    assert no(bad, "x:v2") == (f"there is none for linux/{PROCESSOR}, only for windows/vax")


def test_an_index_of_one(bad: Registry, tmp_path: Path) -> None:
    entry = {"digest": bad.artifact("a", {"a": b"1"}), "size": 1}
    bad.manifest("v1", {"manifests": [entry]}, INDEX)
    ok(bad, "x:v1", tmp_path, {"a": b"1"})
    entries = [{**entry, "platform": {"os": "linux", "architecture": "vax"}}]
    bad.manifest("v2", {"manifests": entries}, INDEX)
    assert no(bad, "x:v2").endswith("only for linux/vax")
    for rubbish in (5, [5], [{**entry, "platform": "linux"}], []):
        bad.manifest("v3", {"manifests": rubbish}, INDEX)
        assert no(bad, "x:v3").endswith("only for nothing")


def test_what_docker_makes(bad: Registry, tmp_path: Path) -> None:
    kind = "application/vnd.docker."
    config = {**bad.blob(b"{}"), "mediaType": f"{kind}container.image.v1+json"}
    layer = {**bad.blob(b"layer"), "mediaType": f"{kind}image.rootfs.diff.tar.gzip"}
    image = {"config": config, "layers": [layer]}
    digest = bad.manifest("a", image, f"{kind}distribution.manifest.v2+json")
    entry = {"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": PROCESSOR}}
    bad.manifest("v1", {"manifests": [entry]}, f"{kind}distribution.manifest.list.v2+json")
    bcast(bad, "x:v1", tmp_path)
    (found,) = json.loads((tmp_path / "r1/index.json").read_text())["manifests"]
    assert found["digest"] == digest and found["mediaType"].startswith(kind)
    assert (tmp_path / "r1/blobs/sha256" / layer["digest"][7:]).read_bytes() == b"layer"


def test_layers_without_titles(bad: Registry, tmp_path: Path) -> None:
    layers = [bad.blob(b"1"), {**bad.blob(b"2"), "annotations": {TITLE: "b"}}]
    bad.manifest("v1", {"config": bad.blob(b"{}"), "layers": layers})
    ok(bad, "x:v1", tmp_path, {digest_of(b"1"): b"1", "b": b"2"})


def test_names_in_any_script(
    bad: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"\u00fc/\u20ac": b"1", "\u4f60": b"2", "z": b"3"}
    bad.artifact("v1", files)
    monkeypatch.setenv("LC_ALL", "C")
    ok(bad, "x:v1", tmp_path, files)
    bad.artifact("v2", {"\ud800": b"1"})
    assert "is no text" in no(bad, "x:v2")
    bad.artifact("v3", {"a/" * 200_000 + "a": b"1"})
    assert "longer than a path can be" in no(bad, "x:v3")


def test_a_directory(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    members = [
        (member("dir", tarfile.DIRTYPE, mode=0o755), b""),
        (member("dir/sub", tarfile.DIRTYPE, mode=0o750), b""),
        (member("dir/sub/x", mode=0o755), data),
        (member("dir/l", tarfile.SYMTYPE, "sub/x"), b""),
        (member("dir/h", tarfile.LNKTYPE, "dir/sub/x"), b""),
    ]
    directory(bad, "v1", members)
    bcast(bad, "x:v1", tmp_path)
    top = tmp_path / "r1"
    assert (top / "plain").read_bytes() == b"plain"
    assert (top / "dir/sub/x").read_bytes() == data == (top / "dir/h").read_bytes()
    assert os.readlink(top / "dir/l") == "sub/x"
    assert (top / "dir/sub").stat().st_mode & 0o777 == 0o750
    assert (top / "dir/sub/x").stat().st_mode & 0o777 == 0o755
    assert (top / "dir/sub/x").stat().st_mtime == 1_600_000_000
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([(member("dir/../../x"), b"x")], "not a name below the destination"),
        (
            [(member("dir/l", tarfile.SYMTYPE, "/etc"), b""), (member("dir/l/x"), b"x")],
            "not a name",
        ),
        ([(member("dir/p", tarfile.FIFOTYPE), b"")], "neither a file, a directory nor a link"),
        ([(member("dir/h", tarfile.LNKTYPE, "/etc/passwd"), b"")], "neither a file"),
        ([(member("dir/x"), b"1"), (member("dir/x"), b"2")], "twice"),
    ],
)
def test_no_directory(bad: Registry, members: Any, why: str) -> None:
    directory(bad, "v1", members)
    assert why in no(bad, "x:v1")


def test_a_strange_archive(bad: Registry, tmp_path: Path) -> None:
    late = member("dir/late")
    late.pax_headers = {"mtime": "inf"}
    directory(bad, "v1", [(member("./dir/b\udcff"), b"1"), (late, b"2")])
    bcast(bad, "x:v1", tmp_path)
    names = os.listdir(os.fsencode(tmp_path / "r1/dir"))
    assert sorted(names) == [b"b\xff", b"late"]


@pytest.mark.parametrize("damage", ["cut", "rubbish", "stored", "deflated"])
def test_a_damaged_archive(bad: Registry, damage: str) -> None:
    # as it was pushed: its digest is right
    random = os.urandom(100_000)
    whole = packed([(member("dir/x"), random.hex().encode() if damage == "deflated" else random)])
    other = whole[:50_000] + bytes(100) + whole[50_100:]
    data = {"cut": whole[:50_000], "rubbish": b"rubbish"}.get(damage, other)
    notes = {TITLE: "dir", "io.deis.oras.content.unpack": "true"}
    layer = {**bad.blob(data), "annotations": notes}
    bad.manifest("v1", {"config": bad.blob(b"{}"), "layers": [layer]})
    assert no(bad, "x:v1").startswith("layer dir: cannot be unpacked")


@pytest.mark.parametrize("title", ["../x", "/etc/x", "a//b", "a/./b", "x/..", "a\0b", "n" * 256])
def test_no_titles(title: str) -> None:
    with pytest.raises(SourceError, match="not a name below the destination"):
        compose(with_directories([Item(title, b"x", 1)], "oci://a/b"))


def test_two_of_a_name(bad: Registry) -> None:
    layer = {**bad.blob(b"1"), "annotations": {TITLE: "a"}}
    bad.manifest("v1", {"config": bad.blob(b"{}"), "layers": [layer, layer]})
    assert "it has 'a' twice" in no(bad, "x:v1")
    bad.artifact("v2", {"a": b"1", "a/b": b"2"})
    assert "not a name" in no(bad, "x:v2")


def test_no_artifact(bad: Registry) -> None:
    assert no(bad, "x:none").startswith("tag none: the registry has no such thing")
    bad.manifest("v1", {"schemaVersion": 1, "fsLayers": []})
    assert "none of version 2" in no(bad, "x:v1")
    bad.manifests["v2"] = ("text/plain", b"<html>")
    assert "no object of JSON" in no(bad, "x:v2")
    bad.manifests["v3"] = ("text/plain", b" " * (5 << 20))
    assert "has more than" in no(bad, "x:v3")
    bad.manifest("v4", {"config": {}, "layers": [{"digest": "md5:0", "size": 1}]})
    assert "only sha256: is known" in no(bad, "x:v4")
    bad.manifest("v5", {"config": {}, "layers": [{"digest": digest_of(b"")}]})
    assert "no digest or no size" in no(bad, "x:v5")
    for size in (-1, 1 << 64, "1"):
        layer = {"digest": digest_of(b""), "size": size}
        bad.manifest("v6", {"config": {}, "layers": [layer]})
        assert "no digest or no size" in no(bad, "x:v6")
    bad.manifest("v7", {"config": {}, "layers": [{"digest": f"sha256:{'../' * 21}a", "size": 1}]})
    assert "only sha256: is known" in no(bad, "x:v7")
