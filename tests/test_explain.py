"""After a run: what was predicted of it, where the time went, and who was slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from flux_support import SET_UP, flux_tree, in_instance

from flux_tree import Result, UsageError, _records, broadcast, model, strategies
from flux_tree._model.explain import SIMULATE_MOST
from flux_tree._model.parts import PARTS
from flux_tree.lab import Lab
from flux_tree.model import Network, explain, predict

MBIT = 125_000.0


@pytest.fixture(autouse=True)
def no_calibration(tmp_path, monkeypatch):
    """Have nobody's own numbers of a network in these tests."""
    monkeypatch.delenv("FLUX_TREE_NETWORK", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def send(to, strategy="two-tree", size=3_000_000, ranks=8, **options):
    (to / "source").write_bytes(os.urandom(size))
    return broadcast(to / "source", to / "copy-{rank}", strategy, ranks=ranks, **options)


def check_parts(result):
    """Check that the parts of all ranks add up to what was measured, and are none below 0."""
    explanation = explain(result)
    times = result.records["verified"]
    assert tuple(explanation.parts) == PARTS
    assert np.allclose(sum(explanation.parts.values()), times, equal_nan=True)
    for part in explanation.parts.values():
        assert (part[np.isfinite(times)] >= 0).all()
    return explanation


# ---- where the time went


@pytest.mark.parametrize(
    ("strategy", "ranks", "size"),
    [
        ("chain", 6, 3_000_000),
        ("two-tree", 8, 3_000_000),
        ("kary:2", 7, 3_000_000),
        ("multi-tree:4", 9, 3_000_000),
        ("middle-leaves", 8, 500_000),
        ("flat", 1, 500_000),
        ("two-tree", 3, 0),
        ("two-tree", 3, 1),
    ],
)
def test_parts_add_up(tmp_path, strategy, ranks, size):
    result = send(tmp_path, strategy, size, ranks, bandwidth=1e9)
    explanation = check_parts(result)
    assert np.isfinite(explanation.measured).all()
    assert explanation.slow == (), "ranks of one machine have no interface of their own"
    summary = result.summary()
    assert summary["parts"] == explanation.of(summary["slowest_rank"])
    assert sum(summary["parts"].values()) == pytest.approx(summary["slowest_s"])


def test_parts_of_several_threads_and_without_encryption(tmp_path):
    check_parts(send(tmp_path, "multi-tree:4", ranks=5, workers=4, security="none"))


def test_who_takes_no_part_has_no_parts(tmp_path):
    result = send(tmp_path, "leaves", ranks=8, topology="kary:2", members=[7])
    explanation = check_parts(result)
    absent = ~result.plan.present
    assert absent.any() and np.isnan(explanation.parts["link"][absent]).all()


def test_a_wait_for_the_phase_is_a_wait(tmp_path):
    result = send(tmp_path, "middle-leaves:strict", 500_000, 8, topology="kary:2")
    later = result.plan.phase > 0
    assert later.any()
    begun = result.records["started"][later]
    assert (explain(result).parts["waiting"][later] >= begun - 1e-9).all()


def test_links_are_measured_of_each_tree(tmp_path):
    result = send(tmp_path, "multi-tree:3", 30_000_000, 6)
    records = result.records
    assert (records["links"][:, 3:] == 0).all() and (records["links"][0] == 0).all()
    assert (records["links"] >= 0).all() and records["links"].any()
    assert (records["wait_link"] <= records["wait_data"]).all()
    row = result.rows()[1]
    assert len(row["links"]) == 3 and row["wait_link"] == records["wait_link"][1]


def test_one_thread_waits_for_no_tree_longer_than_for_all(tmp_path):
    records = send(tmp_path, "chain", 30_000_000, 4, workers=1).records
    assert (records["links"][:, 0] <= records["wait_link"]).all()


def test_without_the_new_fields_the_bandwidth_stands_for_the_link(tmp_path):
    result = send(tmp_path, "chain", ranks=3)
    records = result.records.copy()
    records["wait_link"], records["links"] = 0.0, 0.0
    records["wait_data"] = 0.5 * (records["verified"] - records["connected"])
    wait = records["wait_data"][2]
    for bandwidth, link in ((1e9, min(wait, result.bytes / 1e9)), (1e3, wait), (None, 0.0)):
        parts = check_parts(replace(result, records=records, bandwidth=bandwidth)).parts
        assert parts["link"][2] == pytest.approx(link)
        assert parts["waiting"][2] == pytest.approx(wait - link)


# ---- predicted beside measured


def test_a_calibration_predicts(tmp_path, monkeypatch):
    result = send(tmp_path, "chain", ranks=4)
    network = Network(2e8, per_chunk=5e-4, origin="lab, 2026-01-01", rates={2: 1e8})
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(network.save(tmp_path / "network.json")))

    # the run knows its bandwidth, the calibration what things cost; the ranks share processors
    explanation = explain(result)
    used = explanation.prediction.network
    assert (used.bandwidth, used.per_chunk) == (result.bandwidth, 5e-4)
    assert (used.processors, used.rates) == (os.cpu_count(), {})
    assert "lab, 2026-01-01" in used.origin

    # of a job, the calibration is all there is
    job = replace(result, engine="flux", bandwidth=None)
    explanation = explain(job)
    assert explanation.prediction.network == network
    expected = predict(
        job.plan, job.bytes, network, chunk_size=job.chunk_size, method="simulation"
    ).records["verified"]
    assert np.array_equal(explanation.predicted[1:], expected[1:])
    assert np.isnan(explanation.predicted[0])
    assert explanation.time == expected[1:].max()
    assert np.allclose(
        explanation.ratio[1:], result.records["verified"][1:] / explanation.predicted[1:]
    )
    summary, rows = job.summary(), job.rows()
    assert summary["predicted_s"] == explanation.time
    assert summary["predicted_ratio"] == summary["slowest_s"] / explanation.time
    assert [row["predicted"] for row in rows] == [None, *expected[1:].tolist()]
    text = str(job)
    assert "MODEL/s" in text and f"{expected[3]:.3f}" in text
    assert "lab, 2026-01-01" in text and "time went" in text
    json.loads(job.to_json())


