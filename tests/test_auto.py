"""The strategy that chooses, and the racks that it may be told of."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import flux_tree
from flux_tree import Plan, PlanError, UsageError, _local, strategies
from flux_tree._model.network import Native
from flux_tree._racks import rack_numbers
from flux_tree.cli import _app
from flux_tree.model import CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, Network, predict
from flux_tree.strategies import Auto, Choice, Rack, known_network

GBIT = 125e6
CANDIDATES = ["flat", "chain", "kary:2", "binomial", "two-tree", "edst"]
CANDIDATES += ["multi-tree:4", "multi-tree:8"]


@pytest.fixture(autouse=True)
def nothing_is_known(tmp_path, monkeypatch):
    """No numbers of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FLUX_TREE_NETWORK", raising=False)
    monkeypatch.delenv("FLUX_TREE_BANDWIDTH", raising=False)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(os.urandom(300_000))
    return path


def choose(n, size, network=None, **more) -> Choice:
    return Auto(network or Network(GBIT), size, **more).plan(n)


def chunk_sizes():
    size = CHUNK_SIZE_MIN
    while size <= CHUNK_SIZE_MAX:
        yield size
        size *= 2


def closed_form(plan, size, network, chunk) -> float:
    return predict(plan, size, network, method="closed-form", chunk_size=chunk).time


# ---- what is chosen


def test_two_ranks_need_no_tree():
    plan = choose(2, 1 << 30)
    assert plan.parents.tolist() == [[-1, 0]]
    assert plan.strategy == "flat"


def test_little_data_to_many_wants_few_hops():
    plan = choose(1000, 1000)
    assert plan.stripes == 1
    assert plan.depth <= 10


def test_much_data_wants_a_load_of_one():
    for n in (8, 64, 1000):
        assert choose(n, 10 << 30).max_load == 1


def test_much_data_to_a_few_goes_down_a_chain():
    plan = choose(8, 10 << 30)
    assert plan == strategies.plan("chain", 8)
    assert plan.limit == (10 << 30) / GBIT
    percent = 100 * plan.limit / plan.seconds
    assert f"predicted at 1 Gbit/s, {percent:.3g}% of the limit; " in plan.why
    assert "two-tree" in plan.why


def test_narrow_uplinks_want_racks():
    racks = [rank % 4 for rank in range(32)]
    network = Network(GBIT, uplink=GBIT / 10, groups=tuple(racks))
    plan = choose(32, 1 << 30, network)
    assert plan.strategy == "rack"
    assert np.array_equal(plan.parents, Rack(groups=racks).plan(32).parents)
    named = choose(32, 1 << 30, dataclasses.replace(network, groups=None), groups=list("abcd") * 8)
    assert named == plan
    assert choose(32, 1 << 30, network, groups=[0] * 32).strategy != "rack"
    # an uplink that is as wide as all NICs behind it is no reason for it
    assert choose(32, 1 << 30, dataclasses.replace(network, uplink=8 * GBIT)).strategy != "rack"


def test_where_all_share_a_processor_trees_gain_nothing():
    network = Network(100 * GBIT, processors=1)
    plan = choose(8, 1 << 30, network)
    assert plan.stripes == 1
    best = min(
        closed_form(strategies.plan("two-tree", 8), 1 << 30, network, c) for c in chunk_sizes()
    )
    assert plan.seconds <= 1.02 * best


@pytest.mark.parametrize("n", [3, 17, 64, 300])
@pytest.mark.parametrize("size", [1, 1 << 20, 1 << 30])
@pytest.mark.parametrize(
    "network",
    [
        Network(GBIT),
        Network(100 * GBIT, latency=2e-6, per_connection=1e-4),
        Network(GBIT, latency=5e-3),
        Network(10 * GBIT, processors=4),
        Network(GBIT, rates={2: GBIT / 5}),
        Network(GBIT, encryption=1e8, disk=5e7),
    ],
)
def test_nothing_else_would_be_faster(n, size, network):
    plan = choose(n, size, network)
    assert plan.seconds == pytest.approx(closed_form(plan, size, network, plan.chunk_size))
    for spec in CANDIDATES:
        if spec != "flat" or n <= 64:
            other = strategies.plan(spec, n)
            best = min(closed_form(other, size, network, chunk) for chunk in chunk_sizes())
            # a tie, and what a step of chunk sizes has to gain
            assert plan.seconds <= best * 1.02 / 0.99**4, spec


