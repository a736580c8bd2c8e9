from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_tree.draw import draw_tree, new_figure, tree_layout, tree_rows
from flux_tree.errors import DestinationError, TopologyError, UsageError
from flux_tree.topology import Topology

DATA = Path(__file__).parent / "data"
BROKERS = [json.loads(line) for line in (DATA / "tbon-parents.jsonl").read_text().splitlines()]
STATUS = json.loads((DATA / "overlay-status.json").read_text())

# Outputs of `flux overlay status` that show the whole tree.
WHOLE = {
    "default", "never", "v", "vv", "color", "highlight", "highlight-color",
    "lost", "lost-vv", "lost-color",
}  # fmt: skip

SPECS = ["kary:0", "kary:1", "kary:2", "kary:3", "kary:7", "binomial", "mincrit", "mincrit:1"]
SPECS += ["mincrit:2", "mincrit:5"]


@st.composite
def trees(draw: st.DrawFn, max_size: int = 60) -> list[int]:
    """Any tree under rank 0: hang ranks under earlier ones, then rename all but rank 0."""
    size = draw(st.integers(1, max_size))
    under = [draw(st.integers(0, i - 1)) for i in range(1, size)]
    name = [0, *draw(st.permutations(range(1, size)))]
    parents = [-1] * size
    for i, up in enumerate(under, 1):
        parents[name[i]] = name[up]
    return parents


# ---- specs


def test_equals_what_brokers_built() -> None:
    assert len(BROKERS) == 210
    for case in BROKERS:
        built = Topology.from_spec(case["topo"], case["size"]).parents.tolist()
        assert built == case["parents"], (case["topo"], case["size"])


@pytest.mark.parametrize(
    "spec",
    ["kary", "kary:", "kary:x", "kary:2x", "kary:2 ", "kary:0x2", "kary:2:3", "kary:2.0",
     "kary:99999999999999999999", "binomial:3", "mincrit:x", "mincrit:2x", "custom:x",
     "Kary:2", "flat", "", ":", "karyy:2", "kary:2\0"],
)  # fmt: skip
def test_refuses_what_flux_refuses(spec: str) -> None:
    with pytest.raises(TopologyError, match=r"topology '.*': ") as info:
        Topology.from_spec(spec, 6)
    assert "\n" not in str(info.value)
    assert info.value.exit_code == 2


# What brokers of flux-core 0.88.0 built over 6 ranks.
@pytest.mark.parametrize(
    ("spec", "parents"),
    [
        ("kary:-1", [-1, 0, 0, 0, 0, 0]),
        ("kary:-3", [-1, 0, 0, 0, 0, 0]),
        ("kary:0", [-1, 0, 0, 0, 0, 0]),
        ("kary:+2", [-1, 0, 0, 1, 1, 2]),
        ("kary: 2", [-1, 0, 0, 1, 1, 2]),
        ("kary:02", [-1, 0, 0, 1, 1, 2]),
        ("kary:4294967298", [-1, 0, 0, 1, 1, 2]),
        ("kary:-4294967294", [-1, 0, 0, 1, 1, 2]),
        ("kary:2147483648", [-1, 0, 0, 0, 0, 0]),
        ("kary:2147483647", [-1, 0, 0, 0, 0, 0]),
        ("binomial:", [-1, 0, 0, 2, 0, 4]),
        ("mincrit:", [-1, 0, 0, 0, 0, 0]),
        ("mincrit:0", [-1, 0, 0, 0, 0, 0]),
        ("mincrit:-1", [-1, 0, 0, 0, 0, 0]),
        ("mincrit:100", [-1, 0, 0, 0, 0, 0]),
        ("mincrit:2147483647", [-1, 0, 0, 0, 0, 0]),
        ("custom", [-1, 0, 0, 0, 0, 0]),
        ("custom:", [-1, 0, 0, 0, 0, 0]),
    ],
)
def test_reads_k_as_flux_does(spec: str, parents: list[int]) -> None:
    assert Topology.from_spec(spec, 6).parents.tolist() == parents


@pytest.mark.parametrize(
    ("size", "routers"), [(1025, 0), (1026, 2), (2051, 2), (2052, 3), (3076, 3), (3077, 4)]
)
def test_mincrit_chooses_the_fewest_routers_with_a_fanout_of_1024(size: int, routers: int) -> None:
    topology = Topology.from_spec("mincrit", size)
    if routers == 0:
        assert topology.max_depth == 1
    else:
        assert topology.degrees[0] == routers
        assert topology.degrees[1:].max() <= 1024
        if routers > 2:
            fewer = Topology.from_spec(f"mincrit:{routers - 1}", size)
            assert fewer.degrees[1:].max() > 1024