def test_the_network_may_be_given(tmp_path):
    result = send(tmp_path, "chain", ranks=3)
    fast, slow = Network(1e9), Network(1e6)
    assert explain(result, slow).time > 2.9 > explain(result, fast).time
    assert explain(result, slow).prediction.network == slow
    with pytest.raises(UsageError, match="groups of 2 ranks"):
        explain(result, Network(1e9, groups=(0, 1), uplink=1e8))


def test_without_a_bandwidth_nothing_is_predicted(tmp_path):
    result = replace(send(tmp_path, "chain", ranks=3), engine="flux", bandwidth=None)
    explanation = check_parts(result)
    assert explanation.prediction is None and explanation.note == ""
    assert np.isnan(explanation.predicted).all() and np.isnan(explanation.ratio).all()
    summary = result.summary()
    assert summary["predicted_s"] is None and summary["predicted_ratio"] is None
    assert summary["parts"] is not None and summary["slow_ranks"] == []
    text = str(result)
    assert "MODEL/s" not in text and "predicted" not in text and "time went" in text


def test_a_bad_calibration_spoils_no_result(tmp_path, monkeypatch):
    result = send(tmp_path, "chain", ranks=3)
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(tmp_path / "none.json"))
    assert "none.json: there is no such file" in explain(result).note
    line = next(line for line in str(result).splitlines() if line.startswith("predicted"))
    assert "unknown" in line and "none.json" in line
    # numbers of other ranks are left out
    network = Network(1e9, groups=(0, 0, 1, 1, 1), uplink=1e8, rates={7: 1e6})
    monkeypatch.setenv("FLUX_TREE_NETWORK", str(network.save(tmp_path / "other.json")))
    explanation = explain(replace(result, engine="flux"))
    assert explanation.note == "" and explanation.prediction.network.groups is None


def test_a_prediction_has_nothing_to_explain():
    prediction = predict(strategies.plan("chain", 4), 1 << 20, Network(1e9))
    assert prediction.explanation is None and prediction.summary()["parts"] is None
    with pytest.raises(UsageError, match="prediction"):
        explain(prediction)


