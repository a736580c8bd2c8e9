"""What an experiment measured, read and shown."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from flux_tree import DestinationError, SourceError, Topology, UsageError, strategies
from flux_tree.cli import main
from flux_tree.experiment import analyze
from flux_tree.experiment._compare import Spread, by_series, by_shape, shape_of
from flux_tree.experiment._csv import events_csv, events_from_csv, pings_csv, pings_from_csv
from flux_tree.experiment._figures import colors_of
from flux_tree.experiment._findings import _two
from flux_tree.experiment._sources import read
from flux_tree.experiment._table import Row, Table, natural, spec_of, topology_name

MIB = 2**20
STUDY_HEADER = ",uid,topology,iteration,nodes,event,size_gb,time_seconds"
EVENTS = {
    "all": ["create-archive", "distribute-all-nodes", "delete-archive-all-nodes"],
    "leaves": ["create-leaf-nodes", "distribute-leaf-nodes", "clean-leaf-nodes"],
    "middle-leaves": ["distribute-middle-nodes-0", "distribute-middle-nodes-1"],
}


def cell(rng, topology, strategy, transport, size, data, iteration, nodes=5, **more):
    """Return the result of a cell, as an experiment writes it, with drawn times."""
    backend = "lab" if transport == "direct" else "lab-flux"
    names = EVENTS.get(strategy, ["distribute-all-nodes"])
    if transport == "direct":
        names = [name for name in names if name.startswith("distribute")]
    events = [
        {"event": name, "time_s": rng.uniform(1, 2) * size / MIB, "ranks": nodes - 1}
        for name in names
    ]
    return {
        "cell": f"{backend}/{nodes}/{topology}/{strategy}/{transport}/{size}/{data}/{iteration}",
        "backend": backend,
        "nodes": nodes,
        "topology": topology,
        "strategy": strategy,
        "transport": transport,
        "bytes": size,
        "data": data,
        "iteration": iteration,
        "seed": 1,
        "status": "ok",
        "error": None,
        "started": 1.7e9,
        "elapsed_s": 3.0,
        "limit_s": size / 10e6,
        "events": events,
        "records": [
            {
                "rank": r,
                "depth": d,
                "first_byte": None,
                "verified": rng.uniform(1, 2),
                "bytes_in": size,
                "retries": 0,
            }
            for r, d in enumerate(Topology.from_spec(topology, nodes).depth.tolist())
            if r
        ],
        "pings": [],
        **more,
    }


def ping_cell(rng, topology, nodes=5, **more):
    """Return the result of a cell of pings."""
    depth = Topology.from_spec(topology, nodes).depth.tolist()
    pings = [
        {
            "rank": r,
            "hops": depth[r],
            "service": service,
            "bytes": size,
            "time_s": rng.random(),
            "iteration": 0,
        }
        for r in range(nodes)
        for service in ("broker", "kvs")
        for size in (0, 1024)
    ]
    base = cell(rng, topology, "ping", "ping", 0, "zeros", 0, nodes)
    return {**base, "limit_s": None, "events": [], "records": [], "pings": pings, **more}


def write(folder, cells, environment=None):
    """Write the folder of an experiment."""
    folder.mkdir(exist_ok=True)
    text = "".join(f"{json.dumps(entry)}\n" for entry in cells)
    (folder / "results.jsonl").write_text(text)
    if environment is not None:
        (folder / "environment.json").write_text(json.dumps(environment))
    return folder


@pytest.fixture
def cells():
    """Return cells of everything: transports, strategies, data, sizes."""
    rng = random.Random(7)
    found = [
        cell(rng, topology, strategy, "content", size, data, iteration)
        for topology in ("kary:2", "binomial", "kary:1")
        for strategy in EVENTS
        for size in (MIB, 2 * MIB)
        for data in ("random", "zeros")
        for iteration in range(3)
    ]
    found += [
        cell(rng, topology, strategy, "direct", 2 * MIB, "random", iteration)
        for topology in ("kary:1", "kary:2")
        for strategy in ("all", "two-tree")
        for iteration in range(3)
    ]
    return [*found, ping_cell(rng, "kary:1"), ping_cell(rng, "kary:2")]


class Report(HTMLParser):
    """What is in a report: texts, pictures, and whether its elements are closed in order."""

    EMPTY = ("meta", "link", "img", "br")

    def __init__(self, path):
        super().__init__()
        self.open, self.text, self.pictures, self.links, self.titles = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.EMPTY:
            self.open.append(tag)
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "img":
            assert attrs["alt"]
            kind, _, data = attrs["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            self.pictures.append(base64.b64decode(data).decode())

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def __contains__(self, words):
        return words in " ".join(" ".join(self.text).split())


def svg_texts(svg):
    """Return the texts in an SVG: matplotlib names each in a comment beside its glyphs."""
    return re.findall(r"<!-- (.*?) -->", svg)


def one_line(capsys):
    """Return what a command said that failed: one line, without the name of the program."""
    out, err = capsys.readouterr()
    assert out == ""
    match = re.fullmatch(r"flux-tree: error: (.*)\n", err)
    assert match, err
    return match[1]


# ---- the folder of an experiment


def test_an_experiment_becomes_a_tidy_table_with_medians_and_ratios(tmp_path, cells):
    source = write(tmp_path / "results", cells)
    found = analyze(source)
    assert found.output == source / "analysis"
    text = found.events.read_text()
    assert text.startswith(f"{STUDY_HEADER},bytes,data,strategy,transport,backend,status,")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == sum(len(entry["events"]) for entry in cells)
    assert [row[""] for row in rows] == [str(i) for i in range(len(rows))]
    entry = cells[0]
    event = entry["events"][1]
    row = next(r for r in rows if r["event"] == "distribute-all-nodes")
    assert row["uid"] == "kary-2-5"
    assert row["topology"] == "kary-2"
    assert float(row["size_gb"]) == entry["bytes"] / 2**30
    assert float(row["time_seconds"]) == event["time_s"]
    assert float(row["limit_ratio"]) == pytest.approx(event["time_s"] / entry["limit_s"])
    created = next(r for r in rows if r["event"] == "create-archive")
    assert created["limit_seconds"] == created["limit_ratio"] == ""
    assert len(found.ranks.read_text().splitlines()) == 1 + sum(len(e["records"]) for e in cells)
    assert len(found.pings.read_text().splitlines()) == 1 + sum(len(e["pings"]) for e in cells)
    # the medians of the report, from the cells themselves
    report = Report(found.report)
    for strategy in ("all", "middle-leaves"):
        times = [
            sum(e["time_s"] for e in c["events"] if e["event"].startswith("distribute"))
            for c in cells
            if (c["topology"], c["strategy"], c["transport"], c["bytes"], c["data"])
            == ("kary:1", strategy, "content", 2 * MIB, "random")
        ]
        assert len(times) == 3
        middle = str(Spread(statistics.median(times), min(times), max(times), 3))
        assert middle.replace(" (", " ").rstrip(")") in report


def test_its_own_table_gives_the_same_again(tmp_path, cells):
    rng = random.Random(3)
    broken = cell(
        rng, "kary:1", "all", "content", MIB, "random", 9, status="failed", error="bad,\n"
    )
    source = write(tmp_path / "results", [*cells, {**broken, "events": []}])
    first = analyze(source)
    second = analyze(first.events, tmp_path / "again")
    assert second.events.read_text() == first.events.read_text()
    kept = {f for f in first.findings if not f.about.startswith(("Depth", "Pings"))}
    assert set(second.findings) == kept
    assert "ranks were not timed one by one" in " ".join(second.notes)
    assert second.pings is None and second.ranks is None
    whole = analyze(first.output, tmp_path / "whole")  # events.csv and pings.csv beside each other
    assert whole.events.read_text() == first.events.read_text()
    assert whole.pings.read_text() == first.pings.read_text()


def test_the_report_needs_nothing_but_itself(tmp_path, cells):
    environment = {
        "started": 1.7e9,
        "versions": {"flux-core": "0.88.0"},
        "machine": {"cpus": 2, "memory_bytes": 2**33},
        "goodput": 11.9e6,
        "goodputs": {"lab/5": 11.9e6},
        "nic_rate": None,
        "runs": [{"started": 1.7e9}, {"started": 1.8e9}],
    }
    found = analyze(write(tmp_path / "results", cells, environment))
    report = Report(found.report)
    assert all(link.startswith(("#", "data:")) for link in report.links)
    assert len(report.pictures) == len(found.pictures)
    assert not re.search(r"url\(|@import|<script", found.report.read_text())
    for words in (
        "0.88.0",
        "8 GiB",
        "11.9 MB/s (95.2 Mbit/s)",
        "2023-11-14 22:13:20 UTC",
        "runs 2",
    ):
        assert words in report
    for finding in found.findings:
        assert finding.text in report
    assert Topology.from_spec("binomial", 5).text() in "".join(report.text)
    names = {path.name for path in found.pictures}
    for event in {e["event"] for c in cells for e in c["events"]}:
        assert f"{event}-nodes-5.svg" in names
    for question in ("time-by-topology", "time-by-fanout", "ratio-to-line-time", "pings", "trees"):
        assert f"{question}-nodes-5.svg" in names
    for question in ("time-by-size", "receive-by-depth"):
        assert f"{question}-nodes-5-lab-flux.svg" in names


def test_random_data_and_zeros_are_never_one_series(tmp_path, cells):
    found = analyze(write(tmp_path / "results", cells))
    table = read(tmp_path / "results").table
    assert {s.data for s in by_series(table)} == {"random", "zeros"}
    pictures = {path.name: svg_texts(path.read_text()) for path in found.pictures}
    for name in (
        "time-by-topology-nodes-5.svg",
        "time-by-fanout-nodes-5.svg",
        "distribute-leaf-nodes-nodes-5.svg",
        "time-by-size-nodes-5-lab-flux.svg",
        "receive-by-depth-nodes-5-lab-flux.svg",
    ):
        headings = [text for text in pictures[name] if "random data" in text or "zeros" in text]
        assert any("random data" in text for text in headings), name
        assert any("zeros" in text for text in headings), name
    both = [f.text for f in found.findings if "random data or zeros" in f.about]
    assert any("keeps equal blobs once" in text for text in both)


def test_a_strategy_with_trees_of_its_own_is_one_tree(cells, tmp_path):
    table = read(write(tmp_path / "results", cells)).table.deliveries()
    direct = table.where(transport="direct")
    assert list(by_shape(direct)) == ["kary-1", "kary-2", "two-tree"]
    assert len(by_shape(direct)["two-tree"]) == 6  # on either topology it is the same
    content = Table([Row("kary-3", 0, 4, "distribute-all-nodes", 1.0, 1, strategy="all")])
    assert shape_of(content.rows[0]) == "kary-3"


def test_many_topologies_and_sizes_stay_in_order(tmp_path):
    rng = random.Random(5)
    specs = ["kary:10", "kary:2", "binomial", *(f"kary:{k}" for k in (15, 9, 1, 3, 11, 4, 5))]
    specs += [f"kary:{k}" for k in (6, 7, 8, 12, 13, 14)]
    sizes = [n * MIB for n in range(1, 11)]
    found = analyze(
        write(
            tmp_path / "results",
            [
                cell(rng, spec, "all", "content", size, "random", i, nodes=30)
                for spec in specs
                for size in sizes
                for i in range(2)
            ],
        )
    )
    wanted = ["binomial", *(f"kary-{k}" for k in range(1, 16))]
    for path in found.pictures:
        if path.name.startswith(("time-by-topology", "distribute-all", "trees")):
            shown = [text for text in svg_texts(path.read_text()) if text in wanted]
            assert list(dict.fromkeys(shown)) == wanted, path.name
    report = Report(found.report)
    assert "1 MiB 2 MiB 3 MiB 4 MiB 5 MiB 6 MiB 7 MiB 8 MiB 9 MiB 10 MiB" in report
    colors = colors_of(wanted)
    assert len({tuple(c) if isinstance(c, tuple) else c for c in colors.values()}) == 16


def test_what_failed_is_listed_and_in_no_median(tmp_path, capsys):
    rng = random.Random(11)
    cells = [
        cell(rng, topology, "all", "content", MIB, "random", i)
        for topology in ("kary:1", "kary:2")
        for i in range(2)
    ]
    slow = cell(rng, "kary:1", "all", "content", MIB, "random", 2, status="failed")
    slow["error"] = "rank 3: <b>gone</b> & away"
    slow["events"][1]["time_s"] = 1e6
    early = cell(rng, "kary:2", "leaves", "content", MIB, "random", 0, status="failed")
    early.update(error="no broker", events=[], records=[])
    found = analyze(write(tmp_path / "results", [*cells, slow, early]))
    report = Report(found.report)
    assert "rank 3: <b>gone</b> & away" in report
    assert "no broker" in report
    assert "2 of 6 cells failed" in report
    assert found.failed == 1 + len(slow["events"])
    rows = list(csv.DictReader(io.StringIO(found.events.read_text())))
    lost = [row for row in rows if row["event"] == "distribute-leaf-nodes"]
    assert [(row["status"], row["time_seconds"], row["error"]) for row in lost] == [
        ("failed", "", "no broker")
    ]
    assert not any("11 d" in text or "277 h" in text for text in report.text)


def test_a_cell_that_ran_again_counts_once(tmp_path):
    rng = random.Random(1)
    bad = cell(rng, "kary:1", "all", "direct", MIB, "random", 0, status="failed", error="x")
    good = cell(rng, "kary:1", "all", "direct", MIB, "random", 0)
    table = read(write(tmp_path / "results", [bad, good])).table
    assert [row.time_seconds for row in table] == [good["events"][0]["time_s"]]
    assert not len(table.failed())


def test_a_last_line_that_is_cut_off_is_left_out(tmp_path, cells):
    source = write(tmp_path / "results", cells[:4])
    path = source / "results.jsonl"
    whole = path.read_text()
    path.write_text(whole[: -random.Random(2).randrange(2, 200)])
    measured = read(source)
    assert len(measured.table.cells()) == 3
    assert "cut off" in measured.notes[0]
    path.write_text(whole[:-1])  # only the newline is missing
    assert len(read(source).table.cells()) == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "line 2: not the result of a cell"),
        ("[]", "line 2: not the result of a cell"),
        ('{"cell": "x", "status": "ok"}', "no 'topology'"),
        ("\x00\xff", "line 2"),
    ],
)
def test_a_bad_line_in_the_middle_is_an_error_that_names_it(tmp_path, cells, line, words):
    source = write(tmp_path / "results", cells[:3])
    path = source / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], f"{line}\n", *lines[1:]]))
    with pytest.raises(SourceError, match=re.escape(words)):
        analyze(source)
    assert not (source / "analysis").exists()


def test_what_is_missing_drops_a_picture_and_says_so(tmp_path):
    rng = random.Random(4)
    only = cell(rng, "kary:2", "all", "content", MIB, "random", 0, limit_s=None, records=[])
    found = analyze(write(tmp_path / "results", [only]))
    notes = " ".join(found.notes)
    for words in (
        "only one tree",
        "only one fan-out",
        "only one size",
        "bandwidth of a NIC is not",
    ):
        assert words in notes
    assert "ranks were not timed one by one" in notes
    names = {path.name for path in found.pictures}
    assert "distribute-all-nodes-nodes-5.svg" in names
    assert not any(name.startswith(("time-by", "ratio", "receive")) for name in names)
    for note in found.notes:
        assert note in Report(found.report)


def test_nothing_but_failures_is_still_a_report(tmp_path):
    rng = random.Random(4)
    lost = cell(rng, "kary:2", "all", "content", MIB, "random", 0, status="failed", error="why")
    pings = ping_cell(rng, "kary:2", status="failed", error="also")
    found = analyze(write(tmp_path / "results", [{**lost, "events": []}, pings]))
    assert found.pictures == []
    assert found.failed == 2
    assert "2 of 2 cells failed" in Report(found.report)
    assert "also" in Report(found.report)


def test_only_pings(tmp_path):
    rng = random.Random(4)
    found = analyze(write(tmp_path / "results", [ping_cell(rng, "kary:2")]))
    assert found.events is None
    assert {p.name for p in found.pictures} == {"pings-nodes-5.svg", "trees-nodes-5.svg"}
    again = pings_from_csv(found.pings.read_text(), "pings")
    assert pings_csv(again) == found.pings.read_text()
    assert len(again) == 20


def test_a_topology_that_no_name_describes_is_compared_all_the_same(tmp_path):
    rows = [
        Row(topology, i, 5, "distribute-all-nodes", 1.0 + i, MIB, data="random")
        for topology in ("my$tree_1$", "custom", "kary-2")
        for i in range(2)
    ]
    path = tmp_path / "events.csv"
    path.write_text(events_csv(Table(rows)))
    found = analyze(path)
    assert found.output == tmp_path / "events-analysis"
    shown = svg_texts((found.output / "pictures/time-by-topology-nodes-5.svg").read_text())
    assert {"kary-2", "custom"} <= set(shown)


# ---- what the data say


def test_findings_name_fastest_and_slowest_only_if_they_stand_out():
    far = _two("kary-1", Spread(1.0, 0.9, 1.1, 3), "kary-7", Spread(7.0, 6.0, 8.0, 3))
    assert far.startswith("kary-1 is the fastest, kary-7 takes 7.00 times as long")
    near = _two("kary-1", Spread(1.0, 0.9, 1.3, 3), "kary-7", Spread(1.2, 1.1, 1.4, 3))
    assert near.startswith("no tree stands out")
    once = _two("kary-1", Spread(1.0, 1.0, 1.0, 1), "kary-7", Spread(7.0, 7.0, 7.0, 1))
    assert once.endswith("One iteration each: the spread is not known.")


def test_the_load_is_what_a_plan_says(tmp_path):
    from flux_tree.experiment._compare import load_of

    topology = Topology.from_spec("binomial", 16)
    assert load_of("binomial", 16, "all") == strategies.plan("all", topology).max_load
    assert load_of("two-tree", 16, "own trees") == 1
    assert load_of("no-such-thing", 16, "all") != load_of("no-such-thing", 16, "all")  # NaN


def test_zeros_alone_come_with_a_warning(tmp_path):
    rng = random.Random(9)
    zeros = [
        cell(rng, t, "all", "content", MIB, "zeros", i)
        for t in ("kary:1", "kary:2")
        for i in (0, 1)
    ]
    found = analyze(write(tmp_path / "results", zeros))
    assert any(f.about == "Zeros only" for f in found.findings)


def test_names_sort_as_people_sort_them():
    names = ["kary-10", "two-tree", "kary-2", "mincrit-3", "binomial", "kary-1"]
    assert sorted(names, key=natural) == [
        "binomial",
        "kary-1",
        "kary-2",
        "kary-10",
        "mincrit-3",
        "two-tree",
    ]
    for spec in ("kary:2", "binomial", "mincrit:3", "custom", "kary:-1"):
        assert spec_of(topology_name(spec)) == spec


# ---- the study's own files


def log(topology, nodes, body, noise=True):
    """Return a log as the study's experiment left it."""
    head = (
        "Collecting Jinja2\n\x1b[?25l   \x1b[90m━━━\x1b[0m 0.0/133.3 kB\x1b[0m\r\x1b[2K\n"
        "broker.info[0]: quorum-full: quorum->run 5.5s\nMODULE STATS CONTENT\n"
        '\x1b[1;39m{\n  \x1b[0m\x1b[34;1m"count"\x1b[0m\x1b[1;39m: \x1b[0m\x1b[0;39m0\x1b[0m\n}\n'
    )
    tree = Topology.from_spec(topology, nodes).text(lambda r: f"{r} flux-sample-{r}: full")
    script = (
        '\nSCRIPT entrypoint\n#!/bin/bash\necho "EVENT create-archive-${size}"\n'
        "EVENT create-archive-77\n\nreal\t0m1.000s\n"
    )
    return (
        head if noise else ""
    ) + f"NODES\n{nodes}\nTOPOLOGY diagram\n{tree}TOPOLOGY description\n{topology}\n{body}{script}"


