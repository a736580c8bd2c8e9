"""A real registry, Debian's docker-registry, and what oras has pushed to it; also from jobs."""

from __future__ import annotations

import base64
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import flux_tree

from flux_support import flux_tree as flux_tree_command  # isort: skip
from flux_support import in_instance  # isort: skip

registry_support = pytest.importorskip("registry_support", reason="oras is not installed")
if registry_support.find_registry() is None:
    pytest.skip("docker-registry is neither on PATH nor in .venv/registry", allow_module_level=True)


#: Of ``htpasswd -nbB me secret``.
HTPASSWD = "me:$2y$05$QtJS9pO9jiTCps7YEJHpUOygD0J46zOfnG22OCecJ8Zo20SK0kiKm\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("source")
    (top / "weights.bin").write_bytes(os.urandom(9_000_000))
    (top / "config.json").write_bytes(b"{}")
    (top / "dir" / "sub").mkdir(parents=True)
    (top / "dir" / "sub" / "x").write_bytes(os.urandom(100_000))
    (top / "dir" / "link").symlink_to("sub/x")
    return top


@pytest.fixture(scope="module")
def host(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_support.registry(tmp_path_factory.mktemp("registry")) as found:
        files = [source / name for name in ("weights.bin", "config.json", "dir")]
        registry_support.push(found, "models/small:v1", files)
        yield found


def same(source: Path, top: Path) -> bool:
    pairs = [(p, top / p.relative_to(source)) for p in source.rglob("*")]
    return all(
        os.readlink(a) == os.readlink(b)
        if a.is_symlink()
        else b.is_dir()
        if a.is_dir()
        else a.read_bytes() == b.read_bytes()
        for a, b in pairs
    )


def test_between_processes(host: str, source: Path, tmp_path: Path) -> None:
    result = flux_tree.broadcast(
        f"oci+http://{host}/models/small:v1", tmp_path / "r{rank}", "chain", ranks=3
    )
    assert result.files == 3
    for rank in range(3):
        assert same(source, tmp_path / f"r{rank}")


def test_with_a_password(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with registry_support.registry(tmp_path / "registry", HTPASSWD) as host:
        login = ("me", "secret")
        registry_support.push(host, "models/small:v1", [source / "weights.bin"], login)
        name = f"oci+http://{host}/models/small:v1"
        with pytest.raises(flux_tree.errors.SourceError, match="wants a login"):
            flux_tree.broadcast(name, tmp_path / "r{rank}", ranks=2)
        auth = base64.b64encode(b"me:secret").decode()
        config = {"auths": {host: {"auth": auth}}}
        (tmp_path / "docker" / "config.json").write_text(json.dumps(config))
        flux_tree.broadcast(name, tmp_path / "r{rank}", ranks=2)
    data = (tmp_path / "r1" / "weights.bin").read_bytes()
    assert data == (source / "weights.bin").read_bytes()


@pytest.mark.flux
def test_in_jobs(host: str, source: Path, tmp_path: Path) -> None:
    name = f"oci+http://{host}/models/small:v1"
    weights = shlex.quote(str(source / "weights.bin"))
    script = f"""
        flux run -N3 -o tree-bcast=two-tree,file={name} \
            sh -c 'cmp {weights} $FLUX_JOB_TMPDIR/weights.bin && echo same'
        flux run -N3 --tree-bcast=chain,file={name},destination={tmp_path}/a-{{rank}} \
            --env=-* /bin/true && echo ran
        {flux_tree_command("bcast")} {name} {tmp_path}/b-{{rank}} --quiet && echo cast
        flux run -N3 -o tree-bcast=file={name}9 true || echo refused
        flux run -N3 -o tree-bcast=file={name},resume true || echo refused
    """
    done = in_instance(script, size=3)
    assert done.stdout.split() == ["same"] * 3 + ["ran", "cast", "refused", "refused"], done
    for rank in range(3):
        assert same(source, tmp_path / f"a-{rank}") and same(source, tmp_path / f"b-{rank}")
    assert "rank 0 " in done.stderr and "tag v19: the registry has no such thing" in done.stderr
    assert "option tree-bcast.resume=true: what is pulled from a registry" in done.stderr


@pytest.mark.flux
def test_of_a_python_that_has_not_got_it(host: str, tmp_path: Path) -> None:
    name = f"oci+http://{host}/models/small:v1"
    script = f"""
        FLUX_TREE_PYTHON=/nowhere flux run -N2 -o tree-bcast.file={name} true || echo refused
        FLUX_TREE_PYTHON=/bin/false flux run -N2 -o tree-bcast.file={name} true || echo refused
    """
    done = in_instance(script)
    assert done.stdout.split() == ["refused", "refused"]
    assert "/nowhere: cannot be run (No such file or directory)" in done.stderr
    assert "who pulls it has died" in done.stderr
