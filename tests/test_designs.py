from __future__ import annotations

import hashlib
import json

import pytest

from flux_tree.designs import Design, design_set, designs_json, designs_text, read_designs
from flux_tree.errors import TopologyError, UsageError
from flux_tree.topology import Topology


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_equals_the_study() -> None:
    """The study's kary-designs.json as it is, and as canonical JSON; its kary-designs.txt."""
    designs = design_set()
    text = designs_json(designs)
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert len(designs) == 265
    assert sha256(canonical) == "d05089ae10e746882f8f5565100f4f175663f87c5eb5fd86dd74d6bfecb7d7df"
    assert sha256(text) == "020245b3447105d32e9bee6db81ca2dcb912d6ee665408c54cfcb7512c1195d9"
    drawn = designs_text(designs, lambda rank: f"{rank} faa621ae1899: full")
    assert sha256(drawn) == "f8b4d7a3f9cd3b834e9783d72e337551baecf3cb166ebf38e3450a24bdef9661"


def test_literal_cases() -> None:
    specs: dict[int, list[str]] = {}
    for design in design_set(range(1, 9)):
        specs.setdefault(design.nodes, []).append(design.topo)
    assert specs == {
        1: ["binomial"],
        2: ["binomial"],
        3: ["kary:1"],  # all others have both ranks under the root
        4: ["binomial", "kary:1", "kary:2"],
        5: ["kary:1", "kary:2"],
        6: ["binomial", "kary:1", "kary:2", "kary:3"],
        7: ["binomial", "kary:1", "kary:2", "kary:3"],
        8: ["binomial", "kary:1", "kary:2", "kary:3", "kary:4"],
    }
    assert json.loads(designs_json(design_set([4])))[2] == {
        "nodes": 4,
        "topo": "kary:2",
        "levels": {"0": ["0"], "1": ["1", "2"], "2": ["3"]},
    }


def test_range_of_k() -> None:
    assert [d.topo for d in design_set([64], range(2, 5))] == [
        "binomial",
        "kary:2",
        "kary:3",
        "kary:4",
    ]
    assert design_set([]) == []


def test_text() -> None:
    assert designs_text(design_set([5], [1, 2])) == (
        "nodes-5-topo-kary:1\n0\n└─ 1\n   └─ 2\n      └─ 3\n         └─ 4\n\n"
        "nodes-5-topo-kary:2\n0\n├─ 1\n│  ├─ 3\n│  └─ 4\n└─ 2\n\n"
    )


def test_reads_what_it_writes() -> None:
    designs = design_set(range(1, 12))
    assert read_designs(designs_json(designs)) == designs
    entry = {"nodes": 3, "topo": "kary:1"}
    assert read_designs(json.dumps([entry])) == [Design(3, "kary:1", Topology([-1, 0, 1]))]


@pytest.mark.parametrize(
    "text", ["", "{}x", "[1]", '[{"nodes": 3}]', '[{"nodes": "x", "topo": "kary:1"}]', "3"]
)
def test_refuses_what_is_no_design_set(text: str) -> None:
    with pytest.raises(UsageError, match="not a JSON list"):
        read_designs(text)


def test_refuses_levels_that_flux_does_not_build() -> None:
    entry = {"nodes": 2, "topo": "kary:1", "levels": {"0": ["0", "1"]}}
    with pytest.raises(UsageError, match="nodes-2-topo-kary:1 has levels"):
        read_designs(json.dumps([entry]))


def test_refuses_sizes_and_k() -> None:
    with pytest.raises(TopologyError, match="size 0"):
        design_set([0])
    with pytest.raises(UsageError, match="K -1"):
        design_set([4], [-1])
