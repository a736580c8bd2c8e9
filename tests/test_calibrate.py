"""Calibration: real transfers here, in instances of Flux and in labs, and the file they end in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flux_support import SET_UP, flux_tree, in_instance

from flux_tree._calibrate_brokers import LARGE, SMALL, BrokerTimes, broker_costs
from flux_tree._calibrate_direct import chain, edge_latency
from flux_tree._calibrate_disk import write_rate
from flux_tree.calibration import calibrate_flux, calibrate_lab, calibrate_local
from flux_tree.errors import UsageError
from flux_tree.lab import Lab
from flux_tree.model import Network, network_path, predict

MBIT = 125_000.0
COSTS = ("per_connection", "encryption")
BROKERS = ("per_load", "extract_start", "broker")


def run(*args, env=None, **more):
    command = [sys.executable, "-m", "flux_tree", "calibrate", *map(str, args)]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False, **more
    )


def left_behind():
    """Return the folders of calibrations that are there now."""
    where = {Path("/dev/shm"), Path(tempfile.gettempdir())}
    return {p for top in where for p in top.glob("flux-tree-calibrate-*")}


def check_sane(network):
    """Every number is one of this world."""
    assert 1e6 < network.bandwidth < 1e12
    assert 0 < network.latency < 10e-3
    assert 0 < network.start < 2
    assert 1e-6 < network.per_connection < 0.05
    assert 0 <= network.per_chunk < 1e-3
    assert 1e7 < network.encryption < 1e11


def environment_in(folder):
    env = {k: v for k, v in SET_UP.items() if k != "FLUX_TREE_NETWORK"}
    return {**env, "XDG_CONFIG_HOME": str(folder / "config")}


@pytest.fixture
def environment(tmp_path):
    return environment_in(tmp_path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """What the command says, and the file that it has written."""
    folder = tmp_path_factory.mktemp("stored")
    before = left_behind()
    done = run(env=environment_in(folder))
    assert left_behind() <= before
    return done, folder / "config" / "flux-tree" / "network.json"


@pytest.fixture(scope="module")
def local(stored):
    return Network.load(stored[1])


# ---- on this machine


def test_local_numbers_are_measured(local):
    check_sane(local)
    assert local.origin.startswith("loopback, ")
    assert local.processors == os.cpu_count()
    assert all(getattr(local, name) != getattr(Network, name) for name in COSTS)
    assert all(getattr(local, name) == getattr(Network, name) for name in BROKERS)
    assert local.disk is None


def test_saved_and_read_back(local, tmp_path, monkeypatch):
    path = tmp_path / "new" / "network.json"
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(path))
    assert local.save() == path == network_path()
    assert Network.load() == local
    assert predict(chain(4), 1 << 24, Network.load()).time == predict(chain(4), 1 << 24, local).time


def test_files_that_are_none_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no such file"):
        Network.load(tmp_path / "none")
    bad = tmp_path / "bad"
    for text in ("{", "[]", "{}", '{"version": 1}', '{"version": 1, "bandwidth": -1}'):
        bad.write_text(text)
        with pytest.raises(UsageError, match=f"{bad}|bandwidth"):
            Network.load(bad)
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="flux-tree calibrate"):
        Network.load()
    monkeypatch.delenv("FLUX_TREE_NETWORK")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Network.load() is None


def test_disk(tmp_path):
    assert 1e5 < write_rate(tmp_path) < 1e12
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"disk .*nowhere.*give a folder"):
        write_rate(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="2 or more"):
        calibrate_local(1)


def test_latency_is_that_of_one_edge(local):
    def chain_with(*errors):
        return SimpleNamespace(records={"clock_error": np.array(errors)})

    # ranks 0 and 1 of the first one are on one machine
    assert edge_latency([chain_with(0, 0, 3e-4, 9e-4), chain_with(0, 2e-4, 1e-4)]) == 2e-4
    assert edge_latency([chain_with(0, 0)]) is None
    assert local.latency < 5e-3


def test_broker_costs_come_out_as_they_went_in():
    wanted = Network(1e9, latency=1e-4, per_blob=3e-4, broker=2e8, per_load=2e-3, extract_start=0.1)

    def first(size):
        on_the_way = 2 * wanted.latency + size / wanted.bandwidth
        return on_the_way + wanted.per_blob + size / wanted.broker

    times = BrokerTimes(wanted.extract_start, wanted.per_load, first(LARGE), first(SMALL))
    found = broker_costs(times, wanted.bandwidth, wanted.latency)._asdict()
    for name, value in found.items():
        assert value == pytest.approx(getattr(wanted, name)), name
    # as fast as the NIC, or faster by what was measured: no cost, and no bound
    nothing = broker_costs(BrokerTimes(0.1, 0.0, 0.9e-3, 0.0), 1e9, 0.0)
    assert (nothing.per_blob, nothing.broker) == (0.0, None)


# ---- the command


def test_command_stores_what_predictions_read(stored):
    done, path = stored
    assert (done.returncode, done.stderr) == (0, "")
    check_sane(Network.load(path))
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines[:-2]]
    assert names[:3] == ["measured", "bandwidth", "latency"]
    assert [n for n in names if hasattr(Network(1.0), n)] == names[1:]
    assert lines[-1].startswith(f"stored in {path}, where predictions")
    assert [p.name for p in path.parent.iterdir()] == ["network.json"]


@pytest.mark.slow  # as test_command_stores_what_predictions_read, with --json as in an instance
def test_command_as_json_and_elsewhere(tmp_path, environment):
    path = tmp_path / "lab.json"
    path.write_text("an old one")
    done = run("--json", "--output", path, "--disk", tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["path"] == str(path)
    assert data["network"] == json.loads(path.read_text()) == Network.load(path).to_dict()
    assert data["network"]["disk"] > 0
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--output", "{}"], "it is a directory"),
        (["--output", "{}/file/network.json"], "file is no directory"),
        (
            ["--output", "/proc/nowhere/network.json"],
            "/proc/nowhere/network.json: cannot be written",
        ),
        (["--disk", "{}/nowhere"], "nowhere: it cannot be written to"),
        (["--hosts", "1"], "lab: 1 hosts"),
        (["--hosts", "2", "--nodes", "2"], "--nodes"),
        (["--nodes", "2"], "Flux"),
        (["--rate", "fast"], "rate 'fast'"),
    ],
)
def test_bad_parameters_end_in_one_line(args, said, tmp_path, environment):
    (tmp_path / "file").touch()
    done = run(*(a.format(tmp_path) for a in args), env=environment)
    assert done.returncode in (2, 6), done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("flux-tree: error: ") and said in done.stderr


def test_interrupted_leaves_the_old_file(tmp_path, environment):
    before = left_behind()
    path = tmp_path / "network.json"
    path.write_text("an old one")
    command = [sys.executable, "-m", "flux_tree", "calibrate", "--output", str(path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    deadline = time.monotonic() + 30
    while left_behind() <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "flux-tree: interrupted\n")
    assert path.read_text() == "an old one"
    assert [p.name for p in tmp_path.iterdir()] == ["network.json"]
    assert left_behind() <= before


# ---- in Flux


@pytest.mark.flux
def test_in_an_instance(tmp_path, environment):
    before = left_behind()
    script = """
        $0 calibrate --json >"$1/out" || exit 1
        flux archive list | grep calibrate
        for r in 0 1 2; do ls "$(flux exec -r $r flux getattr rundir)"; done | grep calibrate
        true
    """
    script = script.replace("$0 calibrate", flux_tree("calibrate"))
    done = in_instance(script, tmp_path, size=3, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    network = Network.load(tmp_path / "config" / "flux-tree" / "network.json")
    check_sane(network)
    assert network.origin.startswith("flux, 3 nodes, ")
    assert network.processors == os.cpu_count()  # brokers of one machine
    assert all(getattr(network, name) != getattr(Network, name) for name in BROKERS)
    assert 0 < network.extract_start < 2 and 0 <= network.per_load < 0.1
    assert 0 <= network.per_blob < 0.1
    assert left_behind() <= before


@pytest.mark.flux
def test_an_instance_of_one_has_no_network(environment):
    done = in_instance(flux_tree("calibrate"), size=1, env=environment)
    assert done.returncode == 2
    assert "calibrate: 1 node, between which there is nothing" in done.stderr


@pytest.mark.flux
def test_without_an_instance_it_says_so(monkeypatch):
    monkeypatch.setenv("FLUX_URI", "local:///nowhere")
    with pytest.raises(UsageError, match="no Flux instance can be reached"):
        calibrate_flux()


# ---- in a lab


@pytest.fixture
def own_tmp(tmp_path, monkeypatch):
    where = Path(tempfile.mkdtemp(prefix="ft", dir="/tmp"))  # sockets of Flux need short names
    monkeypatch.setenv("TMPDIR", str(where))
    monkeypatch.setattr("tempfile.tempdir", str(where))
    yield where
    shutil.rmtree(where)


@pytest.mark.lab
@pytest.mark.slow
def test_in_a_lab(own_tmp):
    before = left_behind()
    with Lab(2, 400 * MBIT) as lab:
        network = calibrate_lab(lab)
        check_sane(network)
        assert network.origin.startswith("lab of 2 hosts at 400 Mbit/s, ")
        assert 0.8 < network.bandwidth / lab.rate < 1.2
        assert network.processors == os.cpu_count()
        if shutil.which("flux"):
            assert all(getattr(network, name) != getattr(Network, name) for name in BROKERS)
    assert left_behind() <= before
    assert [p.name for p in own_tmp.glob("flux-tree-*")] == []


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.flux
def test_in_an_instance_in_a_lab(own_tmp, environment):
    out = own_tmp / "out"
    argv = ["sh", "-c", f"{flux_tree('calibrate', '--json', '--dry-run')} >{out}"]
    with Lab(2, 400 * MBIT) as lab:
        process = lab.flux(argv, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0
        data = json.loads(out.read_text())
        assert data["path"] is None
        network = data["network"]
        assert 0.8 < network["bandwidth"] / lab.rate < 1.2
        assert network["processors"] == os.cpu_count()  # its hosts have one clock
        assert 0 < network["latency"] < 10e-3


@pytest.mark.slow
@pytest.mark.lab
def test_the_command_makes_a_lab(own_tmp, environment):
    path = own_tmp / "lab.json"
    # without Flux
    env = {**environment, "PATH": str(own_tmp), "TMPDIR": str(own_tmp)}
    done = run("--hosts", "2", "--rate", "400mbit", "-o", path, env=env)
    assert done.returncode == 0, done.stderr
    network = Network.load(path)
    assert network.origin.startswith("lab of 2 hosts at 400 Mbit/s, ")
    assert network.per_blob == Network.per_blob
    assert "typical, not measured" in done.stdout