def as_measured(strategy, n, size, network=None, **changes):
    """Return a prediction as if it had been measured in a job, each rank on a host of its own."""
    network = network or Network(12e6)
    prediction = predict(strategies.plan(strategy, n), size, network, method="closed-form")
    fields = {name: getattr(prediction, name) for name in Result.__dataclass_fields__}
    fields.update(records=prediction.records.copy(), engine="flux", measured=True)
    fields.update(hosts=tuple(f"node{r}" for r in range(n)), network=None)
    return Result(**{**fields, **changes})


def test_many_ranks_are_predicted_by_the_formula():
    many = as_measured("two-tree", 3000, 1 << 30)
    assert many.bytes / many.chunk_size * many.plan.size > SIMULATE_MOST
    explanation = explain(many)
    assert explanation.prediction.method == "closed-form"
    assert np.allclose(explanation.ratio[1:], 1.0)
    few = as_measured("two-tree", 30, 1 << 24)
    assert explain(few).prediction.method == "simulation"


def test_the_content_transport_is_predicted():
    result = as_measured("kary:2", 7, 20 << 20, transport="content", chunk_size=0)
    explanation = explain(result)
    assert explanation.prediction.transport == "content"
    expected = predict(
        result.plan, result.bytes, explanation.prediction.network, transport="content", window=16
    )
    assert explanation.time == expected.time
    assert explanation.slow == ()


def test_the_prediction_is_in_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    result = send(tmp_path, "chain", ranks=3, bandwidth=1e8)
    result.plot(tmp_path / "with.svg")
    assert "<!-- predicted -->" in (tmp_path / "with.svg").read_text()
    replace(result, engine="flux", bandwidth=None).plot(tmp_path / "without.svg")
    assert "<!-- predicted -->" not in (tmp_path / "without.svg").read_text()


# ---- slow ranks, from records


def with_links(strategy, n, seconds, size=4 << 20, **changes):
    """Return a result whose links were waited for as long as `seconds` says of each receiver."""
    result = as_measured(strategy, n, size, **changes)
    records = result.records
    records["parents"][:, : result.plan.stripes] = result.plan.parents.T
    records["first_byte"][1:] = 0.1
    records["last_byte"][1:] = 0.1 + size / 12e6
    for rank, took in seconds.items():
        records["links"][rank, : result.plan.stripes] = took
        records["wait_link"][rank] = records["wait_data"][rank] = took
        records["last_byte"][rank] = max(records["last_byte"][rank], took + 0.15)
    records["verified"][1:] = records["last_byte"][1:]
    return result


def named(result):
    return [slow.rank for slow in result.explanation.slow]


LINE = (4 << 20) / 12e6  # seconds that the data takes on one NIC
HEALTHY = {1: LINE, 2: LINE, 3: LINE, 4: LINE, 5: LINE, 6: LINE, 7: LINE}