@pytest.mark.parametrize("size", [0, -1, 2**31, 2.5, "8"])
def test_refuses_sizes(size: object) -> None:
    with pytest.raises(TopologyError, match="size"):
        Topology.from_spec("kary:2", size)  # type: ignore[arg-type]


def test_custom_takes_parents() -> None:
    topology = Topology.from_spec("custom", 4, parents=[-1, 2, 0, 1])
    assert topology == Topology.from_parents([-1, 2, 0, 1])
    assert topology.depth.tolist() == [0, 2, 1, 3]
    with pytest.raises(TopologyError, match="4 parents for 5 ranks"):
        Topology.from_spec("custom", 5, parents=[-1, 2, 0, 1])
    with pytest.raises(TopologyError, match="give parents to 'custom' only"):
        Topology.from_spec("kary:2", 4, parents=[-1, 2, 0, 1])


# ---- parents


@pytest.mark.parametrize(
    ("parents", "rank", "reason"),
    [
        ([0, 0], 0, "rank 0 is the root"),
        ([1, -1], 0, "rank 0 is the root"),
        ([-1, 0, -1], 2, "rank 2 is a second root"),
        ([-1, 0, 3], 2, "rank 2 has parent 3, which is not a rank of 0-2"),
        ([-1, -2, 0], 1, "rank 1 has parent -2"),
        ([-1, 0, 2], 2, "rank 2 is cut off from rank 0 by a cycle"),
        ([-1, 0, 4, 2, 3, 4], 2, "rank 2 is cut off from rank 0 by a cycle"),
    ],
)
def test_refuses_parents_that_are_no_tree(parents: list[int], rank: int, reason: str) -> None:
    with pytest.raises(TopologyError, match=reason) as info:
        Topology(parents)
    assert info.value.rank == rank


@pytest.mark.parametrize(
    "parents", [[], [[-1, 0]], -1, [-1.0, 0.0], ["a"], [-1, 2**40], [-1, [0]], None, [True]]
)
def test_refuses_what_is_not_parents(parents: object) -> None:
    with pytest.raises(TopologyError):
        Topology(parents)


def test_keeps_its_own_read_only_copy() -> None:
    parents = np.array([-1, 0, 1], np.int32)
    topology = Topology(parents)
    parents[2] = 0
    assert topology.parents.tolist() == [-1, 0, 1]
    with pytest.raises(ValueError, match="read-only"):
        topology.parents[1] = 2


@given(trees())
def test_what_a_topology_tells(parents: list[int]) -> None:
    topology = Topology(parents)
    size = len(parents)
    below: list[set[int]] = [{rank} for rank in range(size)]
    depth = [0] * size
    for rank in range(size):
        up = rank
        while parents[up] >= 0:
            up = parents[up]
            below[up].add(rank)
            depth[rank] += 1
    children = [[c for c in range(size) if parents[c] == rank] for rank in range(size)]
    assert topology.size == len(topology) == size
    assert topology.depth.tolist() == depth
    assert topology.max_depth == max(depth)
    assert topology.subtree_sizes.tolist() == [len(ranks) for ranks in below]
    assert [topology.children(rank).tolist() for rank in range(size)] == children
    assert topology.degrees.tolist() == [len(ranks) for ranks in children]
    assert topology.fanout == max(len(ranks) for ranks in children)
    assert topology.leaves.tolist() == [rank for rank in range(size) if not children[rank]]
    levels = [[r for r in range(size) if depth[r] == level] for level in range(max(depth) + 1)]
    assert [level.tolist() for level in topology.levels] == levels
    assert topology.deepest.tolist() == levels[-1]
    assert topology.middle.tolist() == levels[len(levels) // 2]
    place = {rank: i for i, rank in enumerate(topology.preorder.tolist())}
    assert len(place) == size
    for rank in range(1, size):
        start = place[parents[rank]]
        assert start < place[rank] < start + len(below[parents[rank]])
    for array in (topology.depth, topology.preorder, topology.leaves, topology.children(0)):
        assert array.dtype == np.int32


def test_children_of_no_rank() -> None:
    topology = Topology.from_spec("kary:2", 4)
    for rank in (-1, 4):
        with pytest.raises(TopologyError, match=f"no rank {rank}"):
            topology.children(rank)


def test_many_ranks() -> None:
    for spec in SPECS:
        topology = Topology.from_spec(spec, 100_000)
        assert topology.subtree_sizes[0] == 100_000
        assert sum(len(level) for level in topology.levels) == 100_000


def test_equality_is_that_of_the_parents() -> None:
    flat = Topology.from_spec("kary:0", 5)
    assert flat == Topology.from_spec("mincrit", 5)
    assert hash(flat) == hash(Topology.from_spec("mincrit", 5))
    assert flat != Topology.from_spec("kary:2", 5)
    assert flat != flat.parents.tolist()
    assert repr(flat) == "<Topology kary:0, size 5, depth 1>"


# ---- what a running Flux says


@pytest.mark.parametrize("case", STATUS, ids=lambda case: f"{case['topo']}-{case['size']}")
def test_reads_real_outputs(case: dict) -> None:
    wanted = Topology.from_spec(case["topo"], case["size"])
    assert Topology.from_overlay(case["overlay"]) == wanted
    assert (
        Topology.from_overlay(json.dumps(case["overlay"]), spec=case["topo"]).spec == case["topo"]
    )
    for name in WHOLE & set(case["status"]):
        assert Topology.from_status(case["status"][name]) == wanted, name
    drawn = wanted.text(lambda rank: f"{rank} node{rank}: full")
    assert drawn == case["status"]["never"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("no-pretty", "hangs under no other"),
        ("summary", "line 1: 'full' is not a rank"),
        ("down", "no rank in it"),
        ("rank1", "starts at rank 1"),
        ("lost-down", "rank 2 is missing"),
        ("lost-no-ghost", "rank 3 is missing"),
    ],
)
def test_refuses_outputs_without_the_whole_tree(output: str, reason: str) -> None:
    case = next(case for case in STATUS if case["topo"] == "kary:2" and case["size"] == 8)
    with pytest.raises(TopologyError, match=reason):
        Topology.from_status(case["status"][output])