def test_a_tie_goes_to_fewer_trees():
    plan = choose(16, 1 << 30)
    two = strategies.plan("two-tree", 16)
    network = Network(GBIT)
    best = min(closed_form(two, 1 << 30, network, chunk) for chunk in chunk_sizes())
    assert plan.seconds < 1.02 * best
    assert plan.stripes == 1


def test_members_and_chunk_size_are_kept_to():
    plan = Auto(Network(GBIT), 1 << 28, chunk_size=12345).plan(9, [0, 2, 5])
    assert plan.chunk_size == 12345
    assert np.flatnonzero(plan.deliver).tolist() == [0, 2, 5]
    assert np.flatnonzero(plan.present).tolist() == [0, 2, 5]
    assert choose(1, 0).size == 1


def test_many_ranks():
    plan = choose(100_000, 1 << 30, Network(10 * GBIT))
    assert plan.size == 100_000
    assert plan.max_load == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: strategies.get("auto:3"), "write 'auto'"),
        (lambda: Auto(bytes=-1), "give 0 or more"),
        (lambda: Auto(chunk_size=0), "give 1 or more"),
        (lambda: Auto(groups=[0, 1]).plan(3), "2 groups for 3 ranks, give one each"),
        (lambda: Auto(Network(1e8, groups=(0, 1))).plan(3), "groups of 2 ranks"),
        (lambda: Auto().plan(0), "give 1 or more ranks"),
    ],
)
def test_what_makes_no_sense(make, text):
    with pytest.raises((PlanError, UsageError), match=text):
        make()


# ---- what is known of the network


def test_what_is_known_where_nothing_is(monkeypatch):
    assert known_network(4) == Network(GBIT)
    assert known_network(4, measure=lambda: 7e9) == Network(7e9, origin=strategies.LOOPBACK)
    monkeypatch.setenv("FLUX_TREE_BANDWIDTH", "10Gbit/s")
    assert known_network(4, measure=lambda: 7e9) == Network(10 * GBIT)
    assert known_network(4, 5e6) == Network(5e6)
    monkeypatch.setenv("FLUX_TREE_BANDWIDTH", "much")
    with pytest.raises(UsageError, match=r"FLUX_TREE_BANDWIDTH: .*'much'"):
        known_network(4)


def test_what_was_measured_is_known(monkeypatch):
    network = Network(3e9, latency=1e-3, rates={1: 1e9, 5: 2e9}, groups=(0, 0, 1, 1), uplink=1e9)
    network.save()
    assert known_network(4) == dataclasses.replace(network, rates={1: 1e9})
    assert known_network(6) == dataclasses.replace(network, groups=None)
    assert known_network(4, 5e6).bandwidth == 5e6
    monkeypatch.setenv("FLUX_TREE_BANDWIDTH", "1GB/s")
    assert known_network(4).bandwidth == 1e9
    assert known_network(4).latency == 1e-3


# ---- racks


def test_racks_by_pattern_and_by_file(tmp_path, monkeypatch):
    hosts = ["r1n0", "r0n0", "r1n1"]
    assert rack_numbers("^r([0-9]+)", 3, hosts) == [0, 1, 0]
    assert rack_numbers("n[0-9]", 3, hosts) == [0, 0, 1]
    path = tmp_path / "racks"
    path.write_text("# two of them\nr1n[0-1]  left\nr0n0\tright # comment\n")
    assert rack_numbers(str(path), 3, hosts) == [0, 1, 0]
    monkeypatch.chdir(tmp_path)
    assert rack_numbers("racks", 3, hosts) == [0, 1, 0]
    assert rack_numbers(["b", "a", "b"], 3) == [1, 0, 1]
    assert rack_numbers(np.array([4, 4, 9]), 3) == [0, 0, 1]


@pytest.mark.parametrize(
    ("racks", "text"),
    [
        ("r0n([0-9])", "finds no rack in the name of host r1n0"),
        ("r(", r"racks 'r\('"),
        ("", "give a pattern"),
        ("/no/such", "/no/such: cannot be read"),
        ([0, 1], "2 for 3 ranks, give one each"),
        ([[0], [1], [2]], "give one each"),
        ([0, None, 1], "no number or name"),
        (5, "no number or name"),
    ],
)
def test_racks_that_are_none(racks, text):
    with pytest.raises(UsageError, match=text) as caught:
        rack_numbers(racks, 3, ["r1n0", "r0n0", "r1n1"])
    assert "\n" not in str(caught.value)


