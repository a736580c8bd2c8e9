from __future__ import annotations

import math
import textwrap
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_tree import strategies
from flux_tree._native import ffi, lib, pointer
from flux_tree.errors import PlanError
from flux_tree.plan import ABSENT, Plan
from flux_tree.topology import Topology

FREE = ["flat", "chain", "kary:2", "kary:3", "kary:0", "binomial", "mincrit", "mincrit:3"]
FREE += ["two-tree", "multi-tree", "multi-tree:1", "multi-tree:3", "multi-tree:64", "edst"]
FREE += ["split-binary", "scatter-allgather", "scatter-allgather:3", "scatter-allgather:64"]
FREE += ["rack", "rack:1", "rack:4", "rack:1000"]
BOUND = ["tbon", "all", "leaves", "middle-leaves", "middle-leaves:strict"]
TOPOLOGIES = ["kary:0", "kary:1", "kary:2", "kary:3", "binomial", "mincrit:3"]


def log2_floor(n: int) -> int:
    return n.bit_length() - 1


def log2_ceil(n: int) -> int:
    return (n - 1).bit_length()


def inner(plan: Plan) -> list[set[int]]:
    """The inner ranks of each tree, rank 0 aside."""
    return [set(tree[tree > 0].tolist()) for tree in plan.parents]


def native(spec: str, topology: Topology, members: np.ndarray | None) -> Plan:
    """What shape_plan, the entry for those without Python, lays out."""
    out = ffi.new("struct plan **")
    fault = ffi.new("struct fault *")
    rc = lib.shape_plan(
        spec.encode(),
        pointer("int32_t *", topology.parents),
        topology.size,
        pointer("uint8_t *", members),
        out,
        fault,
    )
    assert rc == 0, ffi.string(fault.text)
    plan = out[0]
    n, stripes = plan.n, plan.stripes
    arrays = [
        ffi.unpack(plan.parents, stripes * n),
        ffi.unpack(plan.deliver, n),
        ffi.unpack(plan.phase, n),
    ]
    assert lib.plan_check(plan, fault) == 0
    lib.plan_destroy(plan)
    return Plan(np.array(arrays[0]).reshape(stripes, n), arrays[1], arrays[2], spec)


# ---- all of them