@given(trees())
def test_text_and_back(parents: list[int]) -> None:
    topology = Topology(parents)
    text = topology.text(lambda rank: f"{rank} host-{rank}: full for 1.5s (0.3 ms)")
    assert Topology.from_status(text) == topology
    assert text.count("\n") == topology.size


def test_status_with_a_rank_twice() -> None:
    text = "0 a: full\n├─ 1 b: full\n├─ 1 b: full\n└─ 2 c: full\n"
    assert Topology.from_status(text).parents.tolist() == [-1, 0, 0]
    with pytest.raises(TopologyError, match="rank 1 stands under 0 and under 2"):
        Topology.from_status("0 a: full\n├─ 1 b: full\n└─ 2 c: full\n   └─ 1 b: full\n")


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ("{", "not readable as JSON"),
        ([], "each node needs"),
        (None, "each node needs"),
        ({"rank": 0}, "each node needs"),
        ({"rank": "0", "children": []}, "each node needs"),
        ({"rank": 1, "size": 1, "children": []}, "starts at rank 1"),
        ({"rank": 0, "size": 3, "children": [{"rank": 2, "children": []}]}, "rank 1 is missing"),
        ({"rank": 0, "size": 3, "children": [{"rank": 1, "children": []}]}, "says size 3 but has"),
        ({"rank": 0, "size": 2, "children": [{"rank": 0, "children": []}]}, "rank 0 stands under"),
    ],
)
def test_refuses_what_is_no_overlay(tree: object, reason: str) -> None:
    with pytest.raises(TopologyError, match=reason):
        Topology.from_overlay(tree)  # type: ignore[arg-type]


def test_deep_overlay() -> None:
    node: dict = {"rank": 4999, "size": 1, "children": []}
    for rank in range(4998, -1, -1):
        node = {"rank": rank, "size": 5000 - rank, "children": [node]}
    assert Topology.from_overlay(node) == Topology.from_spec("kary:1", 5000)


# ---- drawings


def test_text() -> None:
    assert Topology.from_spec("binomial", 8).text() == (
        "0\n├─ 1\n├─ 2\n│  └─ 3\n└─ 4\n   ├─ 5\n   └─ 6\n      └─ 7\n"
    )
    assert Topology.from_spec("kary:1", 2).text(["root", "leaf"]) == "root\n└─ leaf\n"


def test_text_has_a_limit() -> None:
    with pytest.raises(UsageError, match="draw a smaller or a flatter one"):
        Topology.from_spec("kary:1", 20_000).text()


@given(trees())
def test_layout_keeps_ranks_apart(parents: list[int]) -> None:
    xy = tree_layout(np.array(parents, np.int32))
    assert xy[:, 1].tolist() == Topology(parents).depth.tolist()
    for level in Topology(parents).levels:
        x = np.sort(xy[level, 0])
        assert (np.diff(x) >= 1).all()
    for rank in range(len(parents)):
        children = Topology(parents).children(rank)
        if len(children):
            assert xy[rank, 0] == (xy[children[0], 0] + xy[children[-1], 0]) / 2
    assert sorted(tree_rows(np.array(parents, np.int32)).tolist()) == list(range(len(parents)))


