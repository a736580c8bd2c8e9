"""The picture of a broadcast."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import flux_tree
from flux_tree import DestinationError, UsageError, _records, strategies
from flux_tree._records import Result
from flux_tree.plot import check_picture, plot_result

pytest.importorskip("matplotlib")


def make_result(strategy, n, *, topology=None, members=None, size=1 << 30, bandwidth=1e9):
    """Return a result such as a broadcast has, without one: each hop adds some time."""
    plan = strategies.plan(strategy, topology or n, members)
    records = _records.allocate(n)
    for name in _records.TIMES:
        records[name] = np.nan
    there = plan.present
    hops = plan.depths.max(axis=0)
    records["deliver"] = plan.deliver
    records["state"][there] = _records.STATES.index("complete")
    records["parents"][:, : plan.stripes] = plan.parents.T
    records["started"][there] = 0.01
    others = there & (np.arange(n) > 0)
    records["connected"][others] = 0.02
    records["first_byte"][others] = 0.05 * hops[others]
    records["last_byte"][others] = 1.5 + 0.05 * hops[others]
    records["verified"][there] = 1.6 + 0.05 * hops[there]
    keeps = there & plan.deliver
    records["renamed"][keeps] = records["verified"][there].max() + 0.01
    records["bytes_in"][others] = size
    return Result(
        plan=plan,
        records=records,
        source="source",
        destination="to-{rank}",
        bytes=size,
        files=1,
        chunk_size=1 << 20,
        engine="local",
        security="tls",
        bandwidth=bandwidth,
        elapsed=3.0,
    )


def texts(path):
    """Return the texts in an SVG: matplotlib names each in a comment beside its glyphs."""
    return re.findall(r"<!-- (.*?) -->", path.read_text())


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("A.PDF", b"%PDF")]
)
def test_a_broadcast_is_drawn_in_the_format_of_the_name(tmp_path, name, magic):
    (tmp_path / "source").write_bytes(b"x" * 200_000)
    result = flux_tree.broadcast(tmp_path / "source", tmp_path / "to-{rank}", ranks=3)
    result.plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 40, 200, 500])
@pytest.mark.parametrize("strategy", ["chain", "two-tree", "kary:3"])
def test_any_number_of_ranks(tmp_path, strategy, n):
    path = tmp_path / "a.svg"
    plot_result(make_result(strategy, n), path)
    shown = texts(path)
    assert f"{strategy}: 1 GiB to {n} rank{'' if n == 1 else 's'}" in shown
    assert "the limit, 1.07 s" in shown
    assert "rank 0 reads the source" in shown
    assert ("receives" in shown) == (n > 1)
    ranks = [t for t in shown if t.isdecimal()]
    assert ranks[0] == "0" or "0" in ranks
    if n <= 40:
        assert set(map(str, range(n))) <= set(ranks)


def test_the_figures_are_in_the_title(tmp_path):
    result = make_result("two-tree", 8)
    plot_result(result, tmp_path / "a.svg")
    line = next(t for t in texts(tmp_path / "a.svg") if t.startswith("slowest"))
    s = result.summary()
    assert f"(rank {s['slowest_rank']})" in line
    assert f"{s['limit_percent']:.3g}% of the limit" in line
    assert "2 trees, depth 3" in line


@pytest.mark.parametrize(
    ("strategy", "n", "drawn"),
    [("chain", 8, 0), ("two-tree", 8, 2), ("multi-tree:4", 40, 4), ("two-tree", 100, 1)],
)
def test_other_trees_are_drawn_if_they_are_few(tmp_path, strategy, n, drawn):
    plot_result(make_result(strategy, n), tmp_path / "a.svg")
    shown = [t for t in texts(tmp_path / "a.svg") if re.fullmatch(r"tree \d of \d", t)]
    assert len(shown) == drawn


def test_relays_are_named_and_absent_ranks_left_out(tmp_path):
    result = make_result("leaves", 8, topology=flux_tree.Topology.from_spec("kary:2", 8))
    plot_result(result, tmp_path / "a.svg")
    shown = texts(tmp_path / "a.svg")
    assert "leaves: 1 GiB to 1 rank through 2 relays" in shown
    assert {"0", "relay 1", "relay 3", "7"} <= set(shown)
    assert not {"2", "4", "5", "6"} & set(shown)


def test_nothing_to_move(tmp_path):
    plot_result(make_result("chain", 4, size=0), tmp_path / "a.svg")
    assert "the limit, 0 s" in texts(tmp_path / "a.svg")


def test_what_cannot_be_written_is_refused(tmp_path):
    result = make_result("chain", 2)
    for name in ("a.foo", "a", ".png"):
        for refuse in (check_picture, result.plot):
            with pytest.raises(UsageError, match="png"):
                refuse(tmp_path / name)
    for refuse in (check_picture, result.plot):
        with pytest.raises(DestinationError, match="none"):
            refuse(tmp_path / "none" / "a.png")
    assert list(tmp_path.iterdir()) == []
    check_picture(tmp_path / "a.png")


def test_without_matplotlib_it_is_one_line_before_any_work(tmp_path):
    (tmp_path / "source").write_bytes(b"x")
    code = (
        "import sys; sys.modules['matplotlib'] = None; from flux_tree.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    picture = str(tmp_path / "a.png")
    for args in (
        ["bcast", str(tmp_path / "source"), str(tmp_path / "to-{rank}"), "--plot", picture],
        ["topology", "kary:2", "--size", "4", "--draw", picture],
    ):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"flux-tree: error: .*pip install \"flux-tree\[plot\]\"\n", done.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
