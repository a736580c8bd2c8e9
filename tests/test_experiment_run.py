"""Running experiments: what is recorded, and that nothing is lost, done twice, or left behind."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from support import wait_gone

from flux_tree import Topology, designs
from flux_tree.errors import UsageError
from flux_tree.experiment import Design
from flux_tree.experiment import run as run_design
from flux_tree.experiment._events import write_payload
from flux_tree.strategies import plan as make_plan

MIB = 1 << 20
STUDY = ["all", "leaves", "middle-leaves"]
#: The events of each strategy of the study, in order: the names that its own results have.
EVENTS = {
    "all": [
        "create-archive",
        "distribute-all-nodes",
        "clean-all-nodes",
        "delete-archive-all-nodes",
    ],
    "leaves": [
        "create-leaf-nodes",
        "distribute-leaf-nodes",
        "clean-leaf-nodes",
        "delete-archive-leaf-nodes",
    ],
    "middle-leaves": [
        "create-middle-nodes",
        "distribute-middle-nodes-0",
        "distribute-middle-nodes-1",
        "clean-middle-nodes",
        "delete-archive-middle-nodes",
    ],
}
NO_ARCHIVE = {
    name: [event for event in events if not event.startswith(("create", "delete"))]
    for name, events in EVENTS.items()
}
#: The backend with the most to clean up, where it can run.
LAB_FLUX = pytest.param("lab-flux", marks=[pytest.mark.lab, pytest.mark.flux])
#: The same, for tests that take long and run with the simplest backend as well.
SLOW_LAB_FLUX = pytest.param(
    "lab-flux", marks=[pytest.mark.lab, pytest.mark.flux, pytest.mark.slow]
)

#: A strategy of one's own that does what the files beside it say, in the driver.
MINE = """
import os, pathlib, signal, time
from flux_tree import Plan
from flux_tree.strategies import get

HERE = pathlib.Path(__file__).parent

class Mine:
    def plan(self, topology, members=None):
        # as the instance of a job reports it, it may have another name
        chain = topology.parents.tolist() == list(range(-1, topology.size - 1))
        spec = "kary:1" if chain else "kary:2"
        if (HERE / f"fail-{spec}").exists():
            raise ValueError("no plan\\ntoday")
        if (HERE / f"die-{spec}").exists():
            os._exit(3)
        if (HERE / f"hang-{spec}").exists():
            time.sleep(600)
        if (HERE / f"freeze-{spec}").exists():
            os.kill(os.getpid(), signal.SIGSTOP)
        if (HERE / "slow").exists():
            time.sleep(0.3)
        return get("chain").plan(topology, members)