def timed(name, real, before=""):
    return f"EVENT {name}\n{before}\nreal\t{real}\nuser\t0m0.006s\nsys\t0m0.000s\n"


def put(top, nodes, topology, iteration, text):
    folder = top / str(nodes) / topology.replace(":", "-") / str(iteration)
    folder.mkdir(parents=True)
    (folder / "topology-experiment.out").write_text(text)
    return folder / "topology-experiment.out"


def test_a_table_of_the_study(tmp_path):
    path = tmp_path / "topologies-events.csv"
    path.write_text(
        f"{STUDY_HEADER}\n"
        "0,kary-15-30,kary-15,3,30,create-archive,1,4.006\n"
        "1,kary-15-30,kary-15,3,30,distribute-leaf-nodes,1,3.34\n"
        "2,kary-2-30,kary-2,3,30,distribute-middle-nodes-0,2,1.5\n"
        "3,kary-2-30,kary-2,3,30,distribute-middle-nodes-1,2,2.25\n"
    )
    table = read(path).table
    assert [(r.strategy, r.transport, r.data, r.bytes) for r in table] == [
        ("all", "content", "zeros", 2**30),
        ("leaves", "content", "zeros", 2**30),
        ("middle-leaves", "content", "zeros", 2**31),
        ("middle-leaves", "content", "zeros", 2**31),
    ]
    assert [r.time_seconds for r in table.deliveries()] == [3.34, 3.75]
    for line, ours in zip(path.read_text().splitlines(), events_csv(table).splitlines()):
        assert ours.startswith(f"{line},")
    found = analyze(path, bandwidth=1e9)
    ratios = [r for r in events_from_csv(found.events.read_text(), "x") if r.limit_seconds > 0]
    assert ratios[0].limit_ratio == pytest.approx(3.34 / (2**30 / 1e9))
    assert (found.output / "pictures/ratio-to-line-time-nodes-30.svg").exists()


