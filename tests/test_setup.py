"""Setting up: env, install, doctor, and the rc file in real jobs."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flux_support import CLEAN, PACKAGE, SET_UP, flux_tree, in_instance
from support import instance

from flux_tree import DestinationError, SourceError, UsageError, _doctor, _install, _setup

HAVE_PLUGIN = _setup.PLUGIN.exists()
needs_plugin = pytest.mark.skipif(not HAVE_PLUGIN, reason="built without flux-core")

NAMES = ("FLUX_SHELL_RC_PATH", "FLUX_CLI_PLUGINPATH", "PATH", "FLUX_TREE_PYTHON")
ODD = 'it\'s a [dir] $HOME `*` "!" \\ é'


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """The package stands in a folder with an odd name."""
    top = tmp_path / ODD
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "flux-tree").touch()
    monkeypatch.setattr(_setup, "RC_FILE", top / "shell" / "tree-bcast.lua")
    monkeypatch.setattr(_setup, "CLI_FOLDER", top / "flux_cli")
    monkeypatch.setattr(sys, "argv", [str(top / "bin" / "flux-tree"), "env"])
    monkeypatch.setattr(sys, "executable", str(top / "bin" / "python"))
    return top


def evaluated(command, text, before):
    """Return the variables after a shell has evaluated a text twice."""
    show = f"{shutil.which('env')} -0"
    run = subprocess.run(
        [shutil.which(command[0]), *command[1:], f"{text}\n{text}\n{show}"],
        env=before,
        capture_output=True,
        check=True,
    )
    pairs = (line.partition(b"=") for line in run.stdout.split(b"\0"))
    found = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    return [found.get(name) for name in NAMES]


def expected(top, before):
    escaped = re.sub(r"[\[\]*?\\]", r"\\\g<0>", str(top / "shell"))
    rc, cli, path = (before.get(name) for name in NAMES[:3])
    return [
        escaped + (f":{rc}" if rc else ""),
        glob.escape(str(top / "flux_cli")) + (f":{cli}" if cli else ""),
        f"{path}:{top / 'bin'}",
        str(top / "bin" / "python"),
    ]


SHELLS = [("sh", ["sh", "-euc"]), ("sh", ["bash", "-euc"]), ("sh", ["zsh", "-c"])]
SHELLS += [("fish", ["fish", "--no-config", "-c"]), ("csh", ["tcsh", "-fc"])]


@pytest.mark.parametrize(("kind", "command"), SHELLS, ids=[c[0] for _, c in SHELLS])
@pytest.mark.parametrize("more", [{}, {"FLUX_SHELL_RC_PATH": "/a b", "FLUX_CLI_PLUGINPATH": "/c"}])
def test_env_in_each_shell(odd, kind, command, more, monkeypatch):
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    before = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **more}
    monkeypatch.setattr(os, "environ", before)
    assert evaluated(command, _setup.shell_lines(kind), before) == expected(odd, before)


def test_module_file(odd, tmp_path):
    if not shutil.which("tclsh"):
        pytest.skip("no tclsh")
    script = tmp_path / "run.tcl"
    script.write_text(
        "proc module-whatis {text} {}\n"
        'proc prepend-path {name value} {puts "prepend $name $value"}\n'
        'proc append-path {name value} {puts "append $name $value"}\n'
        'proc setenv {name value} {puts "set $name $value"}\n' + _setup.module_file()
    )
    run = subprocess.run(
        ["tclsh", script], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True
    )
    lines = [f"{how} {name} {value}" for name, value, how in _setup.environment()]
    assert run.stdout.decode().splitlines() == lines


def test_env_refuses_what_no_list_of_folders_can_hold(odd, monkeypatch):
    monkeypatch.setattr(_setup, "CLI_FOLDER", odd / "a:b")
    with pytest.raises(UsageError, match="install flux-tree elsewhere"):
        _setup.environment()


def test_env_warns_without_a_plugin(monkeypatch):
    monkeypatch.setattr(_setup, "PLUGIN", Path("/nowhere/_plugin.abi3.so"))
    assert "PKG_CONFIG_PATH" in (_setup.no_plugin() or "")


def test_env_imports_next_to_nothing():
    code = (
        "import sys; from flux_tree.cli import main; main(['env']);"
        "print(sorted({'numpy', 'rich', '_cffi_backend', 'flux'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("\n[]\n")


# ---- install


@pytest.fixture
def folders(tmp_path):
    top = tmp_path / "flux"
    for name in ("lib/shell", "etc/shell/lua.d", "libexec/cmd"):
        (top / name).mkdir(parents=True)
    return _install.Folders(
        private=top / "lib/shell/tree-bcast",
        rc=top / "etc/shell/lua.d",
        cli=top / "etc/cli/plugins",
        commands=top / "libexec/cmd",
    )


def everything(top):
    return sorted(str(p.relative_to(top)) for p in top.rglob("*"))


@needs_plugin
def test_install_and_remove_leave_nothing(folders, tmp_path):
    (folders.rc / "other.lua").write_text("-- of another")
    before = everything(tmp_path)
    umask = os.umask(0o077)
    try:
        written = _install.install(folders)
        assert _install.install(folders) == written  # again, over it
    finally:
        os.umask(umask)
    assert all(path.exists() for path in written)
    for path in tmp_path.rglob("*"):
        if str(path.relative_to(tmp_path)) not in before:
            assert path.stat().st_mode & 0o044 == 0o044
    assert not [p for p in everything(tmp_path) if re.search(r"/\.tree|/\._plugin", p)]
    assert (folders.cli / "tree_bcast.py").resolve() == folders.private / "flux_cli/tree_bcast.py"
    run = subprocess.run(
        [folders.commands / "flux-tree", "--version"], env=SET_UP, capture_output=True, check=True
    )
    assert run.stdout.startswith(b"flux-tree ")
    gone = _install.remove(folders)
    assert set(written) <= set(gone)
    assert everything(tmp_path) == before
    with pytest.raises(SourceError, match="nothing is installed"):
        _install.remove(folders)


@needs_plugin
def test_remove_spares_what_others_put_there(folders):
    _install.install(folders)
    (folders.private / "mine").touch()
    _install.remove(folders)
    assert everything(folders.private) == ["mine"]


@needs_plugin
def test_install_below_a_destdir_does_not_mention_it(folders, tmp_path):
    destdir = tmp_path / "image"
    destdir.mkdir()
    for path in _install.install(folders, destdir):
        assert path.is_relative_to(destdir)
        if path.suffix != ".so":
            text = os.readlink(path) if path.is_symlink() else path.read_text()
            assert str(destdir) not in text
    _install.remove(folders, destdir)
    assert everything(destdir) == []


@needs_plugin
def test_install_overwrites_nothing_of_others(folders, tmp_path):
    other = folders.commands / "flux-tree"
    other.write_text("of another\n")
    before = everything(tmp_path)
    with pytest.raises(DestinationError, match="not installed by flux-tree"):
        _install.install(folders)
    assert everything(tmp_path) == before


@needs_plugin
def test_install_that_fails_takes_back_what_it_did(folders, tmp_path):
    folders = folders._replace(commands=folders.rc / "other.lua" / "cmd")
    (folders.rc / "other.lua").touch()
    before = everything(tmp_path)
    with pytest.raises(DestinationError, match="flux-tree env"):
        _install.install(folders)
    assert everything(tmp_path) == before


def test_install_needs_a_plugin(folders, monkeypatch):
    monkeypatch.setattr(_setup, "PLUGIN", Path("/nowhere/_plugin.abi3.so"))
    with pytest.raises(SourceError, match="no shell plugin"):
        _install.install(folders)


@pytest.mark.flux
@needs_plugin
def test_what_is_installed_works_with_nothing_set_up(folders, tmp_path):
    """With copies of Flux's own rc files, as those of the machine belong to all."""
    system = _install.flux_folders()
    shutil.copy(system.rc.parent / "initrc.lua", folders.rc.parent)
    _install.install(folders)
    (tmp_path / "source").write_text("data\n")
    script = (
        'flux run -N2 --env=-* -o initrc="$1" -o tree-bcast.file="$2"'
        ' /bin/sh -c "/bin/cat \\$FLUX_JOB_TMPDIR/source" &&'
        ' flux run -N2 -o initrc="$1" true && FLUX_CLI_PLUGINPATH="$3" flux run -N2'
        ' --tree-bcast=file="$2" sh -c "cat \\$FLUX_JOB_TMPDIR/source"'
    )
    args = (folders.rc.parent / "initrc.lua", tmp_path / "source", folders.cli)
    run = in_instance(script, *args, env=CLEAN)
    assert (run.returncode, run.stdout, run.stderr) == (0, "data\n" * 4, "")