def test_a_host_that_no_file_lists_is_named(tmp_path):
    path = tmp_path / "racks"
    path.write_text("a[0-2] r\n")
    with pytest.raises(UsageError, match="host a3 is not listed"):
        rack_numbers(str(path), 2, ["a2", "a3"])
    path.write_text("a[0-3\n")
    with pytest.raises(UsageError, match="line 1: give a host"):
        rack_numbers(str(path), 2, ["a2", "a3"])


# ---- broadcasts


def test_a_broadcast_says_what_was_chosen_and_why(source, tmp_path):
    result = flux_tree.broadcast(source, tmp_path / "{rank}", "auto", ranks=3, bandwidth=GBIT)
    assert (tmp_path / "2").read_bytes() == source.read_bytes()
    network = Network(GBIT, processors=os.cpu_count())
    plan = choose(3, 300_000, network)
    assert result.plan == plan
    assert result.plan.strategy in CANDIDATES
    assert result.chunk_size == plan.chunk_size
    assert result.why == result.summary()["why"] == plan.why
    rows = [line.split() for line in str(result).splitlines()]
    assert ["chosen", "by", "auto", *result.why.split()] in rows


def test_others_say_nothing(source, tmp_path):
    result = flux_tree.broadcast(source, tmp_path / "{rank}", "chain", ranks=2, bandwidth=1e9)
    assert result.why is None
    assert result.summary()["why"] is None
    assert "chosen" not in str(result)


def test_what_the_caller_gives_is_reckoned_with(source, tmp_path):
    uplinks = Network(GBIT, uplink=GBIT / 100)
    kwargs = {"ranks": 6, "racks": ["a", "b"] * 3}
    result = flux_tree.broadcast(
        source, tmp_path / "a{rank}", Auto(uplinks), chunk_size=8192, **kwargs
    )
    assert result.plan.strategy == "rack"
    assert result.chunk_size == 8192
    assert result.why == choose(6, 300_000, uplinks, groups=[0, 1] * 3, chunk_size=8192).why
    slow = dataclasses.replace(uplinks, encryption=1e5)
    result = flux_tree.broadcast(
        source, tmp_path / "b{rank}", Auto(slow), security="none", **kwargs
    )
    plain = dataclasses.replace(uplinks, encryption=None)
    assert result.why == choose(6, 300_000, plain, groups=[0, 1] * 3).why
    result = flux_tree.broadcast(source, tmp_path / "c{rank}", "rack", **kwargs)
    assert np.array_equal(result.plan.parents, Rack(groups=[0, 1] * 3).plan(6).parents)


def test_what_was_measured_for_the_choice_is_not_measured_again(source, tmp_path, monkeypatch):
    counted = []

    def measure():
        counted.append(1)
        return 5e9

    monkeypatch.setattr(_local, "loopback_bandwidth", measure)
    result = flux_tree.broadcast(source, tmp_path / "{rank}", "auto", ranks=2)
    assert len(counted) == 1
    assert result.bandwidth == 5e9
    assert "at 40 Gbit/s" in result.why


@pytest.mark.parametrize(
    ("strategy", "racks", "text"),
    [
        ("chain", [0, 1, 0], "'auto' and 'rack' take them"),
        (None, [0, 1, 0], "'auto' and 'rack' take them"),
        (Plan([-1, 0, 1]), [0, 1, 0], "'auto' and 'rack' take them"),
        ("rack:2", [0, 1, 0], "'rack:2' has groups of its own"),
        (Auto(groups=[0, 1, 1]), [0, 1, 0], "'auto' has groups of its own"),
        ("auto", [0, 1], "2 for 3 ranks"),
        ("auto", "r[0-9]", "known in Flux and in a lab only"),
    ],
)
def test_racks_that_are_of_no_use(source, tmp_path, strategy, racks, text):
    with pytest.raises(UsageError, match=text):
        flux_tree.broadcast(
            source,
            tmp_path / "{rank}",
            strategy,
            ranks=None if isinstance(strategy, Plan) else 3,
            racks=racks,
        )
    assert list(tmp_path.glob("[0-9]")) == []


