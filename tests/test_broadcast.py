"""The call: every strategy, every number of ranks, every kind of file; what is measured."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from support import difference, leftovers, make_payload

import flux_tree
from flux_tree import strategies

STRATEGIES = [
    "flat",
    "chain",
    "kary:3",
    "binomial",
    "mincrit",
    "mincrit:2",
    "tbon",
    "two-tree",
    "multi-tree",
    "multi-tree:4",
    "edst",
    "split-binary",
    "scatter-allgather:5",
    "rack:3",
    "all",
    "leaves",
    "middle-leaves",
    "middle-leaves:strict",
    "auto",
]
#: Numbers of ranks: the small ones, and such as are and are not powers of two. test_strategies
#: looks at the plans of any.
SOME = (*range(1, 10), 16, 17, 33)
REST = tuple(sorted(set(range(1, 41)) - set(SOME)))


@pytest.fixture(scope="module")
def payload(tmp_path_factory):
    return make_payload(tmp_path_factory.mktemp("payload") / "payload")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Enough for some chunks a tree, and quick to compare a thousand times."""
    top = tmp_path_factory.mktemp("small") / "small"
    (top / "sub").mkdir(parents=True)
    rng = random.Random(2)
    (top / "data").write_bytes(rng.randbytes(30_000))
    (top / "sub" / "little").write_bytes(rng.randbytes(100))
    (top / "link").symlink_to("data")
    return top


def send(source, to: Path, strategy="two-tree", ranks=4, **options):
    options.setdefault("bandwidth", 1e9)
    return flux_tree.broadcast(source, to / "{rank}", strategy, ranks=ranks, **options)


def test_every_builtin_strategy_is_tested():
    assert {s.partition(":")[0] for s in STRATEGIES} == {d.name for d in strategies.describe()}


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(SOME, id="some"),
        pytest.param(REST, id="rest", marks=pytest.mark.slow),  # SOME has most of it
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_delivers_every_byte(strategy, numbers, small, tmp_path):
    for n in numbers:
        to = tmp_path / str(n)
        to.mkdir()
        result = send(
            small,
            to,
            strategy,
            n,
            topology="kary:2",
            chunk_size=4096,
            security="tls" if n % 2 else "none",
        )
        keep = np.flatnonzero(result.plan.deliver)
        assert len(keep)
        assert sorted(os.listdir(to)) == sorted(map(str, keep))
        for rank in keep:
            assert difference(small, to / str(rank)) == ""
        summary = result.summary()
        assert summary["retries"] == summary["bad_chunks"] == 0
        took_part = result.records[1:][result.plan.present[1:]]
        assert (took_part["bytes_in"] == result.bytes).all()


def test_the_record_says_who_sent_what(payload, tmp_path):
    result = send(payload, tmp_path, "two-tree", 7, chunk_size=4096)
    records, plan = result.records, result.plan
    assert (records["rank"] == np.arange(7)).all()
    assert (records["parents"][:, :2] == plan.parents.T).all()
    assert records["bytes_out"].sum() == records["bytes_in"].sum() == 6 * result.bytes
    chunks = -(-result.bytes // 4096)
    assert (records["chunks_in"][1:] == chunks).all()
    of_tree = [len(range(s, chunks, 2)) for s in range(2)]
    sent = sum(np.bincount(plan.parents[s][1:], minlength=7) * of_tree[s] for s in range(2))
    assert (records["chunks_out"] == sent).all()


def test_times_are_in_order(payload, tmp_path):
    r = send(payload, tmp_path, "chain", 6).records[1:]
    order = ("started", "connected", "first_byte", "last_byte", "verified", "renamed")
    for earlier, later in zip(order, order[1:]):
        assert (r[earlier] <= r[later]).all(), (earlier, later)
    assert (r["started"] >= 0).all()
    # nobody renames before all have verified
    assert r["renamed"].min() >= r["verified"].max()


def test_a_measured_clock_is_right_within_its_error(payload, tmp_path):
    r = send(payload, tmp_path, "chain", 6, measure_clock=True).records
    # all ranks share one clock, so the offset to be found is 0
    assert (np.abs(r["clock_offset"]) <= r["clock_error"]).all()
    assert (r["clock_error"][1:] > 0).all()
    assert (np.diff(r["clock_error"]) > 0).all(), "the error adds up along the chain"


def test_one_machine_is_one_clock(payload, tmp_path):
    r = send(payload, tmp_path, "chain", 4).records
    assert (r["clock_offset"] == 0).all() and (r["clock_error"] == 0).all()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1_000_000])
