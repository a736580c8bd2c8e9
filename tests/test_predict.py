"""``flux-tree predict``: its table, its JSON, its picture, and how it goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from flux_tree import UsageError, strategies
from flux_tree.cli import _app
from flux_tree.model import (
    STRATEGIES,
    TOPOLOGIES,
    Network,
    best_chunk_size,
    compare,
    compare_topologies,
    lower_bound,
    predict,
)

GIB = 1 << 30
ASKED = ("--nodes", "64", "--size", "1GiB", "--bandwidth", "10Gbit/s")


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path, monkeypatch):
    """Leave out what was measured on this machine, and give a place for what a test stores."""
    for name in ("FLUX_TREE_NETWORK", "FLUX_TREE_BANDWIDTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def invoke(*args):
    return CliRunner().invoke(_app.cli, ["predict", *map(str, args)], catch_exceptions=False).stdout


def as_json(*args):
    return json.loads(invoke(*args, "--json"))


def run(*args, **more):
    command = [sys.executable, "-m", "flux_tree", "predict", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    return done.returncode, done.stdout, done.stderr


# ---- what is found


def test_all_strategies_best_first():
    data = as_json(*ASKED)
    network = Network(1.25e9)
    found = compare(64, GIB, network, method=None)
    assert [p["strategy"] for p in data["predictions"]] == [p.plan.strategy for p in found]
    assert {p["strategy"] for p in data["predictions"]} == set(STRATEGIES)
    for entry, p in zip(data["predictions"], found):
        assert entry["time_s"] == p.time and entry["chunk_size"] == p.chunk_size
        assert entry["limit_ratio"] == pytest.approx(p.time / (GIB / 1.25e9))
        assert entry["limit_percent"] == pytest.approx(100 / entry["limit_ratio"])
        shape = entry["stripes"], entry["depth"], entry["max_load"]
        assert shape == (p.plan.stripes, p.plan.depth, p.plan.max_load)
    assert (data["nodes"], data["bytes"], data["method"]) == (64, GIB, "simulation")
    assert data["limit_s"] == GIB / 1.25e9
    bounds = [lower_bound(64, GIB, network, p.chunk_size) for p in found]
    assert data["lower_bound_s"] == min(bounds)
    assert data["limit_s"] < data["lower_bound_s"] <= data["predictions"][0]["time_s"]
    archives = compare_topologies(64, GIB, network, method="simulation")
    assert [(a["topology"], a["time_s"]) for a in data["archive"]] == [
        (p.plan.strategy, p.time) for p in archives
    ]
    assert {a["topology"] for a in data["archive"]} == set(TOPOLOGIES)
    assert data["network"] == network.to_dict() and data["network_source"] == "typical"


def test_the_table_says_the_same():
    data = as_json(*ASKED)
    first, table, figures = invoke(*ASKED).split("\n\n")
    assert first == "1 GiB to 64 ranks"
    lines = [re.split(r"  +", line.strip()) for line in table.splitlines()]
    assert lines[0] == [
        *("STRATEGY", "TIME", "/ LIMIT", "% OF LIMIT", "TREES", "DEPTH", "LOAD", "CHUNK")
    ]
    assert [row[0] for row in lines[1:]] == [p["strategy"] for p in data["predictions"]]
    two_tree = next(row for row in lines if row[0] == "two-tree")
    assert two_tree[4:] == ["2", "6", "1.00", "1 MiB"]
    best, archive = data["predictions"][0], data["archive"][0]
    ratio = archive["time_s"] / best["time_s"]
    assert re.search(r"^limit +859 ms +1 GiB at 10 Gbit/s: ", figures, re.M)
    assert re.search(r"^lower bound +\d+ ms +in chunks of ", figures, re.M)
    text = f"on {archive['topology']}, the best topology for it: {ratio:.3g} times two-tree"
    assert re.search(rf"^flux archive +\S+ m?s +{text}$", figures, re.M)
    assert re.search(r"^ +\S+ m?s +on kary:32, Flux's default: \S+ times two-tree$", figures, re.M)
    assert re.search(r"^network +10 Gbit/s, 50 us +as given, the rest typical", figures, re.M)
    assert re.search(r"^method +simulation ", figures, re.M)


def test_large_ones_are_in_closed_form():
    args = ("--nodes", 20_000, "--size", "20GiB", "--bandwidth", "25Gbit/s")
    data = as_json(*args)
    assert data["method"] == "closed-form"
    assert data["predictions"][0]["strategy"] in ("two-tree", "multi-tree", "edst")
    assert data["lower_bound_s"] <= data["predictions"][0]["time_s"]
    assert "20000 ranks" in invoke("chain", *args)


@pytest.mark.parametrize("method", ["simulation", "closed-form"])
def test_the_method_that_is_asked_for(method):
    data = as_json(*ASKED, "--method", method)
    found = compare(64, GIB, Network(1.25e9), method=method)
    assert data["method"] == method
    assert [p["time_s"] for p in data["predictions"]] == [p.time for p in found]


def test_one_strategy_has_its_ranks():
    args = ("two-tree", "-N", 8, "--size", "64MiB", "--bandwidth", "1Gbit/s")
    plan = strategies.plan("two-tree", 8)
    result = predict(plan, 64 << 20, Network(1.25e8))
    header, table, figures = invoke(*args).split("\n\n")
    assert header.splitlines() == [
        "two-tree: 64 MiB to 8 ranks",
        "engine: model, simulation, 8 ranks, direct, TLS 1.3",
    ]
    rows = [line.split() for line in table.splitlines()]
    times = ["CONN/s", "FIRST/s", "LAST/s", "CHECKED/s"]
    assert rows[0] == ["RANK", "PARENTS", *times, "MB/s", "IN/MiB", "OUT/MiB"]
    assert [row[0] for row in rows[1:]] == [str(rank) for rank in range(8)]
    assert rows[4][5] == f"{result.records['verified'][3]:.3f}"
    for name in ("slowest", "limit", "reached", "lower bound", "flux archive", "network", "method"):
        assert re.search(rf"^{name}  ", figures, re.M)
    assert "whole call" not in figures and "memory" not in figures
    data = as_json(*args)
    assert data["records"] == json.loads(json.dumps(result.rows()))
    table = invoke(*args, "--method", "closed-form").split("\n\n")[1]
    assert [line.split()[0] for line in table.splitlines()] == ["STRATEGY", "two-tree"]
    assert "records" not in as_json(*args, "--method", "closed-form")


def test_strategies_that_are_named(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from flux_tree.plan import Plan\n"
        "class Star:\n"
        "    def plan(self, topology, members=None):\n"
        "        return Plan([-1] + [0] * 63, strategy='star')\n"
    )
    data = as_json("leaves", "kary:4", f"{mine}:Star", "auto", *ASKED, "--topology", "kary:2")
    names = [p["strategy"] for p in data["predictions"]]
    chosen = strategies.Auto(Network(1.25e9), GIB).plan(64).strategy
    assert sorted(names) == sorted(["leaves", "kary:4", "star", chosen])
    assert names[-1] == "star"


def test_topology():
    data = as_json(*ASKED, "--topology", "kary:5")
    tbon = next(p for p in data["predictions"] if p["strategy"] == "tbon")
    assert tbon["max_load"] == 5
    assert {a["topology"] for a in data["archive"]} == {*TOPOLOGIES, "kary:5"}
    assert re.search(r"on kary:5, as given: \S+ times", invoke(*ASKED, "--topology", "kary:5"))
    best = data["archive"][0]["topology"]
    text = invoke(*ASKED, "--topology", best)
    assert f"on {best}, as given, and the best topology for it: " in text
    assert "Flux's default" not in text


# ---- the numbers of the network


def test_single_options_reach_the_network():
    more = ("--latency", "2ms", "--disk", "500MB/s", "--slow", "3=1Gbit/s", "--slow", "9=2GB/s")
    racks = ("--racks", 4, "--uplink", "5Gbit/s")
    data = as_json(*ASKED, *more, *racks, "--security", "none")
    groups = [rank // 16 for rank in range(64)]
    network = Network(
        1.25e9, latency=2e-3, disk=5e8, rates={3: 1.25e8, 9: 2e9}, groups=groups, uplink=6.25e8
    )
    assert data["network"] == network.to_dict() and data["security"] == "none"
    found = compare(64, GIB, network, method=None, security="none")
    assert [p["time_s"] for p in data["predictions"]] == [p.time for p in found]
    assert data["lower_bound_s"] > GIB / 1.25e8
    text = invoke(*ASKED, *more, *racks)
    assert re.search(r"^racks +4 +uplinks of 5 Gbit/s$", text, re.M)
    assert re.search(r"^slow +2 +rank 3 at 1 Gbit/s, 9 at 16 Gbit/s$", text, re.M)
    assert re.search(r"^disk +500 MB/s ", text, re.M)
    assert re.search(r"^encryption +2 GB/s ", text, re.M)
    assert "encryption" not in invoke(*ASKED, "--security", "none")


def test_racks_need_not_be_equal():
    data = as_json("rack", "-N", 10, "--size", "1MiB", "--bandwidth", "1Gbit/s", *RACKS)
    assert data["network"]["groups"] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


RACKS = ("--racks", 3, "--uplink", "1Gbit/s")


def test_chunk_sizes():
    for text, size in (("256KiB", 1 << 18), ("1MB", 10**6)):
        data = as_json("chain", "edst", *ASKED, "--chunk-size", text)
        assert {p["chunk_size"] for p in data["predictions"]} == {size}
    data = as_json(*ASKED, "--chunk-size", "best")
    for p in data["predictions"]:
        plan = strategies.plan(p["strategy"], 64)
        assert p["chunk_size"] == best_chunk_size(plan, GIB, Network(1.25e9))


def test_what_was_measured_is_taken_unless_options_say_otherwise(tmp_path, monkeypatch):
    stored = Network(5e8, latency=1e-4, per_chunk=5e-5, rates={2: 1e8, 99: 1e8}, origin="flux, now")
    path = stored.save()
    asked = ("--nodes", 16, "--size", "100MiB")
    data = as_json(*asked)
    assert data["network_source"] == str(path)
    assert data["network"] == {**stored.to_dict(), "rates": {"2": 1e8}}
    assert re.search(rf"^network +4 Gbit/s, 100 us +flux, now, {path}$", invoke(*asked), re.M)
    data = as_json(*asked, "--bandwidth", "8Gbit/s", "--latency", "5us")
    assert (data["network"]["bandwidth"], data["network"]["latency"]) == (1e9, 5e-6)
    assert data["network"]["per_chunk"] == 5e-5
    text = invoke(*asked, "--bandwidth", "8Gbit/s", "--latency", "5us")
    assert re.search(rf", {path}; but --latency, --bandwidth$", text, re.M)
    # a file that is named goes before; the environment names one too, or the bandwidth
    other = Network(2e9, origin="lab, then").save(tmp_path / "other.json")
    assert as_json(*asked, "--network", other)["network"]["bandwidth"] == 2e9
    monkeypatch.setenv("FLUX_TREE_BANDWIDTH", "3GB/s")
    assert as_json(*asked)["network"]["bandwidth"] == 3e9
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(other))
    monkeypatch.delenv("FLUX_TREE_BANDWIDTH")
    assert as_json(*asked)["network"]["origin"] == "lab, then"


def test_what_was_measured_on_one_machine_is_no_network():
    stored = Network(5e9, latency=1e-6, processors=2, origin="loopback, now")
    path = stored.save()
    asked = ("--nodes", 16, "--size", "100MiB")
    with pytest.raises(UsageError, match="measured on the loopback interface of one machine"):
        invoke(*asked)
    named = (*asked, "--network", path)
    assert as_json(*named)["network"] == stored.to_dict()
    assert re.search(r"^processors +2 +shared by all ranks$", invoke(*named), re.M)
    data = as_json(*asked, "--bandwidth", "8Gbit/s")
    assert data["network"] == Network(1e9).to_dict() and data["network_source"] == "typical"
    data = as_json(*asked, "--bandwidth", "8Gbit/s", "--network", path)
    assert data["network"] == {**stored.to_dict(), "bandwidth": 1e9}


# ---- the picture


def texts(path):
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def test_the_picture_has_a_line_for_each(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "times.svg"
    out = invoke(*ASKED, "--plot", picture)
    assert out.endswith(f"picture in {picture}\n")
    shown = texts(picture)
    for name in (*STRATEGIES, "flux archive, best TBON", "the limit"):
        assert shown.count(name) == 2  # in each panel
    assert "1 GiB to 64 ranks" in shown and "seconds" in shown
    assert {"1 GiB, by the number of ranks", "64 ranks, by the size", "ranks"} <= set(shown)
    assert {"2", "4", "8", "16", "32", "64", "16 MiB"} <= set(shown)


@pytest.mark.parametrize("n", [2, 3, 5, 100, 1025])
@pytest.mark.parametrize("size", ["1", "70kB", "20GiB"])
def test_pictures_of_any_size(tmp_path, n, size):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "times.svg"
    more = ("--slow", "1=1Gbit/s", "--racks", 2, "--uplink", "5Gbit/s", "--topology", "kary:2")
    invoke("-N", n, "--size", size, "--bandwidth", "10Gbit/s", "--plot", picture, *more)
    assert f"{n:,}" in texts(picture) and texts(picture).count("tbon") == 2


def test_json_stays_json_beside_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = run(
        *("chain", "-N", 4, "--size", "1MiB", "--bandwidth", "1Gbit/s"),
        *("--plot", tmp_path / "a.png", "--json"),
    )
    assert code == 0 and json.loads(out)["nodes"] == 4
    assert err == f"picture in {tmp_path}/a.png\n"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@given(st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=20), st.floats(0.001, 0.1))
def test_labels_do_not_overlap_and_keep_their_order(places, step):
    from flux_tree.plot_model import spread

    found = spread(places, step)
    order = sorted(range(len(places)), key=lambda i: places[i])
    gaps = [found[b] - found[a] for a, b in zip(order, order[1:])]
    assert all(gap >= step * (1 - 1e-9) for gap in gaps)
    if len(places) * step <= 1:
        assert all(-1e-9 <= p <= 1 + 1e-9 for p in found)
    alone = [0.1 + 0.8 * i / 8 for i in range(9)]
    assert spread(alone, 0.05) == pytest.approx(alone)


# ---- how things go wrong

N = ("--nodes", "4", "--size", "1GiB")
B = ("--bandwidth", "1Gbit/s")
BAD = [
    (2, [], "Missing option"),
    (2, ["--nodes", "4"], "Missing option '--size'"),
    (2, ["--nodes", "0", "--size", "1GiB", *B], "--nodes 0: give 1 to"),
    (2, ["--nodes", "2000000000", "--size", "1GiB", *B], "--nodes 2000000000: give 1 to"),
    (2, ["--nodes", "x", "--size", "1GiB", *B], "'x' is not a valid integer"),
    (2, ["--nodes", "4", "--size", "1Gib", *B], "write GiB"),
    (2, N, "give --bandwidth 10Gbit/s, or measure it with 'flux-tree calibrate'"),
    (2, [*N, "--bandwidth", "0"], "above 0"),
    (2, [*N, *B, "--latency", "1 parsec"], "parsec"),
    (2, ["two-tre", *N, *B], "did you mean 'two-tree'?"),
    (2, ["tbon", *N, *B], "tbon"),
    (2, [*N, *B, "--topology", "kry:2"], "did you mean 'kary:2'?"),
    (2, [*N, *B, "--racks", "2"], "give --uplink 40Gbit/s as well"),
    (2, [*N, *B, "--uplink", "1Gbit/s"], "give --racks 4 as well"),
    (2, [*N, *B, "--racks", "5", "--uplink", "1Gbit/s"], "--racks 5: give 1 to 4"),
    (2, [*N, *B, "--racks", "0", "--uplink", "1Gbit/s"], "--racks 0: give 1 to 4"),
    (2, [*N, *B, "--slow", "1"], "write it as RANK=RATE"),
    (2, [*N, *B, "--slow", "a=1Gbit/s"], "write it as RANK=RATE"),
    (2, [*N, *B, "--slow", "1=fast"], "rate 'fast'"),
    (2, [*N, *B, "--slow", "4=1Gbit/s"], "no rank 4, give one of 0-3"),
    (2, [*N, *B, "--disk", "x"], "rate 'x'"),
    (2, [*N, *B, "--security", "ssl"], "'ssl'"),
    (2, [*N, *B, "--method", "guess"], "'guess'"),
    (2, [*N, *B, "--chunk-size", "1"], "from 4096 to 16777216 bytes, or 'best'"),
    (2, [*N, *B, "--chunk-size", "worst"], "size 'worst'"),
    (2, [*N, "--network", "/no/such/file"], "/no/such/file: there is no such file"),
    (2, [*N, "--network", "/dev/null"], "/dev/null: cannot be read"),
    (2, [*N, *B, "--plot", "x.foo"], "'foo'"),
    (4, [*N, *B, "--plot", "none/x.png"], "'none'"),
    (2, ["-N", "1", "--size", "1GiB", *B, "--plot", "x.png"], "nothing moves"),
    (2, ["-N", "4", "--size", "0", *B, "--plot", "x.png"], "nothing moves"),
]


@pytest.mark.parametrize(("code", "args", "words"), BAD, ids=[" ".join(b[1]) for b in BAD])
def test_one_line_and_an_exit_code(tmp_path, code, args, words):
    here = tmp_path / "here"
    here.mkdir()
    got, out, err = run(*args, cwd=here, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert (got, out) == (code, "")
    assert re.fullmatch(r"flux-tree: error: [^\n]+\n", err) and words in err
    assert list(here.iterdir()) == []


def test_racks_of_other_ranks(tmp_path):
    path = Network(1e9, groups=(0, 0, 1), uplink=1e9).save(tmp_path / "network.json")
    code, _, err = run(*N, "--network", path)
    assert code == 2 and "racks of 3 ranks, give --racks as well" in err
    assert as_json(*N, "--network", path, "--racks", 2)["network"]["groups"] == [0, 0, 1, 1]


def test_one_rank_and_no_bytes():
    for n, size in (("1", "1GiB"), ("1", "0"), ("4", "0")):
        args = ("-N", n, "--size", size, *B)
        assert invoke(*args).startswith(f"{'1 GiB' if size != '0' else '0 B'} to {n} rank")
        for entry in as_json(*args)["predictions"]:
            assert entry["limit_ratio"] is None and entry["limit_percent"] is None
    assert invoke("chain", "-N", "1", "--size", "1GiB", *B).startswith("chain: 1 GiB to 1 rank\n")


def test_a_long_simulation_is_interrupted():
    args = ("chain", "-N", "200000", "--size", "100GiB", *B, "--method", "simulation")
    process = subprocess.Popen(
        # the answer is hours away
        [sys.executable, "-X", "faulthandler", "-c", INTERRUPTED, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"now\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"flux-tree: interrupted\n")


#: Says so when the simulation begins.
INTERRUPTED = """
import os, sys
from flux_tree._model import predict as module
class Says:
    def __getattr__(self, name):
        if name == "simulate_direct":
            print("now", flush=True)
        return getattr(lib, name)
lib, module.lib = module.lib, Says()
from flux_tree.cli import main
sys.exit(main(["predict", *sys.argv[1:]]))
"""
