"""The strategy auto, and racks, in jobs of Flux: hosts have names of their own here."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flux_support import SET_UP
from support import instance

import flux_tree
from flux_tree import UsageError, _report
from flux_tree.model import Network
from flux_tree.strategies import Auto, Rack

pytestmark = pytest.mark.flux

HOSTS = ["r0n0", "r1n0", "r0n1", "r1n1", "r0n2", "r1n2"]
RACKS = [0, 1] * 3
SIZE = len(HOSTS)
BYTES = 300_000
GBIT = 125e6
#: With these numbers racks are what counts.
NARROW = Network(GBIT, uplink=GBIT / 50)
CONFIG = f"""
[resource]
noverify = true
[[resource.config]]
hosts = "{",".join(HOSTS)}"
cores = "0-1"
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    top = tmp_path_factory.mktemp("instance")
    (top / "racks.toml").write_text(CONFIG)
    options = (f"--config-path={top}", f"--test-hosts={','.join(HOSTS)}")
    with instance(top, SIZE, *options) as uri:
        yield uri


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "source"
    path.write_bytes(os.urandom(BYTES))
    return path


@pytest.fixture
def env(uri, tmp_path, monkeypatch):
    """Nothing is known of the network; the same environment for what runs in this process."""
    found = {**SET_UP, "FLUX_URI": uri, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    monkeypatch.setenv("XDG_CONFIG_HOME", found["XDG_CONFIG_HOME"])
    for name in ("FLUX_TREE_NETWORK", "FLUX_TREE_BANDWIDTH"):
        found.pop(name, None)
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.fixture
def run(env, source, tmp_path):
    """Return a function that runs a job with the option, and returns its report or its error."""

    def run(options, more_env=None, cwd=None):
        if isinstance(options, str):
            args = [f"-otree-bcast={options},file={source},destination={tmp_path}/{{rank}}"]
        else:
            options = {"file": source, "destination": f"{tmp_path}/{{rank}}", **options}
            args = [f"-otree-bcast.{k}={v}" for k, v in options.items()]
        whole = {**env, **(more_env or {})}
        done = flux("run", f"-N{SIZE}", *args, "true", env=whole, cwd=cwd)
        if done.returncode != 0:
            assert "Traceback" not in done.stderr
            return done.stderr
        for rank in range(SIZE):
            assert (tmp_path / str(rank)).read_bytes() == source.read_bytes()
            (tmp_path / str(rank)).unlink()
        job = flux("job", "last", env=whole).stdout.strip()
        return json.loads(flux("job", "info", job, "guest.tree-bcast", env=whole).stdout)

    return run


def flux(*args, env, cwd=None):
    return subprocess.run(
        ["flux", *map(str, args)], env=env, cwd=cwd, capture_output=True, text=True, timeout=120
    )


def is_choice(report, network, groups=None, **more) -> None:
    """The job has come to the same as Python does."""
    plan = Auto(network, BYTES, groups, **more).plan(SIZE)
    assert report["bytes"] == BYTES
    assert report["plan"] == plan.to_dict()
    assert report["chunk_size"] == plan.chunk_size
    assert report["why"] == plan.why


def test_the_first_shell_chooses(run):
    report = run("auto")
    is_choice(report, Network(GBIT))
    assert report["strategy"] == "auto"
    assert report["plan"]["strategy"] != "auto"
    is_choice(run("auto,bandwidth=10Mbit/s,chunk-size=16KiB"), Network(1.25e6), chunk_size=16384)
    plain = dataclasses.replace(Network(GBIT), encryption=None)
    is_choice(run("auto,security=none"), plain)


def test_numbers_of_one_machine_are_left_out_unless_they_are_named(run, tmp_path):
    measured = Network(3e9, encryption=6.7e8, processors=2, burst=8e4)
    path = tmp_path / "network.json"
    by_default = {"FLUX_TREE_NETWORK": str(path)}
    lab = dataclasses.replace(measured, origin="lab of 4 hosts")
    lab.save(path)
    is_choice(run("auto", by_default), dataclasses.replace(lab, processors=None, burst=0.0))
    is_choice(run(f"auto,network={path}"), lab)
    loopback = dataclasses.replace(measured, origin="loopback, 2026-01-01")
    loopback.save(path)
    is_choice(run("auto", by_default), Network(GBIT))
    is_choice(run(f"auto,network={path}"), loopback)


def test_members_are_kept_to(env, source, tmp_path):
    option = f"-otree-bcast=auto,file={source},destination={tmp_path}/{{rank}}"
    done = flux("run", f"-N{SIZE}", option, "-otree-bcast.members=1,3-4", "true", env=env)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.glob("[0-9]")) == ["1", "3", "4"]