@pytest.mark.lab
def test_a_lab_knows_its_racks_and_rates(source, tmp_path):
    from flux_tree.lab import Lab

    with Lab(4, 50e6, racks=2, uplink=5e6, slow={1: 25e6}) as lab:
        network = lab.network()
        part = network.bandwidth / 50e6
        assert part == pytest.approx(lab.goodput() / 50e6)
        assert network.groups == (0, 0, 1, 1)
        assert network.uplink == pytest.approx(5e6 * part)
        assert network.rates == {1: pytest.approx(25e6 * part)}
        assert network.processors == os.cpu_count()
        result = lab.broadcast(source, tmp_path / "a{rank}", "auto")
        assert (tmp_path / "a3").read_bytes() == source.read_bytes()
        assert result.why == choose(4, 300_000, network).why
        result = lab.broadcast(source, tmp_path / "b{rank}", "rack")
        assert np.array_equal(result.plan.parents, Rack(groups=lab.racks).plan(4).parents)
        # who gives racks knows better
        result = lab.broadcast(source, tmp_path / "c{rank}", "rack", racks="^lab[0-9]")
        assert np.array_equal(result.plan.parents, Rack(groups=[0, 1, 2, 3]).plan(4).parents)
        result = lab.broadcast(source, tmp_path / "d{rank}", "rack:1")
        assert result.plan == strategies.plan("rack:1", 4)


# ---- the command line


def invoke(*args):
    return CliRunner().invoke(_app.cli, [*map(str, args)], catch_exceptions=False).stdout


def test_bcast_on_the_command_line(source, tmp_path):
    args = ("--strategy", "auto", "--bandwidth", "1Gbit/s", "--local", "--ranks", 3)
    out = invoke("bcast", source, f"{tmp_path}/{{rank}}", *args)
    plan = choose(3, 300_000, Network(GBIT, processors=os.cpu_count()))
    assert out.startswith(f"{plan.strategy}: 293 KiB in 1 file to 3 ranks\n")
    assert any(line.split() == ["chosen", "by", "auto", *plan.why.split()] for line in lines(out))
    data = json.loads(
        invoke("bcast", source, f"{tmp_path}/{{rank}}", *args, "--overwrite", "--json")
    )
    assert data["summary"]["why"] == plan.why
    assert data["summary"]["chunk_size"] == plan.chunk_size


def lines(text):
    return text.splitlines()


