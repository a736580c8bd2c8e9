"""What registries, archives and configurations say that nobody should."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_tree._registry import Reference
from flux_tree._registry.__main__ import _pull
from flux_tree._registry._login import _bearer
from flux_tree.errors import SourceError

from hostile_registry import CONFIG, INDEX, TITLE, Registry, hostile  # isort: skip


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with hostile() as found:
        found.artifact("v1", {"a": b"data"})
        yield found


def pull(registry: Registry, tmp_path: Path, timeout: float = 4.0) -> bytes:
    """Return the frames of all that is tagged v1; what is no SourceError is a fault."""
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        reference = Reference.parse(f"oci+http://{registry.host}/x:v1")
        _pull(reference, timeout, out)
    finally:
        os.close(out)
    return (tmp_path / "out").read_bytes()


def test_manifests(bad: Registry, tmp_path: Path) -> None:
    blob = bad.blob(b"abc")
    image = {**bad.blob(b"{}"), "mediaType": CONFIG}

    def titled(title: str, **more: Any) -> dict[str, Any]:
        return {"layers": [{**blob, "annotations": {TITLE: title}, **more}]}

    documents: list[tuple[dict[str, Any], str]] = [
        (titled("a", size=10**30), "no digest or no size"),
        (titled("a", size=True), "no digest or no size"),
        (titled("a", size=-1), "no digest or no size"),
        (titled("a", digest="sha256:" + "../" * 21 + "x"), "only sha256: is known"),
        (titled("a\ud800"), "in it is no text"),
        (titled("a/" * 3000 + "a"), "longer than a path can be"),
        ({"manifests": 5}, "only for nothing"),
        ({"manifests": [{**blob, "platform": "x"}] * 2}, "only for nothing"),
        (
            {
                "config": image,
                "layers": [{**blob, "urls": ["x"], "mediaType": "a.nondistributable"}],
            },
            "elsewhere than in its registry",
        ),
    ]
    for number, (document, why) in enumerate(documents):
        bad.manifest("v1", document, INDEX if "manifests" in document else "application/x")
        (tmp_path / str(number)).mkdir()
        with pytest.raises(SourceError, match=why):
            pull(bad, tmp_path / str(number))
    bad.manifests["v1"] = ("text/plain", b'{"a":' * 100_000)
    with pytest.raises(SourceError, match="no object of JSON"):
        pull(bad, tmp_path)


def test_what_comes_again_is_no_progress(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": os.urandom(100_000)})
    bad.ranges, bad.cut_after = False, [50_000] * 1000
    with pytest.raises(SourceError, match=r"nothing has come for 1 seconds"):
        pull(bad, tmp_path, timeout=1.0)


# ---- archives


def archive(bad: Registry, members: list[tuple[tarfile.TarInfo, bytes]], **more: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **more) as packed:
        for member, data in members:
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return out.getvalue()


def tag(bad: Registry, data: bytes) -> None:
    notes = {TITLE: "dir", "io.deis.oras.content.unpack": "true"}
    bad.manifest("v1", {"layers": [{**bad.blob(data), "annotations": notes}]})


def test_names_that_are_no_unicode(bad: Registry, tmp_path: Path) -> None:
    name = b"dir/\xe4".decode(errors="surrogateescape")
    link = tarfile.TarInfo("dir/h")
    link.type, link.linkname = tarfile.LNKTYPE, name
    tag(
        bad, archive(bad, [(tarfile.TarInfo(name), b"abc"), (link, b"")], format=tarfile.GNU_FORMAT)
    )
    frames = pull(bad, tmp_path)
    assert b"\xe4" in frames and frames.count(b"abc") == 2


@pytest.mark.parametrize("what", ["mtime=nan", "mtime=1e300", "damage"])
def test_archives(bad: Registry, tmp_path: Path, what: str) -> None:
    member = tarfile.TarInfo("dir/x")
    member.pax_headers = {"mtime": what.partition("=")[2]} if "mtime" in what else {}
    data = archive(bad, [(member, os.urandom(100_000))], format=tarfile.PAX_FORMAT)
    if what == "damage":
        import lzma

        data = lzma.compress(data)
        data = data[:50_000] + bytes(100) + data[50_100:]
    tag(bad, data)
    if "mtime" in what:
        pull(bad, tmp_path)
    else:
        with pytest.raises(SourceError, match=r"layer dir: cannot be unpacked \("):
            pull(bad, tmp_path)


# ---- logins


@pytest.mark.parametrize(
    "token", ["[]", "<html>", '{"token": "SECRET\\n"}', '{"token": ["SECRET"]}']
)
def test_tokens_that_are_none(
    bad: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    bad.bearer = True
    bad.token_answers = [(200, token.encode())]
    with pytest.raises(SourceError, match=r"wants a login|gives tokens out") as caught:
        pull(bad, tmp_path)
    assert "SECRET" not in str(caught.value)


def test_who_gives_tokens_is_busy(bad: Registry, tmp_path: Path) -> None:
    bad.bearer = True
    bad.token_answers = [(503, b""), (429, b"")]
    pull(bad, tmp_path)


@pytest.mark.parametrize(
    ("says", "fine"),
    [
        ({"auths": {"HOST": {"auth": "bWU6\nc2VjcmV0\n"}}}, True),  # base64 breaks lines
        ({"auths": {"HOST": {"auth": "me:SECRET"}}}, False),
        ({"auths": {"HOST": {"auth": "\u20acSECRET"}}}, False),
        ({"auths": {"HOST": "SECRET"}}, False),
        ({"credHelpers": 5}, False),
    ],
)
def test_configurations(bad: Registry, tmp_path: Path, says: Any, fine: bool) -> None:
    bad.login = "me:secret"
    text = json.dumps(says).replace("HOST", bad.host)
    (tmp_path / "config.json").write_text(text)
    if fine:
        pull(bad, tmp_path)
        return
    with pytest.raises(SourceError, match=r"config\.json .* make (it|one) ") as caught:
        pull(bad, tmp_path)
    assert "SECRET" not in str(caught.value)


def test_netrc_is_not_read(bad: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile() as other:
        other.blobs, bad.elsewhere = bad.blobs, other
        other.host = other.host.replace("127.0.0.1", "localhost")
        (tmp_path / "netrc").write_text("default login me password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        pull(bad, tmp_path)
        assert len(other.seen) == 1
        assert not any("Authorization" in h for _, h in bad.seen + other.seen)


def test_challenges() -> None:
    for challenge, found in (
        ('Bearer realm="https://a/t",service="s"', 'Bearer realm="https://a/t",service="s"'),
        ('Bearer realm="r",scope="a:b,c",Basic realm="b"', 'Bearer realm="r",scope="a:b,c"'),
        ('Basic realm="b", bearer service="", Realm = r', 'Bearer realm="r"'),
        ('Bearer service="s"', None),
        ('Basic realm="b"', None),
        ("Negotiate", None),
        ("", None),
    ):
        assert _bearer(challenge) == found


def test_where_it_is_sent_on_to_is_no_secret(bad: Registry, tmp_path: Path) -> None:
    bad.answers = [(307, {"Location": "ftp://example.com/blob?signature=SECRET"})]
    with pytest.raises(SourceError, match=r"sends on to example\.com without TLS") as caught:
        pull(bad, tmp_path)
    assert "SECRET" not in str(caught.value)


def test_no_file_of_cas(bad: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    with pytest.raises(SourceError, match=r"cannot be reached \(.*/nowhere"):
        _pull(Reference.parse(f"oci://{bad.host}/x"), 60.0, -1)


def test_a_registry_that_is_busy_is_not_hammered(bad: Registry, tmp_path: Path) -> None:
    bad.answers = [(503, {"Retry-After": "0"})] * 1000
    with pytest.raises(SourceError, match=r"nothing has come for 0\.5 seconds"):
        pull(bad, tmp_path, timeout=0.5)
    assert len(bad.answers) > 980


def test_variables_of_oras_are_not_for_any_host(
    bad: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORAS_USER", "me")
    monkeypatch.setenv("ORAS_PASS", "secret")
    bad.login = "me:secret"
    with pytest.raises(SourceError, match="has none for"):
        pull(bad, tmp_path)
    assert not any("Authorization" in h for _, h in bad.seen)


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".b", "127.0.0.1:99999", "[:::]:1"])
def test_hosts_that_are_none(tmp_path: Path, host: str) -> None:
    reference = Reference.parse(f"oci+http://{host}/x")
    with pytest.raises(SourceError, match="cannot be reached"):
        _pull(reference, 4.0, -1)
