"""Designs of experiments: the file, what is refused, the cells and their order, the estimate."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from flux_tree import UsageError, designs
from flux_tree.errors import FluxTreeError, SourceError
from flux_tree.experiment import Design
from flux_tree.experiment._backends import BACKENDS, backend_class
from flux_tree.experiment._estimate import Estimator

EVERYTHING = {
    "backends": ["flux-start", "local"],
    "nodes": [4, 8],
    "topologies": ["kary:1", "kary:2", "mincrit:2", "binomial"],
    "strategies": ["all", "leaves", "middle-leaves:strict", "two-tree", "kary:3"],
    "transports": ["content", "direct", "ping"],
    "sizes": [1, 1000, 3 << 20, 5 << 30],
    "data": ["random", "zeros"],
    "ping_sizes": [0, 100, 65536],
    "iterations": 2,
    "seed": 12345,
    "rate": 3_141_592.6,
    "cell_limit": 0.25,
    "instance_limit": 90.0,
    "workdir": "/a folder/with: odd # name",
}
SMALL = "backends: [local]\nnodes: [4]\ntopologies: [kary:1]\nsizes: [1MiB]\n"


def run(*args):
    process = subprocess.run(
        [sys.executable, "-m", "flux_tree", "experiment", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr


# ---- the file


def test_a_design_is_read_back_as_it_was_written():
    design = Design(**EVERYTHING)
    assert Design.from_text(design.to_yaml()) == design


def test_defaults_and_short_forms():
    design = Design.from_text(
        "backends: local\nnodes: 4-6,8\ntopologies: study\nsizes: 1MiB\nrate: 1Gbit/s\n"
        "cell_limit: 2m\n"
    )
    assert design.nodes == (4, 5, 6, 8) and design.sizes == (1 << 20,)
    assert design.rate == 125e6 and design.cell_limit == 120.0
    assert design.strategies == ("all", "leaves", "middle-leaves")
    assert design.transports == ("direct",) and design.data == ("random",)
    assert Design.from_text(design.to_yaml()) == design


def test_every_key_has_a_comment_and_every_backend_is_explained():
    text = Design(**EVERYTHING).to_yaml()
    for key in EVERYTHING:
        assert re.search(rf"^# .+\n{key}: ", text, re.M), key
    for name in BACKENDS:
        assert f"#   {name} " in text and backend_class(name).summary in text
    assert max(map(len, text.splitlines())) <= 100
    # people write it without quotes
    assert "topologies: [kary:1, kary:2, mincrit:2, binomial]\n" in text
    assert "sizes: [1, 1000, 3MiB, 5GiB]\n" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("itertions: 3", "there is no key 'itertions', did you mean 'iterations'?"),
        ("zzz: 3", "there is no key 'zzz', use backends, nodes"),
        ("backends: [flux-strt]", "backends: there is no 'flux-strt', did you mean 'flux-start'?"),
        ("backends: []", "backends: the list is empty"),
        ("nodes: [1]", "nodes: 1 has nobody to send to"),
        ("nodes: [4, x]", "nodes 'x': 'x' is no number"),
        ("nodes: [4, 4]", "nodes: 4 is there twice"),
        ("nodes: 4.5", "nodes: 4.5 is no whole number"),
        ("nodes: [yes]", "nodes: True is no whole number"),
        ("nodes:", "nodes: there is nothing behind it"),
        ("topologies: [kry:2]", "topologies: topology 'kry:2'"),
        ("topologies: [kary:x]", "topologies: topology 'kary:x'"),
        ("topologies: [custom]", "topologies: 'custom' has no parents here"),
        ("strategies: [al]", "strategies: strategy 'al'"),
        ("strategies: [kary:0x]", "strategies: strategy 'kary:0x'"),
        ("strategies: {all: 1}", "strategies: not a list"),
        ("transports: [drect]", "transports: there is no 'drect', did you mean 'direct'?"),
        ("transports: [content]", "backends: 'local' would not be used, it has none of"),
        ("transports: [direct, ping]", "transports: 'ping' would not be used"),
        ("sizes: [1Mb]", "sizes: size '1Mb': 'Mb' is not a unit of bytes"),
        ("sizes: [0]", "sizes: 0 is no payload"),
        ("sizes: []", "sizes: there is none, give at least one"),
        ("data: [noise]", "data: there is no 'noise', use random, zeros"),
        ("ping_sizes: [2GiB]", "ping_sizes: 2147483648: flux ping takes less"),
        ("iterations: 0", "iterations: 0 is no whole number of 1 to 10000"),
        ("iterations: many", "iterations: 'many' is no whole number"),
        ("seed: -1", "seed: -1 is no whole number"),
        ("rate: 100mb", "rate: rate '100mb': bits or bytes?"),
        ("rate: 0", "rate: 0 must be above 0"),
        ("cell_limit: soon", "cell_limit: time 'soon': not a number"),
        ("cell_limit: .inf", "cell_limit: inf must be above 0"),
        ("workdir: 7", "workdir: 7 is no path"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_key(tmp_path, change, reason):
    key = change.partition(":")[0]
    lines = [line for line in SMALL.splitlines() if not line.startswith(f"{key}:")]
    path = tmp_path / "d.yaml"
    path.write_text("\n".join([*lines, change, ""]))
    with pytest.raises(UsageError) as info:
        Design.read(path)
    assert str(info.value).startswith(f"'{path}': {reason}")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it has no keys"),
        ("- a\n- b\n", "it has no keys"),
        ("backends: [local\nnodes: 4\n", "line 2: not YAML"),
        (SMALL + "nodes: [8]\n", "line 5: the key 'nodes' is there twice"),
        ("backends: [local]\ntopologies: study\nsizes: 1\n", "the key 'nodes' is missing"),
        ("a: !!python/object:os.system x\n", "line 1: not YAML"),
    ],
)
def test_what_is_no_design_is_refused(text, reason):
    with pytest.raises(UsageError, match=f"^'design': {re.escape(reason)}"):
        Design.from_text(text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        Design.read(tmp_path / "none.yaml")
    (tmp_path / "d.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="not UTF-8"):
        Design.read(tmp_path / "d.yaml")


def test_a_strategy_that_only_another_transport_has_is_refused_if_it_would_be_left_out():
    with pytest.raises(UsageError, match=r"strategies: 'two-tree' would not be used, .*direct"):
        Design(["flux-start"], [4], ["kary:1"], ["all", "two-tree"], ["content"], ["1MiB"])


# ---- cells


def test_cells_are_all_combinations_that_make_sense():
    design = Design(**{**EVERYTHING, "iterations": 3, "sizes": [1, 2]})
    cells = design.cells()
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys)
    instances, sizes, data = 2 * 4, 2, 2
    direct = 5 * sizes * data
    content = 2 * sizes * data  # all, leaves
    pings = 3
    assert len(cells) == 3 * instances * (2 * direct + content + pings)
    assert "flux-start/4/kary:1/all/content/2/zeros/2" in keys
    assert "flux-start/8/mincrit:2/ping/ping/65536/zeros/0" in keys
    assert not [c for c in cells if c.backend == "local" and c.transport != "direct"]
    assert {c.strategy for c in cells if c.transport == "content"} == {"all", "leaves"}


def test_the_study_has_other_topologies_for_other_sizes():
    design = Design(["local"], [5, 9], "study", ["all"], sizes=[1])
    for nodes in (5, 9):
        expected = [d.topo for d in designs.design_set([nodes])]
        assert design.specs(nodes) == expected
        assert {c.topology for c in design.cells() if c.nodes == nodes} == set(expected)


def test_each_cell_has_data_of_its_own():
    design = Design(**EVERYTHING)
    seeds = [cell.seed(design.seed) for cell in design.cells()]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**53
    assert seeds != [cell.seed(design.seed + 1) for cell in design.cells()]


def test_the_order_is_a_randomized_block_design():
    design = Design(**{**EVERYTHING, "sizes": [1, 2], "iterations": 4})
    blocks = design.blocks()
    assert sorted(c for b in blocks for c in b.cells) == sorted(design.cells())
    assert [b.iteration for b in blocks] == sorted(b.iteration for b in blocks)
    places = [
        [(b.backend, b.nodes, b.topology) for b in blocks if b.iteration == i] for i in range(4)
    ]
    for place in places:
        assert len(set(place)) == len(place) == 2 * 2 * 4
    for block in blocks:
        assert {(c.backend, c.nodes, c.topology, c.iteration) for c in block.cells} == {block[:4]}
    # another order in each iteration, of instances and of the cells of one
    assert len(set(map(tuple, places))) == 4
    orders = {tuple(c[3:7] for c in b.cells) for b in blocks if b.name == blocks[0].name}
    assert len(orders) == 4
    assert design.blocks() == blocks
    assert Design(**{**EVERYTHING, "sizes": [1, 2], "iterations": 4, "seed": 2}).blocks() != blocks


# ---- what may change once there are results


def test_a_design_may_be_added_to_and_nothing_else():
    old = Design(["local"], [4], ["kary:1"], ["all"], sizes=[1], iterations=2)
    done = {cell.key for cell in old.cells()}

    def difference(**changes):
        values = {"backends": ["local"], "nodes": [4], "topologies": ["kary:1"], "sizes": [1]}
        values = {**values, "strategies": ["all"], "iterations": 2, **changes}
        return Design(**values).difference(old, done)

    assert difference() is None
    assert difference(nodes=[8, 4], topologies=["binomial", "kary:1"], sizes=[2, 1]) is None
    assert difference(iterations=5, strategies=["chain", "all"], cell_limit="7s") is None
    assert difference(seed=2) == "seed is 2 and was 1"
    assert difference(rate="1Gbit").startswith("rate is 125000000.0")
    assert "(local/4/kary:1/all/direct/1/random/1)" in difference(iterations=1)
    assert difference(sizes=[2]).startswith("2 cells are not in it any more")


# ---- the estimate


def estimated(**changes):
    values = {"backends": ["lab"], "nodes": [8], "topologies": ["kary:2"], "strategies": ["all"]}
    design = Design(**{**values, "sizes": ["8MiB"], "iterations": 1, **changes})
    return Estimator(design).all(design.blocks())


def test_the_estimate_follows_line_time_and_fan_out():
    base = estimated()
    assert base.cells == base.instances == 1
    assert estimated(sizes=["80MiB"]).seconds - base.seconds > 9 * 0.671  # F/B of 72 MiB at load 1
    assert estimated(rate="10mbit").seconds > base.seconds + 9 * 2 * 0.671
    flat, chain = estimated(topologies=["kary:0"]), estimated(topologies=["kary:1"])
    assert flat.seconds > base.seconds + 4 * 0.671 > chain.seconds + 4 * 0.671
    assert estimated(strategies=["two-tree"], topologies=["kary:0"]).seconds < base.seconds
    twice = estimated(iterations=2)
    assert (twice.cells, twice.instances) == (2, 2)
    assert twice.seconds == pytest.approx(2 * base.seconds)


def test_a_strategy_of_ones_own_is_loaded_but_not_planned_before_it_runs(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("class Mine:\n    def plan(self, topology, members=None):\n        exit(1)\n")
    assert estimated(strategies=[f"{path}:Mine"]).cells == 1
    with pytest.raises(FluxTreeError, match=r"strategies: .*has no class 'Other'"):
        estimated(strategies=[f"{path}:Other"])


# ---- the command


def test_the_command_writes_a_design_and_estimates_it(tmp_path):
    path = tmp_path / "design.yaml"
    args = ["design", "--nodes", "4,6", "--topologies", "kary:1,kary:2", "--sizes", "1MiB,2MiB"]
    args += ["--backend", "local,flux-start", "--strategies", "all,two-tree", "--iterations", "2"]
    code, out, err = run(*args, "-o", path)
    assert (code, err) == (0, "")
    design = Design.read(path)
    assert design.nodes == (4, 6) and design.transports == ("content", "direct")
    assert design.sizes == (1 << 20, 2 << 20)
    count = len(design.cells())
    assert f"design in {path}\n{count} cells in 16 instances: about " in out and "estimate" in out

    before = path.read_text()
    code, out, err = run(*args, "-o", path)
    assert code == 4 and out == "" and "exists, give another file or --force" in err
    assert path.read_text() == before
    code, out, err = run(*args, "-o", path, "--force", "--seed", 7, "--json")
    assert code == 0 and Design.read(path).seed == 7
    answer = json.loads(out)
    assert answer["design"] == str(path) and answer["cells"] == count and answer["seconds"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["design.yaml"]


def test_the_command_prints_a_design():
    code, out, err = run("design", "-o", "-", "--backend", "lab-flux", "--transports", "ping")
    assert code == 0 and "an estimate" in err
    design = Design.from_text(out)
    assert design.backends == ("lab-flux",) and {c.transport for c in design.cells()} == {"ping"}


def test_long_cells_get_a_limit_that_they_can_meet():
    args = ["design", "-o", "-", "--backend", "lab", "--topologies", "kary:2", "--nodes", "8"]
    assert Design.from_text(run(*args)[1]).cell_limit == 300
    slow = Design.from_text(run(*args, "--sizes", "64MiB", "--rate", "1mbit")[1])
    assert slow.cell_limit > 5 * 2 * 64 * 2**20 / slow.rate


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--backend", "locl"], "there is no backend 'locl', did you mean 'local'?"),
        (["--nodes", "four"], "'four' is no number or range"),
        (["--sizes", "1Mb"], "sizes: size '1Mb'"),
        (["--transports", "content"], "backends: 'local' would not be used"),
        (["-o", "none/such/design.yaml"], "No such file or directory"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, args, reason):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("design", *args)
    assert code in (2, 4) and out == ""
    assert err.startswith("flux-tree: error: ") and reason in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_cells_in_order(tmp_path):
    path = tmp_path / "design.yaml"
    design = Design(**{**EVERYTHING, "sizes": [1], "strategies": ["all", "leaves"]})
    path.write_text(design.to_yaml())
    keys = [cell.key for block in design.blocks() for cell in block.cells]
    code, out, err = run("run", path, "--dry-run")
    assert code == 0 and out.splitlines() == keys and "an estimate" in err
    done = (
        json.dumps({"cell": keys[3], "status": "ok"}),
        json.dumps({"cell": keys[5], "status": "failed"}),
    )
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "results.jsonl").write_text("\n".join(done) + "\n")
    code, out, _ = run("run", path, "--dry-run", "--json", "-o", folder)
    assert json.loads(out) == [k for k in keys if k not in (keys[3], keys[5])]
    code, out, _ = run("run", path, "--dry-run", "--json", "-o", folder, "--retry-failed")
    assert json.loads(out) == [k for k in keys if k != keys[3]]
    assert [p.name for p in folder.iterdir()] == ["results.jsonl"]
