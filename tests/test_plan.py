from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_tree import strategies
from flux_tree.errors import PlanError
from flux_tree.plan import ABSENT, MAX_STRIPES, ROOT, Plan
from flux_tree.topology import Topology

TREE = [-1, 0, 0, 1, 1]


def test_what_a_plan_tells() -> None:
    plan = Plan(
        [[-1, 0, 1, 1, -2], [-1, 2, 0, 0, -2]], [True, True, False, True, False], strategy="mine"
    )
    assert (plan.stripes, plan.size, plan.depth, plan.max_load) == (2, 5, 2, 1.5)
    assert plan.load.tolist() == [1.5, 1.0, 0.5, 0.0, 0.0]
    assert plan.depths.tolist() == [[0, 1, 2, 2, -1], [0, 2, 1, 1, -1]]
    assert plan.present.tolist() == [True, True, True, True, False]
    assert plan.phase.tolist() == [0] * 5
    assert plan.summary == (
        "mine: 5 ranks, 2 trees, depth 2, max load 1.5, 3 keep the data, 1 relay"
    )
    assert repr(plan) == f"<Plan {plan.summary}>"
    assert plan.parents.dtype == plan.phase.dtype == plan.depths.dtype == np.int32
    assert plan.deliver.dtype == np.bool_
    for array in (plan.parents, plan.deliver, plan.phase, plan.depths, plan.load):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_defaults() -> None:
    plan = Plan([-1, 0, ABSENT])
    assert plan.parents.shape == (1, 3)
    assert plan.deliver.tolist() == [True, True, False]
    assert plan.strategy == "custom"
    assert ROOT == -1 and ABSENT == -2