def test_raw_logs(tmp_path):
    body = (
        timed("create-archive-1", "1m9.978s")
        + timed("distribute-all-nodes-1", "0m2.269s")
        + timed("clean-all-nodes-1", "0m0.343s")
    )
    lost = (
        timed("create-archive-2", "0m3.5s", "flux-archive: kvs commit: No such file or directory\n")
        + timed(
            "distribute-all-nodes-2",
            "0m0.3s",
            "flux-archive: KVS lookup archive.x: No such file or directory\n[1-5]: Exit 1\n",
        )
        + "EVENT clean-all-nodes-2\n"
    )
    put(tmp_path, 6, "kary:2", 0, log("kary:2", 6, body))
    put(tmp_path, 6, "kary:2", 1, log("kary:2", 6, body + lost))
    put(tmp_path, 6, "kary:2", "_2", log("kary:2", 6, body))
    put(tmp_path, 6, "binomial", 0, log("binomial", 6, body).replace("\n", "\r\n"))
    measured = read(tmp_path)
    rows = {(r.topology, r.iteration, r.event, r.bytes >> 30): r for r in measured.table}
    assert len(rows) == len(measured.table) == 3 + 6 + 3
    assert rows["kary-2", 0, "create-archive", 1].time_seconds == pytest.approx(69.978)
    assert rows["binomial", 0, "clean-all-nodes", 1].time_seconds == 0.343
    failed = {key[2:]: r.error for key, r in rows.items() if r.status == "failed"}
    assert failed == {
        ("create-archive", 2): "flux-archive: kvs commit: No such file or directory",
        ("distribute-all-nodes", 2): (
            "flux-archive: KVS lookup archive.x: No such file or directory"
        ),
        ("clean-all-nodes", 2): "no time in the log",
    }
    assert measured.notes == [
        "6/kary-2/_2 is left out, as its name begins with an underscore.",
    ]
    # a log without a place says itself what it is of, whatever colours are in it
    alone = tmp_path / "elsewhere" / "log.out"
    alone.parent.mkdir()
    coloured = re.sub("(TOPOLOGY|EVENT|real)", "\x1b[1;39m\\1\x1b[0m", log("binomial", 6, body))
    alone.write_text(coloured.replace("\n", "\r\n"))
    assert [(r.uid, r.event) for r in read(alone).table] == [
        ("binomial-6", "create-archive"),
        ("binomial-6", "distribute-all-nodes"),
        ("binomial-6", "clean-all-nodes"),
    ]
    alone.unlink()
    assert "3 of" not in " ".join(map(str, analyze(tmp_path, tmp_path / "out").findings))