@pytest.mark.flux
def test_the_folders_of_flux_are_found():
    for folder in _install.flux_folders():
        assert folder.parent.parent.is_dir()


# ---- doctor


def doctor(*args, env=None):
    run = subprocess.run(
        [sys.executable, "-m", "flux_tree", "doctor", "--json", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = json.loads(run.stdout)
    assert (run.returncode == 0) == found["usable"]
    return {check["name"]: check for check in found["checks"]}


def test_doctor_without_flux(tmp_path):
    found = doctor(env={**CLEAN, "PATH": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)})
    assert found["native core"]["state"] == found["registries"]["state"] == "ok"
    assert found["flux"]["state"] == "missing" and "install flux-core" in found["flux"]["mend"]


@pytest.mark.flux
@needs_plugin
def test_doctor_before_and_after_the_set_up():
    before = doctor(env={**CLEAN, "PYTHONPATH": str(PACKAGE.parent)})
    if not (_install.flux_folders().rc / "tree-bcast.lua").exists():
        assert before["rc file"]["state"] == before["flux run"]["state"] == "missing"
        assert "flux-tree env" in before["rc file"]["mend"]
    after = doctor(env=SET_UP)
    for name in ("flux", "shell plugin", "libraries", "rc file", "flux run"):
        assert after[name]["state"] == "ok", after[name]
    assert after["instance"]["state"] == "warn"


@pytest.mark.flux
@needs_plugin
def test_doctor_in_an_instance_asks_all_nodes_and_runs_a_job():
    run = in_instance(flux_tree("doctor", "--json"), size=3)
    assert run.returncode == 0, run.stdout
    found = {check["name"]: check for check in json.loads(run.stdout)["checks"]}
    assert found["all nodes"]["text"] == "the same plugin on all 3 ranks"
    assert found["a job"]["state"] == "ok"


@pytest.mark.flux
@needs_plugin
def test_doctor_as_a_table():
    run = in_instance(flux_tree("doctor", "--no-job"), size=1)
    assert run.returncode == 0
    assert run.stdout.splitlines()[0].split() == ["CHECK", "STATE", "FOUND"]


def test_doctor_reads_versions():
    assert _doctor._numbers("0.88.0-12-gabc") == (0, 88, 0)
    assert _doctor._numbers("1.0") >= _doctor.OLDEST > _doctor._numbers("0.76.0")


# ---- what used to be silent


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Runs a script in an instance whose brokers know nothing of any set-up."""
    with instance(tmp_path_factory.mktemp("instance"), 2) as uri:

        def run(script, *args, env=SET_UP):
            done = subprocess.run(
                ["sh", "-c", script, "sh", *map(str, args)],
                env={**env, "FLUX_URI": uri},
                capture_output=True,
                text=True,
                timeout=120,
            )
            return done.returncode, done.stdout, done.stderr

        yield run


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_text("data\n")
    return path


SHOW = '/bin/sh -c "/bin/cat \\$FLUX_JOB_TMPDIR/source"'


@pytest.mark.flux
@needs_plugin
def test_the_environment_of_the_job_may_be_empty(job, source):
    code, out, err = job(f'flux run -N2 --env=-* --tree-bcast=chain,file="$1" {SHOW}', source)
    assert (code, out, err) == (0, "data\ndata\n", "")
    code, out, err = job(f'flux run -N2 --env=-* -o tree-bcast.file="$1" {SHOW}', source)
    assert (code, out, err) == (0, "data\ndata\n", "")


@pytest.mark.flux
def test_no_set_up_at_all_is_an_error(job):
    code, _, err = job("flux run --tree-bcast=chain true", env=CLEAN)
    assert code != 0 and "unrecognized arguments: --tree-bcast" in err


@pytest.mark.flux
def test_an_rc_folder_that_went_away_is_loud(job, tmp_path, source):
    """The package is removed, or not there on the nodes, after the job was submitted."""
    shutil.copytree(PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("*.o", "*.c"))
    env = {**SET_UP, "FLUX_CLI_PLUGINPATH": str(tmp_path / "package" / "flux_cli")}
    script = (
        'id=$(flux submit --urgency=hold -N2 --tree-bcast=file="$1" true) &&'
        ' rm -r "$2" && flux job urgency $id 16 && flux job attach $id'
    )
    code, _, err = job(script, source, tmp_path / "package" / "shell", env=env)
    assert code != 0
    assert re.search(r"source .*tree-bcast.lua: No such file", err)


@pytest.mark.flux
def test_a_missing_plugin_is_loud(job, tmp_path, source):
    shutil.copytree(PACKAGE / "shell", tmp_path / "package" / "shell")
    env = {**CLEAN, "FLUX_SHELL_RC_PATH": str(tmp_path / "package" / "shell")}
    code, _, err = job('flux run -N2 -o tree-bcast.file="$1" true', source, env=env)
    assert code != 0 and "flux-tree doctor" in err
    assert job("flux run -N2 echo ran", env=env)[:2] == (0, "ran\nran\n")  # others go on


@pytest.mark.flux
@needs_plugin
def test_rc_files_may_be_sourced_more_than_once(job, tmp_path, source):
    shutil.copytree(PACKAGE / "shell", tmp_path / "other" / "shell")
    shutil.copy(_setup.PLUGIN, tmp_path / "other")
    (tmp_path / "link").symlink_to(PACKAGE / "shell")
    paths = [PACKAGE / "shell", tmp_path / "other" / "shell", tmp_path / "link", PACKAGE / "shell"]
    env = {**SET_UP, "FLUX_SHELL_RC_PATH": ":".join(map(str, paths))}
    code, out, err = job(f'flux run -N2 --tree-bcast=file="$1" {SHOW}', source, env=env)
    assert (code, out, err) == (0, "data\ndata\n", "")


@pytest.mark.flux
@needs_plugin
def test_rc_folder_with_an_odd_name(job, tmp_path, source):
    top = tmp_path / "a [dir] * with ? 'odd' \\ name"
    shutil.copytree(PACKAGE / "shell", top / "shell")
    shutil.copytree(PACKAGE / "flux_cli", top / "flux_cli")
    shutil.copy(_setup.PLUGIN, top)
    env = {**CLEAN, "FLUX_SHELL_RC_PATH": _setup.glob_escape(str(top / "shell"))}
    code, out, err = job(f'flux run -N2 -o tree-bcast.file="$1" {SHOW}', source, env=env)
    assert (code, out, err) == (0, "data\ndata\n", "")
    env = {**CLEAN, "FLUX_CLI_PLUGINPATH": glob.escape(str(top / "flux_cli"))}
    code, out, err = job(f'flux run -N2 --tree-bcast=file="$1" {SHOW}', source, env=env)
    assert (code, out, err) == (0, "data\ndata\n", "")
