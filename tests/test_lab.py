"""The laboratory: real network namespaces, real rates, and nothing left of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import children, leftovers, wait_gone

import flux_tree
from flux_tree.errors import DestinationError, LabError, UsageError
from flux_tree.lab import Lab, clean

MBIT = 125_000.0
pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def own_tmp(tmp_path, monkeypatch):
    """Have every lab of these tests make its folder where the test can look."""
    where = Path(tempfile.mkdtemp(prefix="ft", dir="/tmp"))  # sockets of Flux need short names
    monkeypatch.setenv("TMPDIR", str(where))
    monkeypatch.setattr("tempfile.tempdir", str(where))
    yield where
    shutil.rmtree(where)


def run(*args, **kwargs):
    command = [sys.executable, "-m", "flux_tree", "lab", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


def output(lab, host, *argv):
    process = lab.popen(host, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    text = process.communicate(timeout=30)[0]
    return process.returncode, text.strip()


def reaches(lab, host, address):
    """Return whether a host can connect to an address, where nobody listens."""
    code = "import socket, sys; socket.create_connection((sys.argv[1], 9), 1.5)"
    said = output(lab, host, sys.executable, "-c", code, address)[1]
    assert said.endswith(("refused", "out", "unreachable", "No route to host")), said
    return said.endswith("refused")


def carrier(lab, host):
    code = "import pyroute2; (nic,) = pyroute2.IPRoute().get_links(ifname='eth0');"
    code += "print(nic.get_attr('IFLA_CARRIER'))"
    return output(lab, host, sys.executable, "-c", code)[1]


def namespaces(pids=None):
    """Return the network namespaces of processes, or those of all processes of this machine."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        if pids is None or int(link.parts[2]) in pids:
            with suppress(OSError):
                found.add(os.readlink(link))
    return found


def test_hosts_are_apart_and_reach_each_other():
    with Lab(4, 100 * MBIT) as lab:
        assert [output(lab, h, "uname", "-n")[1] for h in range(4)] == lab.names
        assert len({output(lab, h, "readlink", "/proc/self/ns/net")[1] for h in range(4)}) == 4
        assert reaches(lab, 3, lab.addresses[0])
        # no way out, to any other network
        assert not reaches(lab, 0, "192.0.2.1")
        with pytest.raises(UsageError, match="host 4"):
            lab.popen(4, ["true"])


@pytest.mark.parametrize("mbit", [20, 200])
def test_goodput_is_that_of_the_nic(mbit):
    with Lab(2, mbit * MBIT) as lab:
        # Ethernet, IP and TCP take 5 % of it; the rest is what a busy machine is allowed
        assert 0.7 < lab.goodput() / (mbit * MBIT) < 1.05
        assert lab.goodput() == lab.goodput()


def test_slow_nics_and_uplinks_are_narrow(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20))
    with Lab(4, 400 * MBIT, racks=2, uplink=8 * MBIT, slow={1: 4 * MBIT}) as lab:
        assert lab.racks == [0, 0, 1, 1]
        result = lab.broadcast(source, tmp_path / "{rank}", "flat")
        rates = result.rates / MBIT
        assert rates[1] < 4 * 1.2  # less than the bursts that a cable lets through
        # rank 2 and 3 share the uplink of their rack, which takes no less than the data twice
        assert max(rates[2:4]) < 8 * 1.2
        assert result.records["verified"][[2, 3]].max() > 2 * 0.8 * (1 << 20) / (8 * MBIT)