def test_a_single_file(size, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(random.Random(size).randbytes(size))
    source.chmod(0o640)
    result = send(source, tmp_path, "edst", 5, chunk_size=4096)
    assert result.bytes == size and result.files == 1
    for rank in range(5):
        assert difference(source, tmp_path / str(rank)) == ""


def test_an_existing_directory_receives_the_source_under_its_name(payload, tmp_path):
    for rank in range(3):
        (tmp_path / str(rank)).mkdir()
    send(payload, tmp_path, ranks=3)
    for rank in range(3):
        assert difference(payload, tmp_path / str(rank) / "payload") == ""


def test_holes_stay_holes_and_do_not_travel(tmp_path):
    source = tmp_path / "sparse"
    with source.open("wb") as f:
        f.truncate(200 << 20)
        f.seek(100 << 20)
        f.write(os.urandom(5000))
    result = send(source, tmp_path, "chain", 3)
    assert result.bytes < 1 << 20
    for rank in range(3):
        copy = tmp_path / str(rank)
        assert copy.stat().st_blocks * 512 < 1 << 20
        assert difference(source, copy) == ""


def test_relays_keep_nothing(payload, tmp_path):
    result = send(payload, tmp_path, "leaves", 15, topology="kary:2")
    relays = ~result.plan.deliver & result.plan.present
    assert relays[1:].any()
    assert (result.records["bytes_out"][relays] > 0).all()
    assert sorted(map(int, os.listdir(tmp_path))) == list(np.flatnonzero(result.plan.deliver))
    assert leftovers(tmp_path) == []


def test_strict_phases_do_not_overlap(payload, tmp_path):
    result = send(payload, tmp_path, "middle-leaves:strict", 15, topology="kary:2")
    r, phase = result.records, result.plan.phase
    assert set(phase) == {0, 1}
    assert r["started"][phase == 1].min() >= r["verified"][phase == 0].max()


def test_members_only(payload, tmp_path):
    result = send(payload, tmp_path, "binomial", 9, members=[2, 5, 7])
    assert sorted(os.listdir(tmp_path)) == ["2", "5", "7"]
    assert [row["rank"] for row in result.rows()] == [0, 2, 5, 7]


def test_a_plan_of_ones_own(payload, tmp_path):
    plan = flux_tree.Plan([[-1, 0, 1, 1], [-1, 3, 3, 0]])
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", plan, bandwidth=1e9)
    assert result.plan == plan
    for rank in range(4):
        assert difference(payload, tmp_path / str(rank)) == ""


def test_several_threads_a_rank(payload, tmp_path):
    result = send(payload, tmp_path, "multi-tree:4", 9, workers=4, chunk_size=4096)
    assert result.summary()["retries"] == 0
    for rank in range(9):
        assert difference(payload, tmp_path / str(rank)) == ""


def test_memory_is_bounded_whatever_the_size(tmp_path):
    source = tmp_path / "file"
    with source.open("wb") as f:
        for _ in range(200):
            f.write(os.urandom(1 << 20))
    result = send(source, tmp_path, "two-tree", 4, overwrite=True)
    assert result.chunk_size == 1 << 20
    assert result.records["memory"].max() < 64 << 20


def test_progress_can_be_followed(tmp_path):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(64 << 20))
    seen = []
    send(source, tmp_path, "chain", 3, progress=lambda r: seen.append(r["bytes_in"].copy()))
    assert len(seen) > 1
    assert all((b >= a).all() for a, b in zip(seen, seen[1:]))
    assert (seen[-1] <= 64 << 20).all()


def test_the_root_does_not_copy_onto_itself(tmp_path):
    for rank in range(3):
        (tmp_path / str(rank)).mkdir()
    source = make_payload(tmp_path / "0" / "payload")
    before = source.stat().st_ino
    send(source, tmp_path, "flat", 3, overwrite=True)
    assert source.stat().st_ino == before
    for rank in range(3):
        assert difference(source, tmp_path / str(rank) / "payload") == ""


def test_overwrite_replaces_whatever_stands_there(payload, tmp_path):
    (tmp_path / "1").write_text("a file")
    (tmp_path / "2").symlink_to("nowhere")
    send(payload, tmp_path, ranks=3, overwrite=True)
    for rank in range(3):
        assert difference(payload, tmp_path / str(rank)) == ""
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
    source = tmp_path / "new"
    source.write_bytes(b"new")
    # as in cp, a directory receives the source
    send(source, tmp_path, ranks=3, overwrite=True)
    assert (tmp_path / "1" / "new").read_bytes() == b"new"


def test_the_source_may_be_a_link_and_a_relative_path(payload, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(payload)
    monkeypatch.chdir(tmp_path)
    flux_tree.broadcast("link", "copy-{rank}", ranks=2, bandwidth=1e9)
    assert difference(payload, tmp_path / "copy-1") == ""
    monkeypatch.chdir(payload)
    flux_tree.broadcast(".", tmp_path / "dot-{rank}", ranks=2, bandwidth=1e9)
    assert difference(payload, tmp_path / "dot-1") == ""


def test_what_lies_in_the_current_directory_does_not_matter(payload, tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.mkdir()
    for name in ("json", "socket", "mmap", "select"):
        (there / f"{name}.py").write_text("raise SystemExit('not the one of the library')\n")
    monkeypatch.chdir(there)
    monkeypatch.setenv("PYTHONPATH", str(there))
    send(payload, tmp_path, ranks=2)
    assert not difference(payload, tmp_path / "1")


def test_the_summary_and_its_json(payload, tmp_path):
    result = send(payload, tmp_path, "chain", 5, bandwidth=2e6)
    summary = result.summary()
    assert summary["ranks"] == 5 and summary["strategy"] == "chain"
    assert summary["limit_s"] == pytest.approx(result.bytes / 2e6)
    verified = result.records["verified"][1:]
    assert summary["slowest_s"] == verified.max()
    assert summary["median_s"] == pytest.approx(np.median(verified))
    assert summary["limit_ratio"] == pytest.approx(verified.max() / summary["limit_s"])
    assert summary["limit_percent"] == pytest.approx(100 / summary["limit_ratio"])
    data = json.loads(result.to_json())
    assert data["summary"] == json.loads(json.dumps(summary))
    assert [r["rank"] for r in data["records"]] == list(range(5))
    assert data["records"][1]["parents"] == [0]
    assert data["records"][0]["first_byte"] is None


def test_the_bandwidth_is_measured_if_not_given(payload, tmp_path):
    result = send(payload, tmp_path, ranks=2, bandwidth=None)
    assert 1e7 < result.bandwidth < 1e12