@given(
    st.sampled_from(FREE + BOUND),
    st.sampled_from(TOPOLOGIES),
    st.integers(1, 90),
    st.one_of(st.none(), st.randoms(use_true_random=False)),
)
@settings(max_examples=400)
def test_reaches_who_wants_the_data(spec: str, topo: str, n: int, random: object) -> None:
    topology = Topology.from_spec(topo, n)
    members = None
    if random is not None:
        members = np.array([random.random() < 0.4 for _ in range(n)])  # type: ignore[attr-defined]
    plan = strategies.get(spec).plan(topology, members)  # its construction checks reachability
    assert plan.strategy == spec
    assert plan.size == n
    assert plan == native(spec, topology, members)
    wanted = np.ones(n, bool) if members is None else members
    if spec == "leaves":
        wanted = wanted & (topology.depth == topology.max_depth)
    if spec.startswith("middle-leaves"):
        middle = len(topology.levels) // 2
        wanted = wanted & ((topology.depth == middle) | (topology.depth == topology.max_depth))
    assert plan.deliver.tolist() == wanted.tolist()
    taking_part = wanted.copy()
    taking_part[0] = True
    if spec in BOUND:  # with the paths
        for rank in np.flatnonzero(wanted):
            while rank > 0:
                taking_part[rank] = True
                rank = topology.parents[rank]
        there = taking_part & (topology.parents >= 0)
        assert plan.parents[0][there].tolist() == topology.parents[there].tolist()
    assert plan.present.tolist() == taking_part.tolist()
    if spec == "middle-leaves:strict":
        late = taking_part & (topology.depth > len(topology.levels) // 2)
        assert plan.phase.tolist() == late.astype(int).tolist()
    else:
        assert not plan.phase.any()


@pytest.mark.parametrize("spec", FREE)
def test_members_are_laid_out_as_fewer_ranks(spec: str) -> None:
    """Over members, a plan is that over as many ranks, renamed."""
    members = [3, 5, 6, 11, 12, 13, 19]
    at = np.array([0, *members])
    plan = strategies.get(spec).plan(20, members)
    if spec.startswith("rack"):
        groups = at // int(spec.partition(":")[2] or 5)
        few = strategies.Rack(groups=groups).plan(len(at))
    else:
        few = strategies.get(spec).plan(len(at))
    for tree, small in zip(plan.parents, few.parents):
        assert tree[at[1:]].tolist() == at[small[1:]].tolist()


def test_flux_shapes_are_those_of_flux() -> None:
    for spec in ["kary:0", "kary:1", "kary:2", "kary:5", "binomial", "mincrit", "mincrit:3"]:
        for n in (1, 2, 7, 33):
            plan = strategies.get(spec).plan(n)
            assert plan.parents.tolist() == [Topology.from_spec(spec, n).parents.tolist()]
    assert strategies.get("flat").plan(4).parents.tolist() == [[-1, 0, 0, 0]]
    assert strategies.get("chain").plan(4).parents.tolist() == [[-1, 0, 1, 2]]


@pytest.mark.parametrize("spec", FREE + BOUND)
def test_many_ranks(spec: str) -> None:
    plan = strategies.get(spec).plan(Topology.from_spec("kary:2", 100_000))
    assert plan.size == 100_000


# ---- bounds of each, as docs/strategies.md states them


def test_two_tree() -> None:
    for n in range(1, 201):
        plan = strategies.get("two-tree").plan(n)
        first, second = inner(plan)
        assert plan.stripes == 2
        assert not first & second, n
        assert plan.max_load <= 1, n
        assert plan.depth <= log2_ceil(n), n
    assert strategies.get("two-tree").plan(8).parents.tolist() == [
        [-1, 2, 4, 2, 0, 6, 4, 6],
        [-1, 7, 3, 5, 3, 0, 7, 5],
    ]


@pytest.mark.parametrize("argument", [None, 1, 2, 3, 5, 8, 64])
def test_multi_tree(argument: int | None) -> None:
    strategy = strategies.MultiTree(argument)
    for n in range(2, 301):
        plan = strategy.plan(n)
        sets = inner(plan)
        assert sum(len(ranks) for ranks in sets) == len(set().union(*sets)), n
        share, rest = divmod(n - 1, plan.stripes)
        assert plan.max_load <= 1 + max(0, math.ceil((rest - 1) / share)) / plan.stripes, n
        assert plan.max_load < 2, n
        assert plan.load[0] == 1, n
        if argument is None:
            assert plan.max_load <= 1, n
            assert plan.stripes <= 8, n
        else:
            assert plan.stripes == min(argument, n - 1), n
        if plan.stripes > 1:
            assert plan.stripes ** (plan.depth - 2) < n, n  # depth <= ceil (log_S n) + 1


def test_edst_on_a_power_of_two() -> None:
    for dim in range(1, 9):
        n = 2**dim
        plan = strategies.get("edst").plan(n)
        edges = [
            (int(up), rank) for tree in plan.parents for rank, up in enumerate(tree) if rank > 0
        ]
        assert plan.stripes == dim
        assert len(set(edges)) == len(edges) == dim * (n - 1)
        assert all(bin(up ^ rank).count("1") == 1 for up, rank in edges)
        assert plan.max_load == 1
        assert plan.depth == (dim + 1 if dim > 1 else 1)


def test_edst_on_any_number() -> None:
    for n in range(1, 301):
        plan = strategies.get("edst").plan(n)
        dim = log2_floor(n)
        assert plan.stripes == max(dim, 1), n
        assert plan.max_load == (1 if n > 1 else 0), n
        assert plan.depth <= 2 * (dim + 1), n


def test_split_binary() -> None:
    for n in range(1, 301):
        plan = strategies.get("split-binary").plan(n)
        assert plan.stripes == 2
        assert plan.max_load <= 1.5, n
        assert plan.depth <= log2_floor(n) + 1, n
    assert strategies.get("split-binary").plan(8).parents.tolist() == [
        [-1, 0, 1, 1, 2, 1, 2, 3],
        [-1, 5, 6, 7, 7, 0, 5, 5],
    ]


def test_scatter_allgather() -> None:
    for n in range(2, 100):
        for argument in (None, 1, 3, 64):
            plan = strategies.ScatterAllgather(argument).plan(n)
            assert plan.stripes == min(argument or 8, n - 1)
            assert plan.max_load <= 1
            assert plan.depth == n - 1
            starts = [int(np.flatnonzero(tree == 0)[0]) - 1 for tree in plan.parents]
            assert starts == [s * (n - 1) // plan.stripes for s in range(plan.stripes)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_rack(groups: list[int]) -> None:
    plan = strategies.Rack(groups=groups).plan(len(groups))
    assert plan.stripes == 2
    assert plan.max_load <= 1
    sizes = np.bincount(groups[1:]) if len(groups) > 1 else np.array([0])
    assert plan.depth <= np.count_nonzero(sizes) + sizes.max()
    number = np.array(groups)
    for tree in plan.parents:
        up = tree[1:]
        # rank 0 stands outside: each group hangs on one link to another group or to rank 0
        crossing = np.flatnonzero((up == 0) | (number[up] != number[1:])) + 1
        entered = number[crossing].tolist()
        assert sorted(entered) == sorted(set(groups[1:]))
        left = [int(number[p]) for p in tree[crossing] if p > 0]
        assert len(left) == len(set(left))
    if groups[1:].count(groups[0]):
        assert groups[int(np.flatnonzero(plan.parents[0] == 0)[0])] == groups[0]


def test_rack_of_names_and_of_sizes() -> None:
    names = [f"rack{rank // 4}" for rank in range(12)]
    named = strategies.Rack(groups=names).plan(12)
    assert named.parents.tolist() == strategies.get("rack:4").plan(12).parents.tolist()
    assert strategies.get("rack").plan(12).parents.tolist() == named.parents.tolist()
    with pytest.raises(PlanError, match="12 groups for 5 ranks"):
        strategies.Rack(groups=names).plan(5)
    with pytest.raises(PlanError, match="not both"):
        strategies.Rack(4, groups=names)


def test_native_rack_checks_groups() -> None:
    out, fault = ffi.new("struct plan **"), ffi.new("struct fault *")
    for bad in (-1, 3):
        groups = np.array([0, 1, bad], np.int32)
        assert lib.shape_rack(pointer("int32_t *", groups), 3, ffi.NULL, out, fault) == -1
        assert fault.rank == 2
        assert f"rank 2 is in group {bad}" in ffi.string(fault.text).decode()


def test_levels_of_the_study() -> None:
    topology = Topology.from_spec("kary:2", 12)  # levels 0, 1-2, 3-6, 7-11
    leaves = strategies.get("leaves").plan(topology)
    assert np.flatnonzero(leaves.deliver).tolist() == [7, 8, 9, 10, 11]
    assert np.flatnonzero(~leaves.present).tolist() == [6]
    middle = strategies.get("middle-leaves").plan(topology)
    assert np.flatnonzero(middle.deliver).tolist() == list(range(3, 12))
    strict = strategies.get("middle-leaves:strict").plan(topology)
    assert strict.phase.tolist() == [0] * 7 + [1] * 5
    assert strict.deliver.tolist() == middle.deliver.tolist()


# ---- members and sizes


def test_members_may_be_flags_or_ranks() -> None:
    by_rank = strategies.get("chain").plan(5, [4, 2])
    assert by_rank.parents.tolist() == [[-1, ABSENT, 0, ABSENT, 2]]
    assert by_rank.deliver.tolist() == [False, False, True, False, True]
    assert strategies.get("chain").plan(5, [False, False, True, False, True]) == by_rank
    assert strategies.get("chain").plan(5, {2, 4}) == by_rank
    assert strategies.get("chain").plan(5, np.array([2, 4])) == by_rank
    nobody = strategies.get("chain").plan(5, [])
    assert nobody.present.tolist() == [True, False, False, False, False]
    assert not nobody.deliver.any()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([5], "no rank 5"),
        ([-1], "no rank -1"),
        ([True], "1 flags for 5"),
        ([1.5], "give the ranks"),
    ],
)
def test_refuses_members(members: object, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        strategies.get("chain").plan(5, members)


def test_refuses_sizes_and_missing_topologies() -> None:
    for size in (0, -3, 2**31, "5", None):
        with pytest.raises(PlanError, match=r"size|not a topology"):
            strategies.get("chain").plan(size)  # type: ignore[arg-type]
    for spec in BOUND:
        with pytest.raises(PlanError, match=f"'{spec}': it follows the topology"):
            strategies.get(spec).plan(8)


# ---- by name


def test_names() -> None:
    names = strategies.names()
    native_names = []
    while (name := lib.shape_name(len(native_names))) != ffi.NULL:
        native_names.append(ffi.string(name).decode())
    assert names[: len(native_names)] == native_names
    assert lib.shape_name(-1) == ffi.NULL
    rows = strategies.describe()
    assert [row.name for row in rows] == names
    for row in rows[: len(native_names)]:
        assert row.origin == "built-in"
        assert all(row), row
        assert row.usage.startswith(row.name)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("two-trees", "there is no 'two-trees', did you mean 'two-tree'"),
        ("karry:2", "there is no 'karry', did you mean 'kary'"),
        ("binomal:strict", "no strategy or module 'binomal', did you mean 'binomial'"),
        ("", "there is no '', use one of: flat, chain"),
        ("xyzzy", "there is no 'xyzzy', use one of"),
        ("kary", "K must be a whole number"),
        ("kary:x", "K must be a whole number"),
        ("mincrit:x", "K must be a whole number"),
        ("binomial:2", "takes no argument"),
        ("flat:2", "takes no argument"),
        ("two-tree:", "takes no argument"),
        ("multi-tree:0", "from 1 to 64"),
        ("multi-tree:65", "from 1 to 64"),
        ("multi-tree: 2", "from 1 to 64"),
        ("multi-tree:2x", "from 1 to 64"),
        ("multi-tree:", "from 1 to 64"),
        ("scatter-allgather:-1", "from 1 to 64"),
        ("rack:0", "from 1 to"),
        ("rack:99999999999999999999", "from 1 to"),
        ("middle-leaves:lax", "'middle-leaves:strict'"),
        ("kary:2\0", "null character"),
    ],
)
def test_refuses_names(spec: str, reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as info:
        strategies.get(spec)
    assert "\n" not in str(info.value)


def test_native_names_the_names() -> None:
    fault = ffi.new("struct fault *")
    assert lib.shape_check(b"karry:2", fault) == -1
    text = ffi.string(fault.text).decode()
    assert text.startswith("strategy 'karry:2': there is no 'karry', use one of: flat, chain, kary")
    assert text.endswith("middle-leaves")


# ---- strategies of others

MINE = """
    from flux_tree.plan import Plan
    from flux_tree.strategies import rank_count

    class Reversed:
        "A chain from the last rank down."

        def __init__(self, step="1"):
            self.step = int(step)

        def plan(self, topology, members=None):
            n = rank_count(topology)
            return Plan([-1, *(min(r + self.step, n) % n for r in range(1, n))], strategy="mine")

    class Wrong(Reversed):
        def plan(self, topology, members=None):
            return [-1] if members is None else Plan([-1, 0])

    answer = 42
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine_for_test.py"
    path.write_text(textwrap.dedent(MINE))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return path


def test_class_of_ones_own(mine: Path) -> None:
    for where in ("mine_for_test", "mine_for_test.py", str(mine)):
        plan = strategies.plan(f"{where}:Reversed", 5)
        assert plan.parents.tolist() == [[-1, 2, 3, 4, 0]]
        plan = strategies.plan(f"{where}:Reversed:2", 5)
        assert plan.parents.tolist() == [[-1, 3, 4, 0, 0]]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("mine_for_test:Nothing", "'mine_for_test' has no class 'Nothing'"),
        ("mine_for_test:answer", "no class with a method plan"),
        ("mine_for_test:Reversed:x", "Reversed cannot be made with 'x' .ValueError"),
        ("elsewhere.py:Class", "there is no file 'elsewhere.py'"),
        ("broken.py:Class", "'broken.py' does not load .ZeroDivisionError"),
        ("broken:Class", "'broken' does not load .ZeroDivisionError"),
        ("wants_more:Class", "'wants_more' does not load .ModuleNotFoundError"),
    ],
)
def test_refuses_classes(mine: Path, spec: str, reason: str) -> None:
    (mine.parent / "broken.py").write_text("1 / 0")
    (mine.parent / "wants_more.py").write_text("import no_such_module_at_all")
    with pytest.raises(PlanError, match=reason):
        strategies.get(spec)


def test_checks_what_a_strategy_returns(mine: Path) -> None:
    with pytest.raises(PlanError, match="returned list, return a Plan"):
        strategies.plan("mine_for_test:Wrong", 5)
    with pytest.raises(PlanError, match="over 2 ranks, not 5"):
        strategies.plan("mine_for_test:Wrong", 5, [1])


def test_plan_takes_names_strategies_and_plans() -> None:
    plan = strategies.plan("two-tree", 9)
    assert strategies.plan(strategies.TwoTree(), Topology.from_spec("kary:2", 9)) == plan
    assert strategies.plan(plan, 9) is plan
    with pytest.raises(PlanError, match="over 9 ranks, not 8"):
        strategies.plan(plan, 8)


def test_installed_strategies(mine: Path) -> None:
    package = mine.parent / "mine_for_test-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-for-test\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[flux_tree.strategies]\nzebra = mine_for_test:Reversed\n"
        "aardvark = mine_for_test:Nothing\nflat = mine_for_test:Reversed\n"
    )
    assert any(e.name == "zebra" for d in metadata.distributions() for e in d.entry_points)
    assert strategies.names()[-2:] == ["aardvark", "zebra"]
    assert strategies.get("zebra:2").plan(4).strategy == "mine"
    assert isinstance(strategies.get("flat"), strategies.Flat)
    with pytest.raises(PlanError, match="'aardvark': 'mine_for_test:Nothing' does not load"):
        strategies.get("aardvark")
    with pytest.raises(PlanError, match="did you mean 'zebra'"):
        strategies.get("zebrra")
    broken, good = strategies.describe()[-2:]
    assert "does not load" in broken.when
    assert good.when == "A chain from the last rank down."
    assert good.origin == "mine_for_test:Reversed"