def test_broadcast_reaches_every_host(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    with Lab(5, 100 * MBIT) as lab:
        result = lab.broadcast(source, tmp_path / "{rank}", "two-tree")
        for rank in range(5):
            assert (tmp_path / str(rank)).read_bytes() == source.read_bytes()
        assert (result.engine, result.hosts) == ("lab", tuple(lab.names))
        assert result.bandwidth == lab.goodput()
        assert result.summary()["limit_ratio"] > 1
        assert "lab, 5 hosts" in str(result)
        with pytest.raises(DestinationError):
            lab.broadcast(source, tmp_path / "{rank}")
        part = lab.broadcast(source, tmp_path / "m{rank}", "leaves", topology="kary:2")
        assert sorted(part.receivers["rank"].tolist()) == [3, 4]
        with pytest.raises(UsageError, match="topology: of 3 ranks"):
            lab.broadcast(
                source, tmp_path / "x{rank}", topology=flux_tree.Topology.from_spec("kary:2", 3)
            )


def test_a_cable_is_taken_out_and_plugged_in_again():
    with Lab(3, 100 * MBIT) as lab:
        for _ in range(2):
            lab.set_link(1, False)
        assert not reaches(lab, 0, lab.addresses[1])
        assert not reaches(lab, 1, lab.addresses[0])
        assert reaches(lab, 1, lab.addresses[1])
        assert (carrier(lab, 1), carrier(lab, 2)) == ("0", "1")
        assert reaches(lab, 0, lab.addresses[2])
        for _ in range(2):
            lab.set_link(1, True)
        assert reaches(lab, 0, lab.addresses[1])
        assert lab.goodput() > 0.7 * 100 * MBIT  # it is as narrow as it was, and no narrower
        for host in (3, -1):
            with pytest.raises(UsageError, match=f"host {host}: there is none, give one of 0-2"):
                lab.set_link(host, False)


def test_two_labs_do_not_meet():
    with Lab(2, 100 * MBIT) as one, Lab(3, 100 * MBIT) as two:
        assert one.addresses == two.addresses[:2]
        assert not reaches(one, 0, two.addresses[2])
        assert reaches(two, 0, two.addresses[2])


def test_nothing_is_left(own_tmp):
    with Lab(3, 100 * MBIT) as lab:
        process = lab.popen(1, ["sleep", "1000"])
        # one that nobody waits for
        lab.popen(2, ["sh", "-c", "setsid sleep 1000 & exit"]).wait()
        hosts = {output(lab, h, "readlink", "/proc/self/ns/net")[1] for h in range(3)}
        assert len(hosts & namespaces()) == 2
        usage = lab.usage()
    assert process.poll() == -signal.SIGKILL
    assert not hosts & namespaces()
    assert list(own_tmp.iterdir()) == []
    assert 0 <= usage["machine_busy"] <= 1 and usage["elapsed_s"] > 0
    lab.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lab_dies_with_its_owner(how, own_tmp, tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(8 << 20))
    command = [sys.executable, "-m", "flux_tree", "lab", "--hosts", "4", "--rate", "4mbit", "bcast"]
    command += [str(tmp_path / "source"), str(tmp_path / "to-{rank}")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not leftovers(tmp_path):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    mine = children(process.pid)
    mine += [c for pid in mine for c in children(pid)]
    hosts = namespaces(mine) - namespaces([os.getpid()])
    assert len(hosts) == 4
    process.send_signal(how)
    assert process.wait(30) in (130, -signal.SIGTERM, -signal.SIGKILL)
    assert "Traceback" not in process.stderr.read()
    assert wait_gone(mine) == []
    while (namespaces() & hosts or list(own_tmp.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not namespaces() & hosts
    assert list(own_tmp.iterdir()) == []
    assert leftovers(tmp_path) == [] and list(tmp_path.glob("to-*")) == []


def test_clean_removes_what_is_left_and_only_that(own_tmp):
    code = "import flux_tree.lab as l, sys, time; x = l.Lab(2, 1e6); print(x.folder, flush=True);"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code} time.sleep(100)"], stdout=subprocess.PIPE, text=True
    )
    folder = Path(process.stdout.readline().strip())
    assert folder.parent == own_tmp
    keeper = children(process.pid)
    for pid in [*keeper, process.pid]:  # the keeper first: it would clean up
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert wait_gone(keeper) == []
    (own_tmp / "flux-tree-lab-young").mkdir()
    with Lab(2, MBIT) as lab:
        assert folder.is_dir()
        done = run("clean")
        assert (done.returncode, done.stdout) == (0, f"removed {folder}\n"), done.stderr
        assert lab.folder.is_dir() and (own_tmp / "flux-tree-lab-young").is_dir()
    assert clean() == []


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"hosts": 1}, "1 hosts, give 2"),
        ({"hosts": 2000}, "2000 hosts"),
        ({"hosts": 2, "rate": 1.0}, "rate of 1 bytes/s"),
        ({"hosts": 4, "racks": 5}, "5 racks for 4 hosts"),
        ({"hosts": 4, "uplink": MBIT}, "only one rack"),
        ({"hosts": 4, "slow": {4: MBIT}}, "slow host 4"),
    ],
)
def test_labs_that_make_no_sense(kwargs, match):
    with pytest.raises(UsageError, match=match):
        Lab(**{"rate": MBIT, **kwargs})