def test_a_file_of_numbers(run, tmp_path):
    network = Network(5e6, latency=0.02, per_connection=0.1, rates={3: 1e6}, groups=tuple(RACKS))
    path = network.save(tmp_path / "my.json")
    is_choice(run(f"auto,network={path}"), network)
    is_choice(run("auto", {"FLUX_TREE_NETWORK": str(path)}), network)
    faster = dataclasses.replace(network, bandwidth=GBIT)
    is_choice(run(f"auto,network={path},bandwidth=1Gbit/s"), faster)
    named = {"FLUX_TREE_NETWORK": str(path), "FLUX_TREE_BANDWIDTH": "1Gbit/s"}
    is_choice(run("auto", named), faster)
    # relative names are those of who submits
    is_choice(run("auto,network=my.json", cwd=tmp_path), network)
    dataclasses.replace(network, bandwidth=7e6).save()
    is_choice(run("auto"), dataclasses.replace(network, bandwidth=7e6))


@pytest.mark.parametrize("of", ["pattern", "file"])
def test_racks_of_hosts(run, tmp_path, of):
    network = NARROW.save(tmp_path / "net.json")
    racks = "^(r[0-9])n"
    if of == "file":
        racks = tmp_path / "racks"
        racks.write_text("r0n[0-9] left\nr1n[0-2] right # of the door\n")
    report = run({"strategy": "auto", "racks": racks, "network": network})
    is_choice(report, NARROW, RACKS)
    assert report["plan"]["strategy"] == "rack"
    report = run({"strategy": "rack", "racks": racks})
    assert report["plan"] == Rack(groups=RACKS).plan(SIZE).to_dict()
    assert report["why"] is None
    if of == "file":
        is_choice(run({"strategy": "auto", "racks": "racks"}, cwd=tmp_path), Network(GBIT), RACKS)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"racks": "^r0"}, "racks '^r0': it finds no rack in the name of host r1n0"),
        ({"racks": "r("}, "racks 'r('"),
        ({"racks": "/no/such"}, "racks /no/such: cannot be read"),
        ({"network": "/no/such"}, "/no/such: there is no such file"),
        ({"network": "{tmp}/bad"}, "bad: cannot be read"),
        ({"network": "{tmp}/other"}, "other: no numbers of a network"),
        ({"strategy": "chain", "racks": "r"}, "tree-bcast.racks=r: leave it out"),
        ({"strategy": "rack:2", "racks": "r"}, "tree-bcast.racks=r: leave it out"),
        ({"strategy": "chain", "network": "/x"}, "tree-bcast.network=/x: leave it out"),
        ({"strategy": "auto:2"}, "it takes no argument, write 'auto'"),
    ],
)
def test_what_makes_no_sense_ends_the_job_in_one_line(run, tmp_path, options, text):
    (tmp_path / "bad").write_text("{")
    (tmp_path / "other").write_text('{"version": 7}')
    options = {
        name: value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else value
        for name, value in {"strategy": "auto", **options}.items()
    }
    assert text in run(options)
    assert list(tmp_path.glob("[0-9]")) == []