def test_a_log_whose_tree_is_another_says_so(tmp_path):
    text = log("kary:2", 6, timed("create-archive-1", "0m1s")).replace(
        "description\nkary:2", "description\nkary:3"
    )
    put(tmp_path, 6, "kary:3", 0, text.replace("\nSCRIPT entrypoint", "\nSCRIPT"))
    notes = read(tmp_path).notes
    assert any("ends before its script" in note for note in notes)
    assert any("the tree in it is not kary-3 over 6" in note for note in notes)


def test_raw_logs_of_pings(tmp_path):
    def answer(service, size, rank, line):
        pad = size * MIB
        return (
            f"EVENT flux-ping-{service}-size-{size}-rank-{rank}\nflux-ping {rank}!{service}\n"
            + line.format(head=f"{rank}!{service}.ping pad={pad} seq=0")
        )

    noise = "broker.err[0]: broker on flux-sample-2 (rank 2) has been unresponsive for 31.9994s\n"
    body = (
        answer("broker", 0, 0, "{head} time=0.154 ms (4af3f71f!01c0ffcb!ab9cf63f)\n")
        + answer("kvs", 200, 4, noise + "{head} time=8653.088 ms (a!b!c!d!e!f)\n")
        + answer("kvs", 200, 5, "")
    )
    put(tmp_path, 6, "kary:2", 0, log("kary:2", 6, "RANKS 6\n" + body))
    measured = read(tmp_path)
    assert [(p.service, p.rank, p.bytes, p.time_seconds, p.hops) for p in measured.pings] == [
        ("broker", 0, 0, pytest.approx(0.154e-3), 3),
        ("kvs", 4, 200 * MIB, pytest.approx(8.653088), 6),
    ]
    assert measured.notes == ["kary-2, 6 nodes: no answer to flux-ping-kvs-size-200-rank-5."]
    assert (
        pings_csv(measured.pings).splitlines()[2]
        == "1,flux-ping-kvs-size-200-rank-4,kary-2,kary-2-6,0,6,4,kvs,209715200,200,"
        "8653.088,8.653088,6,study"
    )


