"""Flux from Python: finding its bindings, the topology of an instance, archives."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig

import pytest
from flux_support import CLEAN, PACKAGE, SET_UP, in_instance
from support import instance

from flux_tree import Topology

pytestmark = pytest.mark.flux


def python(code, env=SET_UP, interpreter=(sys.executable,)):
    run = subprocess.run(
        [*interpreter, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout, run.stderr.strip().rpartition("\n")[2]


# ---- the bindings


def test_nothing_imports_flux_unasked():
    code = (
        "import sys, flux_tree, flux_tree.archive, flux_tree.topology, flux_tree._flux\n"
        "flux_tree.Topology, flux_tree.Plan, flux_tree.Result, flux_tree.broadcast\n"
        "print('flux' in sys.modules)"
    )
    assert python(code)[:2] == (0, "False\n")


IMPORT = "from flux_tree._flux import import_flux; print(import_flux().__file__)"
#: Hides what pip has installed, but not Flux's own bindings.
HIDE = """
import sys, importlib.abc, importlib.machinery
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "flux":
            path = [p for p in sys.path if "site-packages" not in p and "dist-packages" not in p]
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is None:
                raise ModuleNotFoundError("No module named 'flux'", name="flux")
            return spec
sys.meta_path.insert(0, Hide())
"""


def flux_python_path():
    command = ["flux", "config", "builtin", "python_path"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_flux_own_bindings_are_found():
    pytest.importorskip("yaml")
    folder = flux_python_path()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    code, out, err = python(HIDE + IMPORT)
    if os.path.basename(folder) == version:
        assert (code, out) == (0, f"{folder}/flux/__init__.py\n"), err
    else:
        assert code == 1 and "flux-python==" in err


def test_bindings_of_another_python_are_not_tried(tmp_path):
    fake = tmp_path / "flux"
    (tmp_path / "python2.7" / "flux").mkdir(parents=True)
    (tmp_path / "python2.7" / "flux" / "__init__.py").touch()
    fake.write_text(
        f'#!/bin/sh\ncase $1 in config) echo "{tmp_path}/python2.7";;'
        " *) printf 'commands:  \\t\\t0.88.0\\n';; esac\n"
    )
    fake.chmod(0o755)
    env = {**SET_UP, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    code, _, err = python(HIDE + IMPORT, env)
    assert code == 1
    assert err.endswith("pip install 'flux-tree[flux]' 'flux-python==0.88.0'")


def test_without_flux_one_line_says_so(tmp_path):
    code, _, err = python(HIDE + IMPORT, {**SET_UP, "PATH": str(tmp_path)})
    assert code == 1 and "'flux' is not on PATH" in err


def test_in_the_interpreter_of_flux():
    # as a user does who has installed flux-tree elsewhere, with the same version of Python
    packages = f"{PACKAGE.parent}:{sysconfig.get_path('platlib')}"
    env = {**CLEAN, "FLUX_PYTHONPATH_PREPEND": packages}
    code, _, err = python("import cffi, numpy", env, ("flux", "python"))
    if code:
        pytest.skip(f"Flux's interpreter lacks what flux-tree needs: {err}")
    ask = "import flux, flux_tree; print(flux_tree.Topology.from_instance(flux.Flux()).size)"
    run = in_instance('flux python -c "$1"', ask, size=3, env=env)
    assert (run.returncode, run.stdout) == (0, "3\n"), run.stderr


# ---- an instance


def bare(code, size, *options):
    command = ["flux", "start", f"--test-size={size}", *options]
    command += ["-Sbroker.rc1_path=", "-Sbroker.rc3_path=", sys.executable, "-c", code]
    return subprocess.run(
        command, env=SET_UP, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("spec", "size"),
    [("kary:1", 4), ("kary:2", 9), ("kary:0", 5), ("binomial", 11), ("mincrit:3", 10)],
)
def test_topology_of_real_brokers(spec, size):
    code = (
        "import flux, flux_tree\n"
        "for handle in (None, flux.Flux()):\n"
        "    t = flux_tree.Topology.from_instance(handle); print(t.spec, t.parents.tolist())\n"
    )
    run = bare(code, size, f"-Stbon.topo={spec}")
    wanted = Topology.from_spec(spec, size)
    assert run.stdout == f"{spec} {wanted.parents.tolist()}\n" * 2, run.stderr


def test_no_instance_is_one_line():
    env = {**SET_UP, "FLUX_URI": "local:///nowhere"}
    code, _, err = python("import flux_tree; flux_tree.Topology.from_instance()", env)
    assert code == 1
    assert err.startswith("flux_tree.errors.UsageError: no Flux instance can be reached")


# ---- archives

ARCHIVES = """
import os, sys
import flux, flux_tree
from flux_tree import archive
handle = flux.Flux()
os.environ["FLUX_URI"] = "local:///nowhere"  # it is the handle that counts
def show(call, *args, **kwargs):
    try:
        call(*args, **kwargs, handle=handle)
    except flux_tree.FluxTreeError as exc:
        print(type(exc).__name__, exc)
    else:
        print(*archive.names(handle=handle))
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    with instance(tmp_path_factory.mktemp("instance"), 2) as uri:
        yield uri