def test_racks_on_the_command_line_need_flux(source, tmp_path):
    command = [sys.executable, "-m", "flux_tree", "bcast", source, f"{tmp_path}/{{rank}}"]
    command += ["--local", "--strategy", "auto", "--racks", "r"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--racks: only inside Flux" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_plan_on_the_command_line():
    Network(3e9, latency=1e-4).save()
    out = invoke("plan", "auto", "--size", 600, "--bytes", "20GiB", "--no-tree")
    plan = choose(600, 20 << 30, Network(3e9, latency=1e-4))
    rows = [line.split() for line in lines(out)]
    assert ["strategy", plan.strategy] in rows
    assert ["chosen", "by", "auto", *plan.why.split()] in rows
    assert "at 24 Gbit/s" in out
    args = ("--bandwidth", "1Gbit/s", "--latency", "1ms", "--chunk-size", "64KiB", "--json")
    data = json.loads(invoke("plan", "auto", "--size", 40, *args))
    chosen = choose(40, 1 << 30, Network(GBIT, latency=1e-3), chunk_size=65536)
    assert data["strategy"] == chosen.strategy
    assert data["why"] == chosen.why
    assert data["cost"]["chunk_size"] == 65536


# ---- the plugin reads what Python writes


def test_the_plugin_reads_a_network_as_python_does():
    plugin = pytest.importorskip("flux_tree._plugin", reason="the plugin is not built")

    def read(data, n=4, bandwidth=0.0):
        struct, fault = plugin.ffi.new("struct network *"), plugin.ffi.new("struct fault *")
        rc = plugin.lib.network_parse(struct, json.dumps(data).encode(), n, bandwidth, fault)
        return struct if rc == 0 else plugin.ffi.string(fault.text).decode()

    def values(struct, ffi, n=4):
        found = {name: getattr(struct, name) for name, _ in ffi.typeof("struct network").fields}
        for name in ("rates", "groups"):
            found[name] = list(found[name][0:n]) if found[name] else None
        return found

    def same(network):
        from flux_tree._native import ffi

        native = Native(network, 4)
        assert values(read(network.to_dict()), plugin.ffi) == values(native.struct, ffi)

    names = [f.name for f in dataclasses.fields(Network)]
    numbers = {n: i + 1.5 for i, n in enumerate(names) if n not in ("groups", "rates", "origin")}
    numbers["processors"] = 3
    same(Network(**numbers))
    same(Network(**numbers, rates={1: 5.0, 3: 7.0}, groups=(0, 1, 0, 2), origin="lab"))
    same(Network(5e8, encryption=None, broker=None))
    # what a file leaves out is typical
    only = {"version": 1, "bandwidth": 5e8}
    assert values(read(only), plugin.ffi) == values(read(Network(5e8).to_dict()), plugin.ffi)
    network = Network(5e8, rates={1: 5.0, 7: 9.0}, groups=(0, 1, 2))
    found = values(read(network.to_dict(), bandwidth=1e6), plugin.ffi)
    assert found["bandwidth"] == 1e6
    assert found["rates"] == [1e6, 5.0, 1e6, 1e6]
    assert found["groups"] is None
    for bad, text in (
        ({"version": 2, "bandwidth": 1.0}, "no numbers of a network"),
        ([], "no numbers of a network"),
        ({"version": 1}, "bandwidth: is missing"),
        ({"version": 1, "bandwidth": None}, "bandwidth: give a number above 0"),
        ({"version": 1, "bandwidth": 0}, "bandwidth: give a number above 0"),
        ({"version": 1, "bandwidth": True}, "bandwidth: give a number above 0"),
        ({**only, "latency": -1}, "latency: give a number, not below 0"),
        ({**only, "disk": 0}, "disk: give a number above 0"),
        ({**only, "speed": 1}, "speed: is no number of a network"),
        ({**only, "rates": []}, "rates: give an object"),
        ({**only, "rates": {"x": 1}}, "rates: give ranks"),
        ({**only, "rates": {"1": 0}}, "rates: give ranks"),
        ({**only, "groups": 3}, "groups: give a list"),
        ({**only, "groups": [0, 1, None, 1]}, "give a number or a name"),
    ):
        assert text in read(bad), bad


def test_numbers_of_one_machine_do_not_hold_between_nodes(tmp_path, monkeypatch):
    """A loopback calibration, whose processors all ranks share, must not make "auto" flat."""
    path = tmp_path / "network.json"
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(path))
    monkeypatch.delenv("FLUX_TREE_BANDWIDTH", raising=False)
    measured = Network(3e9, per_chunk=16e-6, encryption=6.7e8, processors=2, burst=8e4)
    dataclasses.replace(measured, origin="loopback, 2026-01-01").save()
    assert strategies.known_network(8) == Network(GBIT)
    assert strategies.known_network(8, here=True).processors == 2
    assert strategies.plan("auto", 32).strategy != "flat"
    dataclasses.replace(measured, origin="lab of 4 hosts").save()
    found = strategies.known_network(8)
    assert (found.processors, found.burst, found.bandwidth) == (None, 0.0, 3e9)
    dataclasses.replace(measured, origin="flux, 4 nodes").save()
    assert strategies.known_network(8).processors == 2


@pytest.mark.parametrize(
    "given, said",
    [
        ({"processors": 0.5}, "processors 0.5"),
        ({"processors": 1 << 40}, "processors"),
        ({"origin": 3}, "origin 3"),
        ({"rates": {"1": 1e8}}, "rate"),
    ],
)
def test_numbers_that_make_no_sense(given, said):
    with pytest.raises(UsageError, match=said):
        Network(1e9, **given)


def test_numbers_as_a_file_may_have_them(tmp_path):
    path = tmp_path / "network.json"
    Network(np.float32(1e9), processors=4.0).save(path)
    assert Network.load(path) == Network(1e9, processors=4)
    path.write_text('{"version": 1, "bandwidth": 1e9, "latncy": 1}')
    with pytest.raises(UsageError, match="latncy: is no number of a network"):
        Network.load(path)