def test_a_named_file_that_is_missing_is_an_error(run):
    said = run("auto", {"FLUX_TREE_NETWORK": "/no/such"})
    assert "/no/such: there is no such file, make it with 'flux-tree calibrate'" in said


# ---- from Python


@pytest.fixture
def handle(uri, env):
    module = pytest.importorskip("flux", reason="flux-python is not installed")
    pytest.importorskip("flux.job")
    return module.Flux(uri)


def test_broadcast_by_name(handle, source, tmp_path):
    result = flux_tree.broadcast(source, f"{tmp_path}/{{rank}}", "auto", handle=handle)
    plan = Auto(Network(GBIT), BYTES).plan(SIZE)
    assert result.plan == plan
    assert result.why == result.summary()["why"] == plan.why
    assert result.chunk_size == plan.chunk_size
    assert "chosen" in str(result)
    later = flux_tree.records(result.jobid, handle)
    assert later.why == plan.why


def test_reports_without_a_reason_are_read(handle, source, tmp_path):
    result = flux_tree.broadcast(source, f"{tmp_path}/{{rank}}", "chain", handle=handle)
    assert result.why is None
    from flux.job import JobID

    text = _report._lookup(handle, JobID(result.jobid), result.jobid, _report.REPORT)
    data = json.loads(text)
    assert data.pop("why", "missing") is None
    assert _report.parse(json.dumps(data), "an older report").plan == result.plan


@pytest.mark.parametrize("racks", ["^(r[0-9])", RACKS, list("abababab"[:SIZE])])
def test_broadcast_with_racks(handle, source, tmp_path, racks):
    result = flux_tree.broadcast(
        source, f"{tmp_path}/a{{rank}}", Auto(NARROW), racks=racks, handle=handle
    )
    plan = Auto(NARROW, BYTES, RACKS).plan(SIZE)
    assert plan.strategy == "rack"
    assert result.plan == plan
    assert result.why == plan.why
    result = flux_tree.broadcast(
        source, f"{tmp_path}/b{{rank}}", "rack", racks=racks, handle=handle
    )
    assert np.array_equal(result.plan.parents, plan.parents)


def test_groups_of_a_strategy_reach_the_job(handle, source, tmp_path):
    strategy = Rack(groups=list("aabbab"))
    result = flux_tree.broadcast(source, f"{tmp_path}/{{rank}}", strategy, handle=handle)
    assert np.array_equal(result.plan.parents, strategy.plan(SIZE).parents)


@pytest.mark.parametrize(
    ("strategy", "more", "text"),
    [
        ("chain", {"racks": RACKS}, "'auto' and 'rack' take them"),
        (None, {"racks": RACKS}, "'auto' and 'rack' take them"),
        ("auto", {"racks": [0]}, "1 for 6 ranks"),
        ("auto", {"racks": "^r0"}, "host r1n0"),
        ("auto", {"transport": "content"}, "of transport 'direct' only"),
        (Auto(Network(1e8, groups=(0, 1))), {}, "groups of 2 ranks"),
    ],
)
def test_what_makes_no_sense_is_refused_before_there_is_a_job(
    handle, source, tmp_path, strategy, more, text
):
    with pytest.raises(UsageError, match=text):
        flux_tree.broadcast(source, f"{tmp_path}/{{rank}}", strategy, handle=handle, **more)


def test_the_command(env, source, tmp_path):
    command = [sys.executable, "-m", "flux_tree", "bcast", source, f"{tmp_path}/{{rank}}"]
    command += ["--strategy", "auto", "--racks", "^(r[0-9])"]
    named = {**env, "FLUX_TREE_NETWORK": str(NARROW.save(Path(tmp_path) / "n.json"))}
    done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    plan = Auto(NARROW, BYTES, RACKS).plan(SIZE)
    assert ["chosen", "by", "auto", *plan.why.split()] in [
        line.split() for line in done.stdout.splitlines()
    ]