@pytest.mark.parametrize(
    ("parents", "rank", "reason"),
    [
        ([[-1, 0, 0], [-1, 2, 1]], 1, "tree 1: rank 1 is cut off from rank 0 by a cycle"),
        ([[-1, 0, 3, 2]], 2, "tree 0: rank 2 is cut off from rank 0 by a cycle"),
        ([[-1, 1]], 1, "rank 1 is cut off from rank 0 by a cycle"),
        ([[-1, ABSENT, 1]], 2, "rank 2 is cut off: its parent 1 takes no part"),
        ([[-1, 0, 3]], 2, "rank 2 has parent 3, which is not a rank of 0-2"),
        ([[-1, 0, -3]], 2, "rank 2 has parent -3"),
        ([[-1, 0, -1]], 2, "rank 2 is a second root"),
        ([[0, 0, 0]], 0, "rank 0 is the root"),
        ([[ABSENT, 0]], 0, "rank 0 is the root"),
        ([[-1, 0, 0], [-1, 0, ABSENT]], 2, "rank 2 takes part in tree 0 but not in tree 1"),
        ([[-1, 0, ABSENT], [-1, 0, 0]], 2, "rank 2 takes part in tree 1 but not in tree 0"),
    ],
)
def test_refuses_what_would_not_deliver(parents: list[list[int]], rank: int, reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as info:
        Plan(parents)
    assert info.value.rank == rank
    assert "\n" not in str(info.value)


def test_refuses_to_deliver_to_who_is_absent() -> None:
    with pytest.raises(PlanError, match="rank 2 is to keep the data but takes no part") as info:
        Plan([-1, 0, ABSENT], [True, True, True])
    assert info.value.rank == 2


@pytest.mark.parametrize(
    ("phase", "rank", "reason"),
    [
        ([0, 1, 0, 0, 0], 3, "rank 3 is of phase 0 but its parent 1 in tree 0 only of phase 1"),
        ([1, 1, 1, 0, 1], 3, "rank 3 is of phase 0 but its parent 1"),
        ([-1, 0, 0, 0, 0], 0, "rank 0 is of phase -1"),
    ],
)
def test_refuses_phases_that_cannot_be(phase: list[int], rank: int, reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as info:
        Plan(TREE, phase=phase)
    assert info.value.rank == rank


def test_phases() -> None:
    plan = Plan(TREE, phase=[0, 0, 1, 1, 2])
    assert plan.summary.endswith("3 phases")


@pytest.mark.parametrize("stripes", [0, 65])
def test_refuses_numbers_of_trees(stripes: int) -> None:
    with pytest.raises(PlanError, match=f"{stripes} trees make no sense, give 1 to 64"):
        Plan(np.full((stripes, 1), -1, np.int32))
    assert Plan(np.full((MAX_STRIPES, 1), -1, np.int32)).stripes == 64


@pytest.mark.parametrize(
    "parents", [[], [[]], [[[-1]]], -1, [-1.0], "x", None, [[-1, 0], [-1]], [-1, 2**31]]
)
def test_refuses_what_is_no_parents(parents: object) -> None:
    with pytest.raises(PlanError):
        Plan(parents)


@pytest.mark.parametrize(
    ("deliver", "phase", "reason"),
    [
        ([True], None, "deliver has shape"),
        ([0, 1, 2, 0, 0], None, "deliver is not an array of booleans"),
        ([[True], [True, False]], None, "deliver is not an array of booleans"),
        (None, [0, 0], "phase has shape"),
        (None, [0.5] * 5, "phase: not an array of whole numbers"),
    ],
)
def test_refuses_other_arrays(deliver: object, phase: object, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        Plan(TREE, deliver, phase)


@given(st.data())
def test_any_parents_are_checked(data: st.DataObject) -> None:
    """A plan is accepted if and only if walking up from every rank ends at rank 0."""
    n = data.draw(st.integers(1, 7))
    stripes = data.draw(st.integers(1, 3))
    rank = st.integers(-2, n - 1)
    parents = [[-1] + [data.draw(rank) for _ in range(n - 1)] for _ in range(stripes)]
    out = {r for r in range(n) if parents[0][r] == ABSENT}

    def reaches(tree: list[int], rank: int) -> bool:
        for _ in range(n):
            if rank in (0, ABSENT, ROOT):
                break
            rank = tree[rank]
        return rank == 0

    good = all(
        reaches(tree, r) != (r in out) and (tree[r] == ABSENT) == (r in out)
        for tree in parents
        for r in range(n)
    )
    if good:
        plan = Plan(parents)
        assert plan.load.sum() * stripes == sum(p >= 0 for tree in parents for p in tree)
    else:
        with pytest.raises(PlanError):
            Plan(parents)


def test_cost() -> None:
    plan = strategies.get("kary:2").plan(7)  # max load 2, depth 2
    cost = plan.cost(bytes=100e6, bandwidth=10e6, latency=0.001, chunk=1e6)
    assert cost == pytest.approx(2 * 10 + 2 * (0.001 + 0.1))
    # data smaller than a chunk is a chunk of its size
    assert plan.cost(10e6, 10e6, 0, 1e9) == pytest.approx(2 * 1 + 2 * 1)
    assert strategies.get("chain").plan(1).cost(1e6, 1e6, 1, 1) == 0
    for bad in ((1, 0, 0, 0), (-1, 1, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1), (1, float("nan"), 0, 0)):
        with pytest.raises(PlanError, match="give a bandwidth above 0"):
            plan.cost(*bad)


# ---- JSON


@pytest.mark.parametrize("spec", ["two-tree", "middle-leaves:strict", "leaves", "edst"])
def test_json_and_back(spec: str) -> None:
    plan = strategies.get(spec).plan(Topology.from_spec("kary:2", 15))
    data = json.loads(plan.to_json())
    assert ("phase" in data) == bool(plan.phase.any())
    assert set(data) - {"phase"} == {"strategy", "parents", "deliver"}
    assert data["parents"] == plan.parents.tolist()
    assert all(isinstance(flag, bool) for flag in data["deliver"])
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert Plan.from_json(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not an object"),
        ({"parents": [[-1]]}, "'deliver' is missing"),
        ({"deliver": [True]}, "'parents' is missing"),
        ({"parents": [[-1]], "deliver": [True], "colour": 1}, "unknown key 'colour'"),
        ({"parents": [[-1]], "deliver": [True], "strategy": 1}, "'strategy' is 1"),
        ({"parents": [[-1, 0], [-1]], "deliver": [True]}, "parents: not an array"),
        ({"parents": [[-1, 0]], "deliver": [True, "yes"]}, "deliver is not an array of booleans"),
        ({"parents": [[-1, 1]], "deliver": [True, True]}, "cycle"),
    ],
)
def test_refuses_json(data: object, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        Plan.from_json(data)  # type: ignore[arg-type]


def test_equality() -> None:
    plan = Plan(TREE)
    assert plan == Plan([TREE])
    assert plan != Plan(TREE, strategy="other")
    assert plan != Plan(TREE, [True, True, True, True, False])
    assert plan != Plan(TREE, phase=[0, 0, 0, 0, 1])
    assert plan != TREE
