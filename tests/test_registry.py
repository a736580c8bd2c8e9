"""A registry as the source: what is pulled, what goes wrong, and what is made good."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import platform
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flux_tree
from flux_tree._registry import Reference, is_reference, open_feed
from flux_tree.errors import SourceError, UsageError

from flux_support import in_instance  # isort: skip
from hostile_registry import INDEX, TITLE, Registry, digest_of, hostile  # isort: skip
from support import leftovers  # isort: skip

PROCESSOR = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the logins of whoever runs the tests out of it; and see that no folder stays."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def bad() -> Iterator[Registry]:
    with hostile() as found:
        yield found


def bcast(registry: Registry, name: str, to: Path, ranks: int = 3, **more: Any) -> Any:
    reference = f"oci+http://{registry.host}/{name}"
    return flux_tree.broadcast(reference, to / "r{rank}", ranks=ranks, bandwidth=1e9, **more)


def refusal(registry: Registry, name: str, to: Path, **more: Any) -> str:
    """Broadcast what cannot be; return why not, if nothing is left of it."""
    to.mkdir(exist_ok=True)
    with pytest.raises(SourceError) as caught:
        bcast(registry, name, to, **more)
    assert not list(to.glob("r*")) and leftovers(to) == []
    text = str(caught.value)
    assert text.count("\n") == 0 and f"source oci+http://{registry.host}/{name}: " in text
    return text.partition(f"/{name}: ")[2]


def tree(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def ok(registry: Registry, name: str, to: Path, files: dict[str, bytes], **more: Any) -> Any:
    result = bcast(registry, name, to, **more)
    for rank in range(3):
        assert tree(to / f"r{rank}") == files
    assert not list((to / "tmp").iterdir())
    return result


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
    assert refusal(bad, "x:v2", tmp_path / "2") == (
        f"there is none for linux/{PROCESSOR}, only for windows/vax"
    )


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
    notes = {TITLE: "dir", "io.deis.oras.content.unpack": "true"}
    layer = {**bad.blob(packed(members)), "annotations": notes}
    plain = {**bad.blob(b"plain"), "annotations": {TITLE: "plain"}}
    config = {**bad.blob(b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"}
    bad.manifest(tag, {"config": config, "layers": [plain, layer]})


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
def test_no_directory(bad: Registry, tmp_path: Path, members: Any, why: str) -> None:
    directory(bad, "v1", members)
    assert why in refusal(bad, "x:v1", tmp_path)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("title", ["../x", "/etc/x", "a//b", "a/./b", "x/..", "a\0b", "n" * 256])
def test_no_titles(bad: Registry, tmp_path: Path, title: str) -> None:
    bad.artifact("v1", {title: b"x"})
    assert "not a name below the destination" in refusal(bad, "x:v1", tmp_path)


def test_two_of_a_name(bad: Registry, tmp_path: Path) -> None:
    layer = {**bad.blob(b"1"), "annotations": {TITLE: "a"}}
    bad.manifest("v1", {"config": bad.blob(b"{}"), "layers": [layer, layer]})
    assert "it has 'a' twice" in refusal(bad, "x:v1", tmp_path)
    bad.artifact("v2", {"a": b"1", "a/b": b"2"})
    assert "not a name" in refusal(bad, "x:v2", tmp_path)


def test_no_artifact(bad: Registry, tmp_path: Path) -> None:
    assert refusal(bad, "x:none", tmp_path).startswith("tag none: the registry has no such thing")
    bad.manifest("v1", {"schemaVersion": 1, "fsLayers": []})
    assert "none of version 2" in refusal(bad, "x:v1", tmp_path)
    bad.manifests["v2"] = ("text/plain", b"<html>")
    assert "no object of JSON" in refusal(bad, "x:v2", tmp_path)
    bad.manifests["v3"] = ("text/plain", b" " * (5 << 20))
    assert "has more than" in refusal(bad, "x:v3", tmp_path)
    bad.manifest("v4", {"config": {}, "layers": [{"digest": "md5:0", "size": 1}]})
    assert "only sha256: is known" in refusal(bad, "x:v4", tmp_path)
    bad.manifest("v5", {"config": {}, "layers": [{"digest": digest_of(b"")}]})
    assert "no digest or no size" in refusal(bad, "x:v5", tmp_path)


# ---- what goes wrong on the way


def test_a_cut_connection_is_taken_up_where_it_was(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    bad.artifact("v1", {"a": data})
    bad.cut_after = [1_000_000, 500_000, 0]
    ok(bad, "x:v1", tmp_path, {"a": data})
    ranges = [h.get("Range") for h in bad.asked(digest_of(data))]
    assert ranges[0] is None and len(ranges) == 4
    assert all(r is not None and r != "bytes=0-" for r in ranges[1:])


def test_a_registry_without_ranges(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    bad.artifact("v1", {"a": data})
    bad.ranges, bad.cut_after = False, [2_500_000, 2_900_000]
    ok(bad, "x:v1", tmp_path, {"a": data})


def test_a_busy_registry(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"data"})
    bad.answers = [(503, {}), (429, {"Retry-After": "0"}), (500, {})]
    ok(bad, "x:v1", tmp_path, {"a": b"data"})
    bad.answers = [(429, {"Retry-After": "3600"})]
    why = refusal(bad, "x:v1", tmp_path / "2")
    assert "nothing has come for 45 seconds" in why and "429" in why


def test_wrong_bytes(bad: Registry, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    bad.artifact("v1", {"a": data})
    bad.lie = lambda right: right[:-1] + bytes([right[-1] ^ 1])
    wrong = digest_of(bad.lie(data))
    why = refusal(bad, "x:v1", tmp_path)
    assert why == f"what came is not what its manifest names: {wrong} instead of {digest_of(data)}"
    bad.lie = lambda right: right + b"more"
    assert f"says that it has {len(data)}" in refusal(bad, "x:v1", tmp_path)
    bad.lie = lambda right: right[:100]
    assert "has 100 bytes" in refusal(bad, "x:v1", tmp_path)


def test_a_blob_that_is_not_there(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"data", "b": os.urandom(100_000)})
    del bad.blobs[digest_of(b"data")]
    assert "the registry has no such thing (404)" in refusal(bad, "x:v1", tmp_path)


def test_a_registry_that_stalls(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 400_000
    begin = time.monotonic()
    why = refusal(bad, "x:v1", tmp_path, timeout=3)
    # who pulls says so, before the ranks give up
    assert "nothing has come for 2.25 seconds" in why and time.monotonic() - begin < 20


def test_a_registry_that_is_not_there(bad: Registry, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be reached .*refused"):
        flux_tree.broadcast("oci+http://127.0.0.1:1/x", tmp_path / "r{rank}", ranks=2)
    with pytest.raises(SourceError, match=r"no TLS that can be trusted.*oci\+http://"):
        flux_tree.broadcast(f"oci://{bad.host}/x", tmp_path / "r{rank}", ranks=2)


def test_a_full_disk_is_the_destinations_fault(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"data"})
    (tmp_path / "r1").write_text("mine")
    with pytest.raises(flux_tree.errors.DestinationError, match="rank 1"):
        bcast(bad, "x:v1", tmp_path)
    assert (tmp_path / "r1").read_text() == "mine"
    assert leftovers(tmp_path) == [] and not (tmp_path / "r0").exists()


# ---- logins


def write_login(config: Path, host: str, login: str) -> None:
    auth = base64.b64encode(login.encode()).decode()
    config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


@pytest.mark.parametrize("bearer", [False, True])
def test_a_login(bad: Registry, tmp_path: Path, no_login: Path, bearer: bool) -> None:
    files = {"a": os.urandom(1000), "b": os.urandom(1000)}
    bad.artifact("v1", files)
    bad.login, bad.bearer = "me:secret", bearer
    assert "docker login" in refusal(bad, "x:v1", tmp_path)
    write_login(no_login, bad.host, "me:wrong")
    assert "refuses the login of" in refusal(bad, "x:v1", tmp_path)
    write_login(no_login, bad.host, "me:secret")
    ok(bad, "x:v1", tmp_path, files)


def test_a_token_for_anybody(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    bad.bearer = True
    ok(bad, "x:v1", tmp_path, {"a": b"1"})
    assert len(bad.asked("/token")) == 1


def test_a_token_that_runs_out(bad: Registry, tmp_path: Path) -> None:
    files = {name: name.encode() * 100 for name in "abcdef"}
    bad.artifact("v1", files)
    bad.bearer, bad.token_uses = True, 2
    ok(bad, "x:v1", tmp_path, files)
    assert len(bad.asked("/token")) > 2


def test_a_login_is_for_its_host_alone(bad: Registry, tmp_path: Path, no_login: Path) -> None:
    bad.artifact("v1", {"a": b"data"})
    bad.login = "me:secret"
    write_login(no_login, bad.host, "me:secret")
    with hostile() as other:
        other.blobs = bad.blobs
        bad.elsewhere = other
        # the same machine, but another name of it
        other.host = other.host.replace("127.0.0.1", "localhost")
        ok(bad, "x:v1", tmp_path, {"a": b"data"})
        assert len(other.seen) == 1
        assert not any("Authorization" in headers for _, headers in other.seen)


def test_no_configuration(bad: Registry, tmp_path: Path, no_login: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    for text in ("{", "[]"):
        no_login.write_text(text)
        with pytest.raises(SourceError, match=r"config.json: is no .*mend or remove it"):
            bcast(bad, "x:v1", tmp_path)


# ---- who pulls


def pullers(registry: Registry) -> list[int]:
    """Return the processes that pull from a registry."""
    out = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True).stdout
    lines = [x for x in out.splitlines() if "flux_tree._registry" in x and registry.host in x]
    return [int(line.split()[0]) for line in lines]


def test_who_pulls_ends_with_whoever_wants_it(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 500_000
    name = f"oci+http://{bad.host}/x:v1"
    with open_feed(name, 600.0):
        assert len(pullers(bad)) == 1
    assert pullers(bad) == []
    assert not list((tmp_path / "tmp").iterdir())


def test_who_pulls_is_killed(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 500_000
    seen = []

    def kill(records: Any) -> None:
        if not seen and records["bytes_in"].any():
            seen.extend(pullers(bad))
            os.kill(seen[0], signal.SIGKILL)

    why = refusal(bad, "x:v1", tmp_path, progress=kill, chunk_size=65536)
    assert why == "who pulls it has died" and len(seen) == 1


@pytest.mark.flux
@pytest.mark.parametrize("end", ["kill -9 $puller", "flux cancel --all"])
def test_a_job_that_pulls_is_ended(bad: Registry, tmp_path: Path, end: str) -> None:
    bad.artifact("v1", {"a": os.urandom(1_000_000)})
    bad.stall = 500_000
    option = f"chain,file=oci+http://{bad.host}/x:v1,destination={tmp_path}/r{{rank}}"
    script = f"""
        flux run -N2 -o tree-bcast={option},chunk-size=64KiB true & job=$!
        until ls -d {tmp_path}/.flux-tree-*-1; do sleep 0.1; done 2>/dev/null
        puller=$(pgrep -f '[f]lux_tree._registry.*{bad.host}' | head -1)
        {end}
        wait $job || echo ended
        flux queue drain
        pgrep -f '[f]lux_tree._registry.*{bad.host}' || echo none
    """
    done = in_instance(script)
    assert done.stdout.split()[-2:] == ["ended", "none"], done
    if "kill" in end:
        assert "who pulls it has died" in done.stderr
    assert leftovers(tmp_path) == [] and not list(tmp_path.glob("r*"))


def test_what_does_not_go_with_it(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    with pytest.raises(UsageError, match=r"resume: .* always comes anew"):
        bcast(bad, "x:v1", tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"digest: .*@sha256:HEX"):
        bcast(bad, "x:v1", tmp_path, digest=digest_of(b"1"))
    assert bad.seen == []


def test_some_ranks_only(bad: Registry, tmp_path: Path) -> None:
    files = {"a": os.urandom(100_000)}
    bad.artifact("v1", files)
    bcast(bad, "x:v1", tmp_path, members=[2])
    assert tree(tmp_path / "r2") == files
    assert not (tmp_path / "r0").exists() and leftovers(tmp_path) == []


def test_into_a_directory_that_exists(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1", "sub/b": b"2"})
    for rank in range(3):
        (tmp_path / f"r{rank}").mkdir()
        (tmp_path / f"r{rank}" / "mine").write_bytes(b"3")
    ok(bad, "x:v1", tmp_path, {"a": b"1", "mine": b"3", "sub/b": b"2"})
