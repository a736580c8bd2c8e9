"""Logins of registries, and where they must not go."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile_registry import Registry, hostile  # isort: skip
from pulling import no, ok, own_folders, refusal  # isort: skip


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_folders(tmp_path, monkeypatch)


@pytest.fixture
def bad() -> Iterator[Registry]:
    with hostile() as found:
        yield found


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
    assert "refuses the login of" in no(bad, "x:v1")
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
        why = no(bad, "x:v1")
        assert "config.json: is no " in why and "mend or remove it" in why


def test_hosts_as_some_tools_write_them(bad: Registry, tmp_path: Path, no_login: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    bad.login = "me:secret"
    write_login(no_login, f"http://{bad.host}/v2/", "me:secret")
    ok(bad, "x:v1", tmp_path, {"a": b"1"})


def test_an_identity_token(bad: Registry, tmp_path: Path, no_login: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    bad.bearer, bad.identity = True, "mine"
    for identity in ("another", "mine"):
        auth = base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
        login = {"auth": auth, "identitytoken": identity}
        no_login.write_text(json.dumps({"auths": {bad.host: login}}))
        if identity == "another":
            assert "refuses the login of" in no(bad, "x:v1")
    ok(bad, "x:v1", tmp_path, {"a": b"1"})


HELPER = """#!/bin/sh
[ "$(cat) $1" = '%s get' ] && echo '%s'
"""


@pytest.mark.parametrize("which", ["credHelpers", "credsStore", "identity"])
def test_a_program_that_has_the_logins(
    bad: Registry, tmp_path: Path, no_login: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    bad.artifact("v1", {"a": b"1"})
    found = {"ServerURL": bad.host, "Username": "me", "Secret": "secret"}
    if which == "identity":
        bad.bearer, bad.identity = True, "secret"
        found["Username"] = "<token>"
    else:
        bad.login = "me:secret"
    config = (
        {"credsStore": "ours"} if which == "credsStore" else {"credHelpers": {bad.host: "ours"}}
    )
    no_login.write_text(json.dumps(config))
    why = no(bad, "x:v1")
    assert "has none for" in why and "'docker-credential-ours' not found in PATH" in why
    program = tmp_path / "docker-credential-ours"
    program.write_text(HELPER % (bad.host, "rubbish"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "cannot be read (JSONDecodeError)" in no(bad, "x:v1")
    program.write_text(HELPER % (bad.host, json.dumps(found)))
    ok(bad, "x:v1", tmp_path, {"a": b"1"})


def test_who_gives_tokens_out(bad: Registry, tmp_path: Path) -> None:
    bad.artifact("v1", {"a": b"1"})
    bad.bearer = True
    for rubbish in (b"[]", b"<html>"):
        bad.token_answers = [(200, rubbish)]
        assert "tokens out for it answers what is none" in no(bad, "x:v1")
    bad.token_answers = [(503, b""), (429, b"")]
    ok(bad, "x:v1", tmp_path, {"a": b"1"})


def test_logins_of_other_tools_are_left_alone(
    bad: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad.artifact("v1", {"a": b"data"})
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("ORAS_USER", "me")
    monkeypatch.setenv("ORAS_PASS", "secret")
    with hostile() as other:
        other.blobs = bad.blobs
        bad.elsewhere = other
        ok(bad, "x:v1", tmp_path, {"a": b"data"})
        assert other.seen != []
        assert not any("Authorization" in headers for _, headers in bad.seen + other.seen)
    bad.login = "me:secret"
    assert "wants a login" in no(bad, "x:v1")


@pytest.mark.parametrize("bearer", [False, True])
def test_only_the_registry_may_ask_for_a_login(
    bad: Registry, tmp_path: Path, no_login: Path, bearer: bool
) -> None:
    bad.artifact("v1", {"a": b"data"})
    bad.login = "me:secret"
    write_login(no_login, bad.host, "me:secret")
    with hostile() as other:
        other.blobs, other.login, other.bearer = bad.blobs, bad.login, bearer
        bad.elsewhere = other
        why = no(bad, "x:v1")
        assert f"{other.host}, where the registry sends on to, answers 401" in why
        assert len(other.seen) == 1 and "Authorization" not in other.seen[0][1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", path, "-out", path.with_suffix(".crt")], check=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


def test_tls(
    bad: Registry, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hostile(certificate) as safe:
        safe.artifact("v1", {"a": b"1"})
        why = no(safe, "x:v1")
        assert "no TLS that can be trusted" in why and "certificate verify failed" in why
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
        ok(safe, "x:v1", tmp_path, {"a": b"1"})
        # it may not make anybody leave TLS, neither for data nor for a login
        bad.blobs = safe.blobs
        safe.elsewhere = bad
        assert f"sends on to {bad.host} without TLS" in no(safe, "x:v1")
        safe.bearer = True
        assert "wants its login sent without TLS" in no(safe, "x:v1")
        assert bad.seen == []