@pytest.mark.skipif("FLUX_TREE_STUDY" not in os.environ, reason="FLUX_TREE_STUDY names no folder")
def test_the_files_of_the_study():
    """In FLUX_TREE_STUDY: parsed-*.csv, or the study's data folder with raw logs beside it."""
    top = Path(os.environ["FLUX_TREE_STUDY"])
    tables = sorted(top.rglob("*.csv"))
    assert tables
    for path in tables:
        measured = read(path)
        assert measured
        raw = path.parent.with_name(path.parent.name.replace("parsed", "raw"))
        if raw != path.parent and raw.is_dir() and len(measured.table):
            ours = sorted((r.cell, r.event, r.time_seconds) for r in read(raw).table)
            assert ours == sorted((r.cell, r.event, r.time_seconds) for r in measured.table)


# ---- bad input, and the command


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "x,y\n1,2\n", "no column 'topology'"),
        ("a.csv", "", "no column 'topology'"),
        ("a.csv", f"{STUDY_HEADER}\n0,u,kary-1,0,two,create-archive,1,2.0\n", "line 2"),
        ("a.csv", f"{STUDY_HEADER}\n0,u,kary-1,0,2,create-archive,,2.0\n", "line 2"),
        ("a.csv", f"{STUDY_HEADER}\n", "nothing was measured"),
        ("a.csv", ",uid,topology,message_size_bytes\n", "no column 'iteration'"),
        ("a.out", "no event in here\n", "no event in 1 log"),
        ("a.out", "EVENT create-archive-1\n\nreal\t0m1s\n", "does not say of how many nodes"),
        ("a.txt", "x", "neither a table (.csv) nor a log"),
        ("results.jsonl", "", "nothing was measured"),
    ],
)
def test_a_file_that_is_none(tmp_path, capsys, name, text, words):
    (tmp_path / name).write_text(text)
    assert main(["experiment", "analyze", str(tmp_path / name)]) == 3
    assert words in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_none(tmp_path, capsys):
    assert main(["experiment", "analyze", str(tmp_path)]) == 3
    assert "no experiment in it" in one_line(capsys)
    assert main(["experiment", "analyze", str(tmp_path / "none")]) == 3
    assert "there is no such file or folder" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written(tmp_path, cells, capsys):
    source = write(tmp_path / "results", cells[:2])
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DestinationError, match="give another folder"):
            analyze(source, output)
    assert (tmp_path / "file").read_text() == "mine"
    output = tmp_path / "out"
    (output / "report.html").mkdir(parents=True)  # in the way
    assert main(["experiment", "analyze", str(source), "--output", str(output)]) == 4
    assert "report.html" in one_line(capsys)
    assert not list(output.rglob(".flux-tree-*"))