@pytest.fixture
def shown(uri, cwd):
    """Runs a script, and returns what it prints; its archives go with the test."""
    env = {**SET_UP, "FLUX_URI": uri}

    def run(body):
        command = [sys.executable, "-c", ARCHIVES + body]
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    yield run
    run("for name in archive.names(handle=handle): archive.remove(name, handle=handle)\n")


@pytest.fixture
def cwd(tmp_path):
    (tmp_path / "a").write_text("data of a\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("data of c\n" * 1000)
    return tmp_path


def test_archives_are_made_and_removed(shown, cwd):
    body = (
        "print(archive.names(handle=handle))\n"
        "show(archive.create, 'a')\n"
        "show(archive.create, ['a', 'b'], 'two', mmap=True)\n"
        f"show(archive.create, ['c'], 'three_blobs', directory={str(cwd / 'b')!r})\n"
        "show(archive.remove)\n"
        "show(archive.remove, 'two', 'three_blobs')\n"
    )
    assert shown(body) == [
        "[]",
        "main",
        "main two",
        "main three_blobs two",
        "three_blobs two",
        "",
    ]


@pytest.mark.parametrize("mmap", [False, True])
def test_what_was_put_in_comes_out(shown, cwd, mmap):
    body = (
        f"archive.create(['a', 'b'], mmap={mmap}, handle=handle)\n"
        "import subprocess\n"
        "os.environ['FLUX_URI'] = handle.attr_get('local-uri')\n"
        "subprocess.run(['flux', 'archive', 'extract', '-C', 'out'], check=True)\n"
    )
    (cwd / "out").mkdir()
    shown(body)
    assert (cwd / "out" / "a").read_bytes() == (cwd / "a").read_bytes()
    assert (cwd / "out" / "b" / "c").read_bytes() == (cwd / "b" / "c").read_bytes()


def test_archives_that_cannot_be(shown, cwd):
    body = (
        "archive.create('a', handle=handle)\n"
        "show(archive.create, 'a')\n"
        "show(archive.create, 'nothing', 'n')\n"
        "show(archive.create, '/dev/null', 'n')\n"
        "show(archive.create, [], 'n')\n"
        "show(archive.create, 'a', 'x.y')\n"
        "show(archive.remove, 'main', 'n')\n"
    )
    assert shown(body) == [
        "DestinationError archive 'main': it is there already, remove it first, or give another"
        " name",
        f"SourceError {cwd}/nothing: there is no such file or directory",
        "SourceError archive 'n': it cannot be made (/dev/null: unsupported file type)",
        "UsageError archive 'n': no paths, give what goes into it",
        "UsageError archive 'x.y': this is no name, give one without dots and slashes",
        "SourceError archive 'n': it cannot be removed (archive.n does not exist); there is none",
    ]