def test_without_root(tmp_path):
    code = f"import os; os.setuid(65534); import sys; sys.path.insert(0, {os.getcwd()!r});"
    code += "from flux_tree.cli import main; sys.exit(main(sys.argv[1:]))"
    # everything is imported before the change of user, whose way to the sources may be closed
    code = "import flux_tree.lab._lab, flux_tree.cli.lab, flux_tree.cli._result;" + code
    command = [
        sys.executable,
        "-c",
        code,
        "lab",
        "bcast",
        "/etc/hostname",
        str(tmp_path / "{rank}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == LabError.exit_code
    assert done.stderr.startswith("flux-tree: error: lab: ") and "sudo" in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_line(tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(300_000))
    done = run("--hosts", 3, "bcast", tmp_path / "source", tmp_path / "{rank}", "--json")
    summary = json.loads(done.stdout)["summary"]
    assert (summary["engine"], summary["ranks"]) == ("lab", 3)
    done = run("--hosts", 3, "bcast", tmp_path / "source", tmp_path / "p{rank}")
    assert "engine: lab, 3 hosts" in done.stdout and "of its memory" in done.stdout
    for args, text in [
        (("--slow", "x", "bcast", "a", "b"), "a: no such file"),
        (("--slow", "x", "bcast", tmp_path / "source", "b"), "--slow x: give a host"),
        (("--hosts", 3, "bcast", tmp_path / "source", tmp_path / "same"), "{rank}"),
        (("--rate", "fast", "bcast", "a", "b"), "rate 'fast'"),
        (("--topo", "kary:x", "flux", "true"), "kary:x"),
    ]:
        done = run(*args)
        assert done.returncode != 0 and text in done.stderr and done.stderr.count("\n") == 1


# ---- Flux in a lab

TOPOLOGY = (
    "flux python -c 'import flux, json;"
    'print(json.dumps(flux.Flux().rpc("overlay.topology", {"rank": 0}).get()))\''
)


@pytest.mark.flux
@pytest.mark.parametrize(
    "topo",
    [pytest.param("kary:1", marks=pytest.mark.slow), "kary:2", "binomial"],
)
def test_brokers_stand_in_the_tree_that_was_asked_for(topo):
    done = run("--hosts", 4, "--topo", topo, "flux", "--", "sh", "-c", f"{TOPOLOGY}; exit 3")
    assert done.returncode == 3, done.stderr
    built = flux_tree.Topology.from_overlay(json.loads(done.stdout))
    assert built == flux_tree.Topology.from_spec(topo, 4)


@pytest.mark.flux
def test_a_tree_of_ones_own_and_jobs_in_it(own_tmp, tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(200_000))
    wanted = flux_tree.Topology.from_parents([-1, 0, 1, 1, 0])
    script = "flux run -N5 -o tree-bcast.file=$1/source "
    script += "-o tree-bcast.destination=$1/{rank} hostname | sort"
    with Lab(5, 100 * MBIT) as lab:
        process = lab.flux(
            ["sh", "-c", f"{TOPOLOGY}; {script}", "sh", str(tmp_path)],
            topo=wanted,
            stdout=subprocess.PIPE,
            text=True,
        )
        text = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        # its folder has gone before the lab has
        assert list(lab.folder.glob("instance*")) == []
    built, *names = text.splitlines()
    assert names == lab.names
    assert flux_tree.Topology.from_overlay(json.loads(built)) == wanted
    for rank in range(5):
        assert (tmp_path / str(rank)).read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.flux
def test_a_broker_that_dies_ends_the_instance(own_tmp):
    with Lab(3, 100 * MBIT) as lab:
        process = lab.flux(["sleep", "100"], stderr=subprocess.PIPE, text=True)
        marks = "/proc/[0-9]*/cmdline"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            _, text = output(lab, 2, "sh", "-c", f"grep -l instance0/2 {marks}; hostname")
            pids = [line.split("/")[2] for line in text.splitlines() if line.startswith("/proc")]
            names = [output(lab, 0, "cat", f"/proc/{pid}/comm")[1] for pid in pids]
            brokers = [p for p, n in zip(pids, names) if n.startswith("flux-broker")]
            if brokers:
                break
        assert output(lab, 0, "kill", "-9", brokers[0])[0] == 0
        assert process.wait(60) != 0
        assert "the broker of lab2 ended" in process.stderr.read()


@pytest.mark.flux
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_brokers_die_with_the_owner_of_the_lab(how, own_tmp, tmp_path):
    command = [sys.executable, "-m", "flux_tree", "lab", "--hosts", "3", "flux", "--"]
    command += ["sh", "-c", f"touch {tmp_path}/up; sleep 1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "up").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    mine = children(process.pid)
    for _ in range(4):
        mine += [c for pid in list(mine) for c in children(pid) if c not in mine]
    assert len(mine) > 4
    process.send_signal(how)
    process.wait(30)
    assert wait_gone(mine) == []
    while list(own_tmp.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(own_tmp.iterdir()) == []