def test_layout_leaves_out_absent_ranks() -> None:
    parents = np.array([-1, 0, -2, 1, 0], np.int32)
    assert tree_rows(parents).tolist() == [0, 1, -1, 2, 3]
    assert np.isnan(tree_layout(parents)[2]).all()
    assert not np.isnan(tree_layout(parents)[[0, 1, 3, 4]]).any()


@pytest.mark.parametrize("spec,size", [("kary:2", 1), ("kary:2", 7), ("kary:0", 200)])
def test_draws_files(tmp_path: Path, spec: str, size: int) -> None:
    pytest.importorskip("matplotlib")
    topology = Topology.from_spec(spec, size)
    topology.draw(tmp_path / "tree.svg", colors=topology.depth)
    topology.draw(tmp_path / "tree.PNG", labels=[f"node{rank}" for rank in range(size)])
    svg = (tmp_path / "tree.svg").read_text()
    assert svg.count("<use ") >= size  # a node each
    assert (tmp_path / "tree.PNG").read_bytes().startswith(b"\x89PNG")


def test_draws_beside_a_timeline() -> None:
    pytest.importorskip("matplotlib")
    topology = Topology.from_spec("kary:2", 12)
    tree, timeline = new_figure(6, 3).subplots(1, 2, sharey=True)
    rows = tree_rows(topology.parents)
    timeline.barh(rows, topology.depth + 1)
    nodes = draw_tree(tree, topology.parents, orient="rows", colors=["red"] * 12)
    assert nodes.get_offsets()[:, 1].tolist() == rows.tolist()
    assert tree.yaxis_inverted() and timeline.yaxis_inverted()
    with pytest.raises(UsageError, match="'sideways' is unknown"):
        draw_tree(tree, topology.parents, orient="sideways")


def test_refuses_files_that_it_cannot_draw(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    topology = Topology.from_spec("kary:2", 3)
    with pytest.raises(UsageError, match="no picture of kind 'doc'"):
        topology.draw(tmp_path / "tree.doc")
    with pytest.raises(DestinationError, match="No such file"):
        topology.draw(tmp_path / "nowhere" / "tree.svg")


def test_says_how_to_get_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no')")
    code = "from flux_tree.topology import Topology as T; T.from_spec('kary:2', 3).draw('x.svg')"
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.splitlines()[-1].endswith('pip install "flux-tree[plot]"')
    assert not (tmp_path / "x.svg").exists()


# ---- real brokers


@pytest.mark.flux
@pytest.mark.skipif(shutil.which("flux") is None, reason="no flux on PATH")
@pytest.mark.parametrize(
    ("spec", "size"), [("kary:2", 9), ("kary:0", 5), ("binomial", 11), ("mincrit:3", 10)]
)
def test_equals_running_brokers(spec: str, size: int, tmp_path: Path) -> None:
    ask = (
        "import flux, json; handle = flux.Flux();"
        ' print(json.dumps(handle.rpc("overlay.topology", {"rank": 0}).get()))'
    )
    script = tmp_path / "ask"
    script.write_text(f"#!/bin/sh\nflux python -c '{ask}'\nflux overlay status --color=never -vv\n")
    script.chmod(0o755)
    command = ["flux", "start", f"--test-size={size}", f"-Stbon.topo={spec}"]
    command += [f"--test-hosts=host[1-{size}]", "-Sbroker.rc1_path=", "-Sbroker.rc3_path="]
    run = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    overlay, status = run.stdout.split("\n", 1)
    wanted = Topology.from_spec(spec, size)
    assert Topology.from_overlay(overlay) == wanted
    assert Topology.from_status(status) == wanted


@pytest.mark.flux
@pytest.mark.skipif(shutil.which("flux") is None, reason="no flux on PATH")
@pytest.mark.parametrize("spec", ["kary", "kary:2x", "binomial:3", "mincrit:x", "flat"])
def test_running_brokers_refuse_the_same(spec: str) -> None:
    command = ["flux", "start", "--test-size=2", f"-Stbon.topo={spec}"]
    command += ["-Sbroker.rc1_path=", "-Sbroker.rc3_path=", "true"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    with pytest.raises(TopologyError):
        Topology.from_spec(spec, 2)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("karry:2", "did you mean 'kary:2'"), ("Binomial", "did you mean 'binomial'")],
)
def test_an_unknown_scheme_names_the_nearest(spec, hint):
    with pytest.raises(TopologyError, match=hint):
        Topology.from_spec(spec, 4)