@pytest.mark.parametrize(("module", "extra"), [("matplotlib", "plot"), ("jinja2", "experiment")])
def test_without_a_library_it_is_one_line_before_any_work(tmp_path, cells, module, extra):
    source = write(tmp_path / "results", cells[:2])
    code = (
        f"import sys; sys.modules['{module}'] = None; from flux_tree.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "experiment", "analyze", str(source)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"flux-tree: error: .*pip install \"flux-tree\[{extra}\]\"\n", done.stderr)
    assert [path.name for path in source.iterdir()] == ["results.jsonl"]


def test_the_command(tmp_path, cells, capsys):
    source = write(tmp_path / "results", cells[:6])
    assert main(["experiment", "analyze", str(source), "--json", "--bandwidth", "1Gbit/s"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["report"]).is_file()
    assert Path(found["events"]).is_file()
    assert all(Path(path).is_file() for path in found["pictures"])
    assert found["findings"] and found["failed"] == 0
    assert main(["experiment", "analyze", str(source)]) == 0
    out = capsys.readouterr().out
    assert f"report in {source / 'analysis' / 'report.html'}" in out
    assert found["findings"][0]["text"] in out


def test_bandwidth_that_makes_no_sense(tmp_path, cells):
    with pytest.raises(UsageError, match="above 0"):
        analyze(write(tmp_path / "results", cells[:2]), bandwidth=0.0)


def test_a_real_experiment_from_design_to_report(tmp_path):
    from flux_tree.experiment import Design, run

    design = Design(
        ["local"],
        [3],
        ["kary:1", "kary:2"],
        ["all", "two-tree"],
        ["direct"],
        sizes=["64KiB"],
        iterations=2,
    )
    run(design, tmp_path / "results")
    found = analyze(tmp_path / "results")
    assert found.failed == 0
    table = events_from_csv(found.events.read_text(), "events.csv")
    assert len(table.cells()) == 8
    assert {row.status for row in table} == {"ok"}
    assert all(row.bytes == 65536 and row.data == "random" for row in table)
    assert (found.output / "pictures/receive-by-depth-nodes-3-local.svg").exists()
    assert len(found.ranks.read_text().splitlines()) == 1 + 8 * 2