@pytest.mark.parametrize(
    ("strategy", "seconds", "slow"),
    [
        ("chain", HEALTHY, []),
        # what is below the slow one comes piece by piece, each as fast as ever
        ("chain", {**HEALTHY, 4: 5 * LINE, 5: 0.5 * LINE, 6: 0.5 * LINE, 7: 0.5 * LINE}, [4]),
        ("chain", {**HEALTHY, 4: 5 * LINE, 5: 5 * LINE}, [4]),
        ("chain", {**HEALTHY, 7: 5 * LINE}, [7]),
        ("chain", {**HEALTHY, 1: 5 * LINE}, [0]),
        ("chain", {**HEALTHY, 1: 5 * LINE, 2: 5 * LINE}, [1]),
        # a lost packet, or noise
        ("chain", {**HEALTHY, 4: LINE + 0.2}, []),
        ("chain", {**HEALTHY, 4: 1.9 * LINE}, []),
        ("flat", dict.fromkeys(range(1, 8), 7 * LINE), []),
        # its part of its parent's NIC is no less than all others have
        ("flat", dict.fromkeys(range(1, 7), 6.9 * LINE) | {7: 7 * LINE}, []),
        ("kary:2", dict.fromkeys(range(1, 8), 2 * LINE), []),
        ("kary:2", {**dict.fromkeys(range(1, 8), 2 * LINE), 5: 5 * LINE}, [5]),
        # rank 1 and what it sends
        ("kary:2", {1: 5 * LINE, 2: 1.3 * LINE, 3: 10 * LINE, 4: 10 * LINE, 5: 2 * LINE,
                    6: 2 * LINE, 7: LINE}, [1]),
        # it receives well and sends slowly
        ("kary:2", {1: 2 * LINE, 2: 2 * LINE, 3: 10 * LINE, 4: 10 * LINE, 5: 2 * LINE,
                    6: 2 * LINE, 7: LINE}, [1]),
        ("two-tree", dict.fromkeys(range(1, 8), LINE), []),
        ("two-tree", {**dict.fromkeys(range(1, 8), LINE), 5: 5 * LINE}, [5]),
    ],
)  # fmt: skip
def test_slow_links_are_understood(strategy, seconds, slow):
    result = with_links(strategy, 8, seconds)
    assert named(result) == slow
    for entry in result.summary()["slow_ranks"]:
        assert entry["host"] == f"node{entry['rank']}"
        assert entry["rate"] < entry["expected"] <= 12e6 + 1
        line = f"slow rank   {entry['rank']} (host node{entry['rank']})"
        assert any(text.startswith(line) for text in str(result).splitlines())


def test_who_is_not_judged():
    slow = {**HEALTHY, 4: 5 * LINE}
    assert named(with_links("chain", 8, slow)) == [4]
    hosts = ("node0", *(f"node{r}" for r in range(7)))
    assert named(with_links("chain", 8, slow, hosts=hosts)) == [], "two share a NIC"
    result = with_links("chain", 8, slow)
    result.records["parents"][4, 0] = 2
    assert named(result) == [], "its parent was lost, so who sent what is not known"
    # what is known to be slow is not slower than the model allows
    known = Network(12e6, rates={4: 12e6 / 5})
    assert model.explain(with_links("chain", 8, slow), known).slow == ()
    assert [s.rank for s in model.explain(with_links("chain", 8, slow), Network(12e6)).slow] == [4]


def test_racks_share_an_uplink():
    """What comes through a narrow uplink is as slow as that, not as its receiver."""
    result = with_links("chain", 8, {**HEALTHY, 4: 5 * LINE})
    racks = Network(12e6, groups=(0, 0, 0, 0, 1, 1, 1, 1), uplink=12e6 / 5)
    assert named(result) == [4]
    assert explain(result, racks).slow == ()
    told = replace(result, network=racks)
    assert named(told) == [] and told.explanation.prediction.network == racks


def test_without_a_bandwidth_the_fastest_interface_is_the_measure():
    assert named(with_links("chain", 8, HEALTHY, bandwidth=None)) == []
    assert named(with_links("chain", 8, {**HEALTHY, 4: 5 * LINE}, bandwidth=None)) == [4]


@pytest.mark.parametrize(
    ("field", "rank", "word"),
    [("wait_disk", 3, "writing"), ("wait_disk", 0, "reading"), ("cpu", 3, "processor")],
)
def test_ones_own_work_is_told_from_the_network(field, rank, word):
    result = with_links("chain", 8, dict.fromkeys(range(1, 8), 0.2 * LINE))
    records = result.records
    records["verified"][:] = 3.0
    records["wait_data"][1:] = 2.5
    records["wait_data"][rank] = 0.1
    records[field][rank] = 2.5
    (slow,) = result.explanation.slow
    assert slow.rank == rank and word in slow.reason and slow.rate < slow.expected
    if field == "cpu":  # which the hosts of a lab share
        assert replace(result, engine="lab").explanation.slow == ()


def test_a_slow_disk_makes_no_slow_child():
    """While a rank waits for its disk, the chunk that it sends stands still."""
    result = with_links("chain", 8, {**HEALTHY, 3: 0.1, 4: 4 * LINE})
    records = result.records
    assert named(result) == [4]
    records["wait_data"][3], records["wait_link"][3] = 0.1, 0.1
    records["wait_disk"][3], records["verified"][3] = 1.3, 1.5
    assert named(replace(result)) == [3]