"""


class Experiment:
    """A design, a folder for its results and one for temporary files, and runs of it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.path = top / "design.yaml"
        self.folder = top / "results"
        # short enough for the sockets of brokers
        self.work = Path(tempfile.mkdtemp(prefix="w-"))
        (top / "mine.py").write_text(MINE)
        self.mine = f"{top}/mine.py:Mine"
        self.mark = uuid.uuid4().hex

    def write(self, **values) -> Design:
        values = {
            "backends": ["local"],
            "nodes": [4],
            "topologies": ["kary:1", "kary:2"],
            "sizes": ["100kB"],
            "iterations": 1,
            "rate": "400mbit",
            "workdir": str(self.work),
            **values,
        }
        design = Design(**values)
        self.path.write_text(design.to_yaml())
        return design

    def start(self, *args, **more):
        command = [sys.executable, "-m", "flux_tree", "experiment", "run", self.path]
        return subprocess.Popen(
            [*map(str, command), "--output", str(self.folder), *args],
            env={**os.environ, "MARK_OF_TEST": self.mark},
            start_new_session=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more},
        )

    def run(self, *args):
        process = self.start(*args)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def results(self):
        path = self.folder / "results.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def wait_for(self, count, process):
        """Wait until so many cells are done."""
        deadline = time.monotonic() + 120
        while len(self.results()) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def processes(self):
        """Return the processes that runs have started, and what they have."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environ = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if self.mark.encode() in environ:
                found.append(int(entry.name))
        return found

    def assert_nothing_left(self, seconds=60.0):
        assert wait_gone(self.processes(), seconds) == []
        deadline = time.monotonic() + seconds
        while list(self.work.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(self.work.iterdir()) == []


@pytest.fixture
def experiment(tmp_path):
    made = Experiment(tmp_path)
    yield made
    shutil.rmtree(made.work)


def events_of(result):
    return [event["event"] for event in result["events"]]


def check_ranks(result, ranks_of):
    """Check the records and the percentiles of a cell against who should have got it."""
    events = {event["event"]: event for event in result["events"]}
    for name, ranks in ranks_of.items():
        event = events[name]
        assert event["ranks"] == len(ranks)
        assert 0 <= event["fastest_s"] <= event["median_s"] <= event["p95_s"] <= event["time_s"]
    everybody = sorted(rank for ranks in ranks_of.values() for rank in ranks)
    assert sorted(r["rank"] for r in result["records"]) == everybody
    for record in result["records"]:
        assert record["verified"] > 0 and record["retries"] >= 0


# ---- what is recorded


@pytest.mark.parametrize(
    "backend", ["local", pytest.param("lab", marks=[pytest.mark.lab, pytest.mark.slow])]
)
def test_the_embedded_engine(experiment, backend):
    strategies = [*STUDY, "middle-leaves:strict", "two-tree"]
    design = experiment.write(
        backends=[backend],
        nodes=[4, 6],
        strategies=strategies,
        sizes=[70_001, MIB],
        data=["random", "zeros"],
    )
    code, out, err = experiment.run()
    assert code == 0, err
    count = len(design.cells())
    assert f"{count} of {count} cells ok, 0 failed; {count} run now" in out
    assert f"results in {experiment.folder}\n" in out
    lines = err.splitlines()
    assert len(lines) == count and lines[-1].startswith(f"[{count}/{count}] {backend}/")
    assert all(" left" in line and ": ok in " in line for line in lines)

    results = experiment.results()
    # in the very order of the design
    assert [r["cell"] for r in results] == [c.key for b in design.blocks() for c in b.cells]
    goodputs = json.loads((experiment.folder / "environment.json").read_text())["goodputs"]
    by_key = {cell.key: cell for cell in design.cells()}
    for result in results:
        cell = by_key[result["cell"]]
        assert {**result, **cell._asdict()} == result
        assert result["status"] == "ok" and result["error"] is None
        assert result["seed"] == cell.seed(design.seed) and result["pings"] == []
        assert 0 < result["elapsed_s"] < 60 and abs(result["started"] - time.time()) < 600
        assert result["limit_s"] == cell.bytes / goodputs[f"{backend}/{cell.nodes}"]
        topology = Topology.from_spec(cell.topology, cell.nodes)
        head = cell.strategy.partition(":")[0]
        assert events_of(result) == NO_ARCHIVE.get(head, NO_ARCHIVE["all"])
        plan = make_plan(cell.strategy, topology)
        for record in result["records"]:
            assert record["depth"] == plan.depths[:, record["rank"]].max()
            assert record["bytes_in"] == cell.bytes
            assert 0 < record["first_byte"] <= record["verified"]
        deepest, middle = topology.deepest.tolist(), topology.middle.tolist()
        if head == "middle-leaves":
            check_ranks(
                result,
                {"distribute-middle-nodes-0": middle, "distribute-middle-nodes-1": deepest},
            )
            slowest = max(r["verified"] for r in result["records"])
            first, second = (event["time_s"] for event in result["events"][:2])
            strict = cell.strategy.endswith("strict")
            assert slowest == pytest.approx(first + second if strict else max(first, second))
        elif head == "leaves":
            check_ranks(result, {"distribute-leaf-nodes": deepest})
        else:
            check_ranks(result, {"distribute-all-nodes": list(range(1, cell.nodes))})
    experiment.assert_nothing_left()


@pytest.mark.parametrize(
    "backend",
    [
        # test_in_a_flat_tree_the_middle_is_the_lowest_level has most of it, lab-flux the rest
        pytest.param("flux-start", marks=[pytest.mark.flux, pytest.mark.slow]),
        LAB_FLUX,
    ],
)
def test_real_brokers(experiment, backend):
    design = experiment.write(
        backends=[backend],
        nodes=[5],
        topologies=["kary:2", "binomial"],
        strategies=[*STUDY, "two-tree"],
        transports=["content", "direct", "ping"],
        ping_sizes=[0, 3000],
    )
    code, _, err = experiment.run()
    assert code == 0, err
    results = experiment.results()
    assert [r["cell"] for r in results] == [c.key for b in design.blocks() for c in b.cells]
    for result in results:
        topology = Topology.from_spec(result["topology"], 5)
        deepest, middle = topology.deepest.tolist(), topology.middle.tolist()
        rest = [rank for rank in deepest if rank not in middle]
        if result["transport"] == "ping":
            assert result["events"] == result["records"] == [] and result["limit_s"] is None
            asked = {(p["rank"], p["service"]): p for p in result["pings"]}
            assert len(asked) == len(result["pings"]) == 10
            for (rank, service), ping in asked.items():
                assert service in ("broker", "kvs") and ping["hops"] == topology.depth[rank]
                assert ping["time_s"] > 0 and ping["bytes"] == result["bytes"]
            continue
        names = EVENTS if result["transport"] == "content" else NO_ARCHIVE
        assert events_of(result) == names.get(result["strategy"], names["all"])
        for event in result["events"]:
            assert event["time_s"] > 0
        if result["transport"] == "content":
            for record in result["records"]:
                assert record["depth"] == topology.depth[record["rank"]]
                assert record["bytes_in"] is record["first_byte"] is None
        ranks = {
            "all": {"distribute-all-nodes": [1, 2, 3, 4]},
            "leaves": {"distribute-leaf-nodes": deepest},
            "middle-leaves": {
                "distribute-middle-nodes-0": middle,
                "distribute-middle-nodes-1": rest,
            },
        }
        check_ranks(result, ranks.get(result["strategy"], ranks["all"]))
    experiment.assert_nothing_left()


@pytest.mark.flux
@pytest.mark.lab
def test_of_zeros_one_blob_crosses_the_network(experiment):
    """What the example of zeros shows."""
    experiment.write(
        backends=["lab-flux"],
        nodes=[3],
        topologies=["kary:2"],
        strategies=["all"],
        transports=["content"],
        sizes=["4MiB"],
        data=["random", "zeros"],
    )
    code, _, err = experiment.run()
    assert code == 0, err
    sent = {
        result["data"]: event["sent"] / MIB
        for result in experiment.results()
        for event in result["events"]
        if event["event"] == "distribute-all-nodes"
    }
    # to each of two children, with headers and what else brokers have to say
    assert 8 < sent["random"] < 9.5
    assert 2 < sent["zeros"] < 3


def test_the_design_of_the_example_of_zeros():
    design = Design.read(Path(__file__).parent.parent / "examples" / "zeros" / "design.yaml")
    assert set(design.data) == {"zeros", "random"}
    assert len(list(design.cells())) == 10 * design.iterations


@pytest.mark.flux
def test_in_a_flat_tree_the_middle_is_the_lowest_level(experiment):
    experiment.write(
        backends=["flux-start"],
        topologies=["kary:0"],
        strategies=["middle-leaves"],
        transports=["content", "direct"],
    )
    assert experiment.run()[0] == 0
    for result in experiment.results():
        assert [e for e in events_of(result) if e.startswith("dist")] == [
            "distribute-middle-nodes-0"
        ]
        assert [r["rank"] for r in result["records"]] == [1, 2, 3]


def test_what_is_noted_of_the_circumstances(experiment):
    experiment.write(strategies=["all"], seed=77)
    assert experiment.run()[0] == 0
    assert (experiment.folder / "design.yaml").read_text() == experiment.path.read_text()
    environment = json.loads((experiment.folder / "environment.json").read_text())
    versions = environment["versions"]
    assert set(versions) == {"flux-tree", "flux-core", "python", "numpy", "kernel"}
    assert versions["python"] == sys.version.split()[0] and versions["kernel"] == os.uname().release
    assert environment["machine"]["host"] == os.uname().nodename
    assert environment["machine"]["memory_bytes"] > 1 << 20
    assert environment["seed"] == 77 and environment["nic_rate"] is None
    assert environment["goodput"] == environment["goodputs"]["local/4"] > 1e6
    assert len(environment["runs"]) == 1

    experiment.write(strategies=["all"], seed=77, iterations=2)
    assert experiment.run()[0] == 0
    later = json.loads((experiment.folder / "environment.json").read_text())
    assert later["started"] == environment["started"] and len(later["runs"]) == 2
    assert later["goodput"] == environment["goodput"]


def test_the_payload_follows_from_its_seed(tmp_path):
    size = 2 * MIB + 77
    one, same, other, zeros = (tmp_path / name for name in ("one", "same", "other", "zeros"))
    digest = write_payload(one, size, 5)
    assert digest == write_payload(same, size, 5) != write_payload(other, size, 6)
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()
    data = one.read_bytes()
    assert len(data) == size and len({data[i : i + MIB] for i in range(0, size, MIB)}) == 3
    assert len(Counter(data)) == 256
    write_payload(zeros, size, None)
    assert zeros.read_bytes() == bytes(size)
    assert zeros.stat().st_blocks * 512 >= size  # no hole: they are to travel


def test_results_for_a_program(experiment):
    experiment.write(strategies=["all"])
    code, out, err = experiment.run("--json", "--quiet")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert (answer["total"], answer["ok"], answer["failed"], answer["ran"]) == (2, 2, 0, 2)
    assert answer["folder"] == str(experiment.folder)


def test_on_a_terminal_there_is_a_bar(experiment):
    experiment.write(strategies=["all", "leaves"])
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flux_tree", "experiment", "run", experiment.path, "-o", "r"],
        cwd=experiment.top,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait(60) == 0
    assert b"/4" in shown and b"left" in shown and "━".encode() in shown


# ---- stopped and started again


def assert_finished(experiment, design):
    """Every cell has one result, and only one."""
    keys = Counter(result["cell"] for result in experiment.results())
    assert set(keys) == {cell.key for cell in design.cells()}
    assert set(keys.values()) == {1}


def interrupted(experiment, backend, number):
    """Start a run and send it a signal in the middle; return the design and what was done."""
    strategies = [experiment.mine, *STUDY]
    (experiment.top / "slow").touch()
    design = experiment.write(
        backends=[backend],
        strategies=strategies,
        transports=["direct"],
        iterations=2 if backend == "local" else 1,  # its cells are over soon
    )
    least = len(design.cells()) // 3
    process = experiment.start("-q")
    experiment.wait_for(least, process)
    if number == signal.SIGKILL:
        process.kill()
    else:  # as from a terminal, to all of its process group
        os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    done = [result["cell"] for result in experiment.results()]
    assert least <= len(done) < len(design.cells())
    return design, done, process.returncode, err


@pytest.mark.parametrize(
    "backend",
    [
        "local",
        pytest.param("flux-start", marks=[pytest.mark.flux, pytest.mark.slow]),
        SLOW_LAB_FLUX,
    ],
)
def test_killed_and_started_again(experiment, backend):
    design, done, code, _ = interrupted(experiment, backend, signal.SIGKILL)
    assert code == -signal.SIGKILL
    experiment.assert_nothing_left()

    path = experiment.folder / "results.jsonl"
    whole = path.read_bytes()
    # it may have been killed while it wrote a line
    path.write_bytes(whole + whole.splitlines()[0][:100])
    code, out, err = experiment.run()
    assert code == 0, err
    assert path.read_bytes().startswith(whole)
    assert_finished(experiment, design)
    assert len(err.splitlines()) == len(design.cells()) - len(done)
    experiment.assert_nothing_left()

    before = path.read_bytes()
    code, out, err = experiment.run()
    assert code == 0 and "0 run now" in out and path.read_bytes() == before


@pytest.mark.slow
def test_killed_again_and_again(experiment):
    design = experiment.write(strategies=[experiment.mine], iterations=4, topologies=["kary:1"])
    (experiment.top / "slow").touch()
    kills = 0
    while len(experiment.results()) < len(design.cells()):
        process = experiment.start("-q")
        time.sleep(0.5 + 0.13 * kills)
        process.kill()
        process.communicate()
        kills += 1
        assert kills < 60
    assert kills > 1
    assert_finished(experiment, design)
    experiment.assert_nothing_left()


@pytest.mark.parametrize(
    ("backend", "number"),
    [
        ("local", signal.SIGINT),
        ("local", signal.SIGTERM),
        pytest.param(*LAB_FLUX.values, signal.SIGINT, marks=[*LAB_FLUX.marks, pytest.mark.slow]),
        pytest.param(*LAB_FLUX.values, signal.SIGTERM, marks=LAB_FLUX.marks),
    ],
)
def test_stopped_it_leaves_nothing(experiment, backend, number):
    design, done, code, err = interrupted(experiment, backend, number)
    assert code == 130
    name = signal.Signals(number).name
    assert err == (
        f"flux-tree: stopped by {name}: {len(done)} of {len(design.cells())} cells are done,"
        " the same command goes on with the rest\n"
    ).replace("flux-tree: ", "flux-tree: error: ")
    # at once: everything was cleaned up before it ended
    assert experiment.processes() == [] and list(experiment.work.iterdir()) == []
    assert experiment.run("-q")[0] == 0
    assert_finished(experiment, design)


def test_the_driver_of_a_killed_run_takes_what_it_has_started_along(experiment):
    """A cell that never ends does not keep the processes of a killed run alive."""
    (experiment.top / "hang-kary:1").touch()
    experiment.write(strategies=[experiment.mine], topologies=["kary:1"])
    process = experiment.start()
    deadline = time.monotonic() + 60
    while len(experiment.processes()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    experiment.assert_nothing_left()


def test_only_one_run_at_a_time(experiment):
    (experiment.top / "slow").touch()
    design = experiment.write(strategies=[experiment.mine], iterations=3)
    first = experiment.start()
    experiment.wait_for(1, first)
    code, out, err = experiment.run()
    assert code == 1 and out == ""
    assert "another run is at work there" in err and err.count("\n") == 1
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert_finished(experiment, design)


# ---- a design that changes


def test_a_design_that_only_adds_goes_on_in_the_same_folder(experiment):
    experiment.write(strategies=["all"])
    assert experiment.run("-q")[0] == 0
    before = experiment.results()
    design = experiment.write(
        strategies=["leaves", "all"], sizes=["50kB", "100kB"], iterations=2, nodes=[4, 3]
    )
    code, out, _ = experiment.run()
    count = len(design.cells())
    assert code == 0 and f"{count} of {count} cells ok, 0 failed; {count - 2} run now" in out
    assert experiment.results()[:2] == before
    assert_finished(experiment, design)
    assert Design.read(experiment.folder / "design.yaml") == design


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 2}, "seed is 2 and was 1"),
        (
            {"topologies": ["kary:2"]},
            "a cell that has a result is not in it any more (local/4/kary:1",
        ),
        ({"sizes": ["1MiB"]}, "2 cells are not in it any more"),
    ],
)
def test_another_design_is_refused(experiment, change, reason):
    experiment.write(strategies=["all"])
    assert experiment.run("-q")[0] == 0
    kept = {p.name: p.read_bytes() for p in experiment.folder.iterdir()}
    experiment.write(strategies=["all"], **change)
    code, out, err = experiment.run()
    assert code == 2 and out == "" and err.count("\n") == 1
    assert f"'{experiment.folder}' has results of another design: {reason}" in err
    assert {p.name: p.read_bytes() for p in experiment.folder.iterdir()} == kept


def test_damaged_results_are_not_run_over(experiment):
    experiment.write(strategies=["all"])
    assert experiment.run("-q")[0] == 0
    path = experiment.folder / "results.jsonl"
    path.write_text(path.read_text().replace('{"cell"', '{"coll"', 1))
    before = path.read_bytes()
    code, _, err = experiment.run()
    assert code == 3 and f"'{path}' line 1: not the result of a cell" in err
    assert path.read_bytes() == before


# ---- cells that fail


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(experiment):
    trouble = experiment.top / "fail-kary:1"
    trouble.touch()
    design = experiment.write(strategies=[experiment.mine, "all"], iterations=2)
    code, out, err = experiment.run()
    assert code == 1
    assert "6 of 8 cells ok, 2 failed; 8 run now" in out and "--retry-failed" in out
    failed = [r for r in experiment.results() if r["status"] != "ok"]
    assert [(r["strategy"], r["topology"], r["iteration"]) for r in failed] == [
        (experiment.mine, "kary:1", 0),
        (experiment.mine, "kary:1", 1),
    ]
    for result in failed:
        assert result["status"] == "failed" and result["error"] == "ValueError: no plan today"
        assert result["events"] == result["records"] == []
    assert err.count("FAILED: ValueError: no plan today") == 2

    # they are not run again, unless that is asked for
    code, out, err = experiment.run()
    assert code == 1 and "2 failed; 0 run now" in out
    trouble.unlink()
    code, out, err = experiment.run("--retry-failed")
    assert code == 0 and "8 of 8 cells ok, 0 failed; 2 run now" in out
    last = {result["cell"]: result["status"] for result in experiment.results()}
    assert set(last) == {cell.key for cell in design.cells()} and set(last.values()) == {"ok"}
    experiment.assert_nothing_left()


@pytest.mark.parametrize(
    ("backend", "limit"),
    [("local", 5), pytest.param(*SLOW_LAB_FLUX.values, 15, marks=SLOW_LAB_FLUX.marks)],
)
def test_a_cell_that_hangs_ends_at_its_limit(experiment, backend, limit):
    (experiment.top / "hang-kary:1").touch()
    design = experiment.write(
        backends=[backend],
        strategies=[experiment.mine, "all", "chain"],
        transports=["direct"],
        cell_limit=f"{limit}s",
        seed=2,
    )
    code, out, err = experiment.run()
    assert code == 1 and "5 of 6 cells ok, 1 failed; 6 run now" in out, err
    (failed,) = (r for r in experiment.results() if r["status"] != "ok")
    assert failed["strategy"] == experiment.mine and failed["topology"] == "kary:1"
    assert failed["error"] == f"no answer within {limit} s; the instance was replaced"
    assert failed["elapsed_s"] >= limit
    # so there was something to go on with in another instance
    inside = next(b.cells for b in design.blocks() if b.topology == "kary:1")
    assert inside[-1].strategy != experiment.mine
    experiment.assert_nothing_left()


@pytest.mark.slow
def test_a_driver_that_cannot_end_is_killed(experiment):
    (experiment.top / "freeze-kary:1").touch()
    experiment.write(
        strategies=[experiment.mine, "all"],
        topologies=["kary:1"],
        transports=["direct"],
        cell_limit="15s",
    )
    code, out, _ = experiment.run()
    assert code == 1 and "1 of 2 cells ok, 1 failed; 2 run now" in out
    experiment.assert_nothing_left()


def test_a_driver_that_dies_is_replaced(experiment):
    (experiment.top / "die-kary:1").touch()
    experiment.write(strategies=[experiment.mine, "all", "chain"], seed=2)
    code, out, _ = experiment.run()
    assert code == 1 and "5 of 6 cells ok, 1 failed" in out
    (failed,) = (r for r in experiment.results() if r["status"] != "ok")
    assert failed["error"].startswith("it ended before its time: ")


@pytest.mark.flux
def test_an_instance_that_does_not_start_fails_its_cells(experiment):
    experiment.write(
        backends=["flux-start", "local"],
        topologies=["kary:1"],
        strategies=["all", "leaves"],
        instance_limit="20ms",
    )
    experiment.path.write_text(
        experiment.path.read_text().replace(
            "backends: [flux-start, local]", "backends: [flux-start]"
        )
    )
    code, out, _ = experiment.run()
    assert code == 1 and "0 of 2 cells ok, 2 failed" in out
    for result in experiment.results():
        assert result["error"] == "the instance did not start: no answer within 20 ms"
    experiment.assert_nothing_left()
    experiment.write(backends=["flux-start"], topologies=["kary:1"], strategies=["all", "leaves"])
    assert experiment.run("-q", "--retry-failed")[0] == 0


def replace_date(experiment, monkeypatch, what):
    """Have the command that ranks look at the clock with do something else first on rank 2."""
    folder = experiment.top / "bin"
    folder.mkdir()
    script = (
        f'#!/bin/sh\n[ "${{PWD##*/}}" = 2 ] && {{ {what}; }}\nexec {shutil.which("date")} "$@"\n'
    )
    (folder / "date").write_text(script)
    (folder / "date").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.flux
def test_a_cell_whose_bytes_differ_has_failed(experiment, monkeypatch):
    """What rank 2 has extracted is damaged when it looks at the clock."""
    damage = "printf X | dd of=payload bs=1 seek=50000 conv=notrunc status=none"
    replace_date(experiment, monkeypatch, f"[ -e payload ] && {damage}")
    experiment.write(
        backends=["flux-start"],
        topologies=["kary:1"],
        strategies=["all", "leaves"],
        transports=["content"],
        data=["zeros"],
    )
    code, _, err = experiment.run()
    assert code == 1, err
    by_strategy = {result["strategy"]: result for result in experiment.results()}
    assert by_strategy["all"]["error"] == "rank 2 has other bytes than were sent"
    assert by_strategy["leaves"]["status"] == "ok"  # rank 3 alone
    experiment.assert_nothing_left()


@pytest.mark.flux
def test_a_rank_that_fails_is_named(experiment, monkeypatch):
    replace_date(experiment, monkeypatch, "echo out of order >&2; exit 5")
    experiment.write(
        backends=["flux-start"], topologies=["kary:1"], strategies=["all"], transports=["content"]
    )
    assert experiment.run()[0] == 1
    (result,) = experiment.results()
    assert result["error"] == "flux exec -n: exit code 5: 2: out of order"
    assert events_of(result) == ["create-archive"]


# ---- where it cannot run


def test_no_room_for_temporary_files(experiment):
    experiment.write(strategies=["all"], sizes=["100TiB"])
    code, _, err = experiment.run()
    assert code == 4 and f"workdir '{experiment.work}'" in err and "needed" in err
    assert experiment.results() == []


@pytest.mark.flux
def test_a_workdir_that_is_too_long_for_sockets(experiment):
    workdir = experiment.top / ("x" * 100)
    workdir.mkdir()
    experiment.write(backends=["flux-start"], strategies=["all"], workdir=str(workdir))
    code, _, err = experiment.run()
    assert code == 2 and "too long a name for the sockets" in err and experiment.results() == []


def test_no_workdir(experiment):
    experiment.write(strategies=["all"], workdir=str(experiment.top / "none"))
    code, _, err = experiment.run()
    assert code == 4 and "none': No such file or directory" in err


def test_no_flux(experiment, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if shutil.which("flux"):
        pytest.skip("flux is in /usr/bin")
    experiment.write(backends=["flux-start"], strategies=["all"])
    with pytest.raises(UsageError, match="backend 'flux-start': 'flux' is not on PATH"):
        run_design(experiment.path, experiment.folder)
    assert experiment.results() == []


def test_no_output(experiment):
    experiment.write(strategies=["all"])
    command = [sys.executable, "-m", "flux_tree", "experiment", "run", str(experiment.path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2 and "Missing option '--output'" in process.stderr


def test_from_python(experiment):
    design = experiment.write(topologies="study", strategies=["all"], iterations=1)
    seen = []
    summary = run_design(design, experiment.folder, progress=seen.append)
    count = len(designs.design_set([4]))
    assert (summary.total, summary.ok, summary.failed, summary.ran) == (count, count, 0, count)
    assert [p.done for p in seen] == [n for i in range(count) for n in (i, i + 1)]
    assert all((p.result is None) == (i % 2 == 0) for i, p in enumerate(seen))
    assert all(p.seconds_left >= 0 for p in seen)
    assert run_design(design, experiment.folder).ran == 0