def test_who_has_to_pass_on_more_works_more():
    """Where processors are the limit, ranks with children have more to do, as the plan has it."""
    result = with_links("kary:2", 15, {})
    records = result.records
    records["verified"][:] = 4.0
    records["cpu"] = 4.0 * (records["bytes_in"] + records["bytes_out"]) / (3 * result.bytes)
    records["wait_data"] = np.maximum(4.0 - records["cpu"], 0.0)
    assert named(result) == []
    records["cpu"][9] = 3.0  # a leaf, which has no reason to
    records["wait_data"][9] = 1.0
    assert named(replace(result)) == [9]


# ---- real runs


SLOW = [
    (2, ["chain", "two-tree"]),  # inner in all of them
    pytest.param(2, ["kary:2", "binomial"], marks=pytest.mark.slow),
    pytest.param(7, ["chain", "binomial"], marks=pytest.mark.slow),  # a leaf
]


@pytest.mark.lab
@pytest.mark.parametrize(("host", "names"), SLOW)
def test_one_run_names_a_slow_interface(tmp_path, host, names):
    (tmp_path / "source").write_bytes(os.urandom(4 << 20))
    rate = 100 * MBIT
    with Lab(8, rate, slow={host: rate / 5}) as lab:
        for name in names:
            result = lab.broadcast(tmp_path / "source", tmp_path / f"{name}-{{rank}}", name)
            check_parts(result)
            (slow,) = result.explanation.slow
            assert (slow.rank, slow.host) == (host, f"lab{host}"), (name, slow)
            assert "NIC" in slow.reason and slow.rate < slow.expected / 2
            assert f"slow rank   {host} (host lab{host})" in str(result)


@pytest.mark.lab
def test_a_healthy_lab_names_nobody(tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(4 << 20))
    with Lab(8, 100 * MBIT) as lab:
        for name in ["chain", "two-tree", "kary:2", "binomial"]:
            result = lab.broadcast(tmp_path / "source", tmp_path / f"{name}-{{rank}}", name)
            explanation = check_parts(result)
            assert explanation.slow == (), name
            assert explanation.prediction.network.processors == os.cpu_count()


@pytest.mark.lab
def test_command_line_of_the_lab_names_it_too(tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(2 << 20))
    command = [sys.executable, "-m", "flux_tree", "lab", "--hosts", "5", "--slow", "3=20mbit"]
    command += ["bcast", tmp_path / "source", tmp_path / "{rank}", "--strategy", "chain", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    data = json.loads(done.stdout)
    (slow,) = data["summary"]["slow_ranks"]
    assert (slow["rank"], slow["host"]) == (3, "lab3")
    assert data["summary"]["predicted_s"] > 0 and data["records"][4]["predicted"] > 0


@pytest.mark.flux
def test_the_report_of_a_job_has_it_all(tmp_path):
    (tmp_path / "source").write_bytes(os.urandom(20_000_000))
    report = tmp_path / "report.json"
    script = f"""
        flux run -N3 -o tree-bcast.file={tmp_path}/source -o tree-bcast.report={report} \\
            -o tree-bcast.destination={tmp_path}/copy-{{rank}} -o tree-bcast=chain true
        {flux_tree("report", report, "--bandwidth", "1GB/s", "--json")}
    """
    env = {**SET_UP, "XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"]}
    env.pop("FLUX_TREE_NETWORK", None)
    done = in_instance(script, size=3, env=env)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    loaded = Result.load(report, bandwidth=1e9)
    explanation = check_parts(loaded)
    assert loaded.records["links"].any() and explanation.slow == ()
    assert np.isfinite(explanation.predicted[1:]).all()
    assert data["summary"] == json.loads(loaded.to_json())["summary"]
    assert data["summary"]["predicted_s"] == explanation.time
    # a report of before these were measured can still be read
    old = json.loads(report.read_text())
    for name in ("links", "wait_link"):
        at = old["fields"].index(name)
        del old["fields"][at]
        for row in old["records"]:
            del row[at]
    report.write_text(json.dumps(old))
    assert not check_parts(Result.load(report, 1e9)).result.records["links"].any()
    assert "links" in (_records.DTYPE.names or ())
