"""Broadcasts from Python as jobs of Flux, with real brokers: one instance for all of the file."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from flux_support import shells_of, wait_until
from support import difference, instance, leftovers, make_payload

import flux_tree
from flux_tree import Topology, strategies

flux = pytest.importorskip("flux", reason="flux-python is not installed")
pytest.importorskip("flux.job")
pytestmark = pytest.mark.flux

SIZE = 4
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    with instance(tmp_path_factory.mktemp("instance"), SIZE, "-Stbon.topo=kary:2") as uri:
        yield uri


@pytest.fixture(scope="module")
def handle(uri):
    return flux.Flux(uri)


@pytest.fixture(scope="module")
def payload(tmp_path_factory):
    return make_payload(tmp_path_factory.mktemp("payload") / "payload")


@pytest.fixture(scope="module")
def archivable(tmp_path_factory):
    """What fits into an archive of Flux: names are UTF-8, times are whole seconds."""
    top = make_payload(tmp_path_factory.mktemp("archivable") / "payload")
    for path in top.iterdir():
        if not path.name.isprintable():
            path.unlink()
    for path in (*sorted(top.rglob("*"), reverse=True), top):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return top


@pytest.fixture(scope="module")
def large():
    """Data that takes long enough to look at, or to stop; in memory."""
    path = Path(
        "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp", f"flux-tree-test-{os.getpid()}"
    )
    path.mkdir()
    block = os.urandom(1 << 20)
    with (path / "large").open("wb") as f:
        for i in range(256):
            f.write(i.to_bytes(8, "big") + block[8:])
    yield path / "large"
    shutil.rmtree(path)


@pytest.fixture
def room(large):
    """A place for copies of the large file."""
    path = large.parent / "copies"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def ctrl_c_works_as_before():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


def running(handle) -> int:
    """Return how many jobs the instance has that have not ended."""
    from flux.job import JobList

    with handle.in_reactor():  # else flux-python takes Ctrl-C away from Python
        return len(list(JobList(handle, filters=["pending", "running"]).jobs()))


def as_script(uri, text, *args, python=sys.executable, **more):
    """Start a Python program within the instance."""
    env = {**os.environ, "FLUX_URI": uri, "PYTHONPATH": str(ROOT)}
    command = [*python.split(), "-c", textwrap.dedent(text), *map(str, args)]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


# ---- the blocking call


def test_every_rank_has_every_byte(handle, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle)
    for rank in range(SIZE):
        assert difference(payload, tmp_path / str(rank)) == ""
    assert (result.engine, result.transport, result.error) == ("flux", "direct", None)
    assert result.plan == strategies.plan("two-tree", SIZE)
    assert len(result.hosts) == SIZE
    records = result.records
    assert (records["bytes_in"][1:] == result.bytes).all()
    order = ("started", "connected", "first_byte", "last_byte", "verified", "renamed")
    for earlier, later in zip(order, order[1:]):
        assert (records[earlier][1:] <= records[later][1:]).all()
    assert np.isnan(records["first_byte"][0])
    assert result.limit is None and result.summary()["limit_percent"] is None
    assert running(handle) == 0


def test_the_result_prints_itself(handle, payload, tmp_path):
    result = flux_tree.broadcast(
        payload, tmp_path / "{rank}", "chain", handle=handle, bandwidth=1e9
    )
    text = str(result)
    assert text.startswith("chain: ") and f"flux, job {result.jobid}, 4 shells" in text
    assert "limit" in text and "unknown" not in text and "HOST" not in text
    data = json.loads(result.to_json())
    assert data["summary"]["jobid"] == result.jobid
    assert [row["host"] for row in data["records"]] == list(result.hosts)


def test_hosts_have_a_column_if_they_differ(handle, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle)
    import dataclasses

    other = dataclasses.replace(result, hosts=("a", "b", "c", "d"))
    assert "HOST" in str(other) and "HOST" not in str(result)


@pytest.mark.parametrize("strategy", ["flat", "tbon", "leaves", strategies.get("kary:3")])
def test_built_in_strategies_follow_the_tree_of_the_instance(handle, strategy, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", strategy, handle=handle)
    expected = strategies.plan(strategy, Topology.from_spec("kary:2", SIZE))
    assert result.plan == expected
    keep = np.flatnonzero(expected.deliver)
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, keep))


class Backwards:
    """Each rank from the next one, the root first to the last."""

    def plan(self, topology, members=None):
        n = topology.size
        parents = [-1, *range(2, n), 0] if n > 1 else [-1]
        return flux_tree.Plan(parents, strategy=f"backwards-{topology.parents.tolist()}")


def test_a_class_of_ones_own_sees_the_tree_of_the_instance(handle, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", Backwards(), handle=handle)
    assert result.plan.parents.tolist() == [[-1, 2, 3, 0]]
    assert result.plan.strategy == "backwards-[-1, 0, 0, 1]"
    for rank in range(SIZE):
        assert difference(payload, tmp_path / str(rank)) == ""


def test_a_class_of_ones_own_on_a_part_of_the_instance(handle, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", Backwards(), handle=handle, nodes=3)
    assert result.plan.strategy == "backwards-[-1, 0, 0]"
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]


def test_fewer_nodes_are_the_first_ones(handle, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle, ranks=2)
    assert len(result.records) == 2
    text = handle.rpc("job-info.lookup", _lookup(result, "R")).get()["R"]
    assert json.loads(text)["execution"]["R_lite"][0]["rank"] == "0-1"


def _lookup(result, key):
    from flux.job import JobID

    return {"id": int(JobID(result.jobid)), "keys": [key], "flags": 0}


def test_a_plan_says_how_many_nodes(handle, payload, tmp_path):
    plan = flux_tree.Plan([[-1, 0, 1], [-1, 2, 0]])
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", plan, handle=handle)
    assert result.plan == plan


def test_members_and_another_topology(handle, payload, tmp_path):
    flux_tree.broadcast(payload, tmp_path / "{rank}", "chain", handle=handle, members=[1, 3])
    assert sorted(os.listdir(tmp_path)) == ["1", "3"]
    result = flux_tree.broadcast(
        payload, tmp_path / "other-{rank}", "tbon", handle=handle, topology="kary:1"
    )
    assert result.plan.depth == SIZE - 1


def test_progress_is_seen(handle, large, room):
    seen = []
    result = flux_tree.broadcast(
        large, room / "{rank}", handle=handle, progress=lambda r: seen.append(r["bytes_in"].copy())
    )
    assert (seen[-1][1:] == result.bytes).all()
    assert any(0 < s.sum() < seen[-1].sum() for s in seen)
    assert result.records["memory"].max() < 128 << 20


def test_who_waits_for_nodes_is_told(handle, payload, tmp_path):
    from flux.job import JobspecV1, cancel, submit

    blocker = submit(
        handle,
        JobspecV1.from_command(["sleep", "inf"], num_nodes=SIZE, num_tasks=SIZE, exclusive=True),
    )
    told = []

    def notify(line):
        told.append(line)
        cancel(handle, blocker)

    flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle, notify=notify)
    assert len(told) == 1 and f"waits for {SIZE} nodes" in told[0]


def test_a_relative_source_and_destination(handle, payload, tmp_path, monkeypatch):
    monkeypatch.chdir(payload.parent)
    flux_tree.broadcast("payload", f"{tmp_path}/{{rank}}", handle=handle)
    monkeypatch.chdir(tmp_path)
    flux_tree.broadcast(payload, "copy-{rank}", handle=handle)
    for rank in range(SIZE):
        assert difference(payload, tmp_path / str(rank)) == ""
        assert difference(payload, tmp_path / f"copy-{rank}") == ""


# ---- what goes wrong


def test_a_source_that_is_missing(handle, tmp_path):
    with pytest.raises(flux_tree.SourceError, match=r"^rank 0 \(.+\): source .*no such file") as e:
        flux_tree.broadcast(tmp_path / "none", tmp_path / "{rank}", handle=handle)
    assert e.value.rank == 0
    assert os.listdir(tmp_path) == [] and running(handle) == 0


def test_a_destination_that_exists(handle, payload, tmp_path):
    (tmp_path / "2").write_text("here already")
    with pytest.raises(flux_tree.DestinationError, match=r"^rank 2 \(.+\): .*exists") as e:
        flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle)
    assert e.value.rank == 2
    assert os.listdir(tmp_path) == ["2"]
    flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle, overwrite=True)
    assert difference(payload, tmp_path / "2") == ""


def test_a_rank_that_fails_is_named_in_the_result(handle, payload, tmp_path):
    (tmp_path / "2").write_text("here already")
    into = {"destination": tmp_path / "{rank}", "handle": handle, "on_failure": "continue"}
    with pytest.raises(flux_tree.DestinationError, match=r"^rank 2 .*min-ranks is 4") as e:
        flux_tree.broadcast(payload, **into, min_ranks=4)
    assert list(e.value.failures) == [2]
    assert os.listdir(tmp_path) == ["2"]
    result = flux_tree.broadcast(payload, **into, min_ranks=3)
    assert result.error is None
    assert list(result.failures) == [2]
    assert "exists: remove it" in result.failures[2]
    assert [difference(payload, tmp_path / str(r)) for r in (0, 1, 3)] == [""] * 3
    assert flux_tree.records(result.jobid, handle=handle).failures == result.failures


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"on_failure": "continue", "min_ranks": 5}, "min-ranks=5: only 4 ranks keep the data"),
        ({"digest": "sha256:" + "0" * 64}, "digest: is of one file, and .* is none"),
    ],
)
def test_what_only_the_shells_can_refuse(handle, payload, tmp_path, options, match):
    with pytest.raises(flux_tree.UsageError, match=match):
        flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle, **options)
    assert os.listdir(tmp_path) == []


def test_a_job_that_has_lost_a_shell_has_a_result(handle, large, room):
    """Flux ends it with an exception, but the data is where it should be."""
    future = flux_tree.broadcast_async(
        large, room / "{rank}", "chain", handle=handle, on_failure="continue"
    )
    wait_until(lambda: any(name.endswith("-2") for name in leftovers(room)))
    os.kill(shells_of(future.get_jobid().f58)[2], signal.SIGKILL)
    result = future.get_result()
    assert result.failures == {2: "its shell has died"}
    assert [difference(large, room / str(r)) for r in (0, 1, 3)] == [""] * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transport": "content", "resume": True}, "resume=true: .*use transport=direct"),
        (
            {"transport": "content", "digest": "sha256:" + "0" * 64},
            "digest=.*use transport=direct",
        ),
        ({"nodes": 5}, "nodes 5: the instance has 4"),
        ({"nodes": 0}, "nodes 0: must be at least 1"),
        ({"nodes": 2, "ranks": 3}, "ranks 3: .* nodes is 2"),
        ({"strategy": "twotree"}, "did you mean 'two-tree'"),
        ({"members": [4]}, "no rank 4"),
        ({"transport": "pigeon"}, "transport 'pigeon': must be one of"),
        ({"window": 4}, "transport 'content' only"),
        ({"archive": "main"}, "either a file or a directory, or the name of an archive"),
        ({"measure_clock": True}, "measure_clock: not in Flux"),
        ({"topology": Topology.from_spec("kary:2", 3), "nodes": 2}, "it has 3 ranks"),
        ({"strategy": flux_tree.Plan([-1, 0]), "nodes": 3}, "over 2 ranks, not 3"),
    ],
)
def test_parameters_that_make_no_sense_submit_nothing(handle, options, words, payload, tmp_path):
    with pytest.raises(flux_tree.UsageError, match=words):
        flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle, **options)
    assert os.listdir(tmp_path) == []


def test_brokers_on_one_host_need_the_rank_in_the_destination(handle, payload, tmp_path):
    with pytest.raises(flux_tree.UsageError, match=r"4 ranks on host .*put \{rank\} into it"):
        flux_tree.broadcast(payload, tmp_path / "same", handle=handle)


def test_what_only_flux_has_is_refused_without_it(payload, tmp_path):
    for options in ({"nodes": 2}, {"transport": "content"}, {"archive": "a"}, {"interface": "lo"}):
        with pytest.raises(flux_tree.UsageError, match="only inside Flux"):
            flux_tree.broadcast(payload, tmp_path / "{rank}", **options)


def test_an_interface_that_is_missing(handle, payload, tmp_path):
    with pytest.raises(flux_tree.BroadcastError, match="interface nix0"):
        flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle, interface="nix0")


def test_an_error_in_a_callback_ends_the_job(handle, large, room):
    def fail(records):
        raise ZeroDivisionError("of the caller")

    with pytest.raises(ZeroDivisionError, match="of the caller"):
        flux_tree.broadcast(large, room / "{rank}", handle=handle, progress=fail)
    assert running(handle) == 0
    assert os.listdir(room) == []


def test_ctrl_c_leaves_nothing(uri, handle, large, room):
    process = as_script(
        uri,
        """
        import sys, flux, flux_tree
        def progress(records):
            if records["bytes_in"].sum() > 0:
                print("under way", flush=True)
        try:
            flux_tree.broadcast(sys.argv[1], sys.argv[2], handle=flux.Flux(), progress=progress)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        large,
        f"{room}/{{rank}}",
    )
    assert process.stdout.readline() == "under way\n", process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.split("\n")[-2] == "interrupted", err
    assert running(handle) == 0
    assert os.listdir(room) == []
    assert leftovers(room) == []


def test_a_job_that_somebody_cancels(handle, large, room):
    future = flux_tree.broadcast_async(large, room / "{rank}", handle=handle)
    future.cancel()
    with pytest.raises(flux_tree.Cancelled, match="not wanted any more"):
        future.get_result()
    assert future.is_ready()
    assert os.listdir(room) == []


# ---- futures


def test_a_callback_when_it_is_done(handle, payload, tmp_path):
    done = []
    future = flux_tree.broadcast_async(payload, tmp_path / "{rank}", handle=handle)
    assert not future.is_ready()
    assert future.then(lambda f, word, n: done.append((f, word, n)), "so", n=3) is future
    handle.reactor_run()
    assert done == [(future, "so", 3)]
    assert future.is_ready()
    assert future.get_result().jobid == future.get_jobid().f58
    assert difference(payload, tmp_path / "3") == ""


def test_several_at_once(handle, payload, tmp_path):
    futures = [
        flux_tree.broadcast_async(payload, tmp_path / f"{i}-{{rank}}", s, handle=handle)
        for i, s in enumerate(["chain", "binomial", "edst"])
    ]
    done = []
    for future in futures:
        future.then(lambda f: done.append(f.get_result().plan.strategy))
    handle.reactor_run()
    assert sorted(done) == ["binomial", "chain", "edst"]
    assert len(os.listdir(tmp_path)) == 3 * SIZE


def test_several_are_waited_for_one_by_one(handle, payload, tmp_path):
    futures = [
        flux_tree.broadcast_async(payload, tmp_path / f"{i}-{{rank}}", handle=handle)
        for i in range(3)
    ]
    assert len({f.get().jobid for f in futures}) == 3


def test_flux_waits_for_all_of_them(handle, payload, tmp_path):
    from flux.future import WaitAllFuture

    futures = [
        flux_tree.broadcast_async(payload, tmp_path / f"{i}-{{rank}}", handle=handle)
        for i in range(2)
    ]
    both = WaitAllFuture()
    for future in futures:
        both.push(future)
    both.wait_for(60)
    assert all(f.is_ready() for f in futures)


def test_every_order_of_waiting_and_callbacks(handle, large, room):
    future = flux_tree.broadcast_async(large, room / "a-{rank}", handle=handle)
    with pytest.raises(TimeoutError):
        future.wait_for(0.05)
    with pytest.raises(TimeoutError):
        future.wait_for(0.05)
    done = []
    future.then(done.append)
    handle.reactor_run()
    assert done == [future]
    assert future.wait_for() is future
    again = []
    future.then(again.append)
    handle.reactor_run()
    assert again == [future]

    future = flux_tree.broadcast_async(large, room / "b-{rank}", handle=handle)
    future.then(done.append)
    assert future.get_result().bytes == large.stat().st_size
    handle.reactor_run()
    assert done[1:] == [future]


def test_a_failure_reaches_who_asks(handle, tmp_path):
    future = flux_tree.broadcast_async(tmp_path / "none", tmp_path / "{rank}", handle=handle)
    failed = []

    def callback(f):
        with pytest.raises(flux_tree.SourceError):
            f.get_result()
        failed.append(f)

    future.then(callback)
    handle.reactor_run()
    assert failed == [future]


def test_ctrl_c_while_waiting_for_a_future_leaves_the_job_alone(handle, large, room):
    future = flux_tree.broadcast_async(large, room / "{rank}", handle=handle)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        future.wait_for()
    assert future.get_result().error is None


def test_it_may_be_called_from_another_thread(uri, payload, tmp_path):
    results = []

    def run(i):
        results.append(
            flux_tree.broadcast(payload, tmp_path / f"{i}-{{rank}}", handle=flux.Flux(uri))
        )

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.jobid for r in results}) == 2


# ---- records of earlier jobs


def test_records_of_a_job_that_has_ended(handle, payload, tmp_path):
    result = flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle)
    from flux.job import JobID

    number = JobID(result.jobid)
    for form in (result.jobid, int(number), number, number.dothex, str(number.dec)):
        again = flux_tree.records(form, handle, bandwidth=1e9)
        assert again.records.tobytes() == result.records.tobytes()
        assert again.plan == result.plan and again.jobid == result.jobid
        assert again.limit == result.bytes / 1e9


def test_records_of_a_job_of_the_command_line(uri, handle, payload, tmp_path):
    rc = Path(flux_tree.__file__).parent / "shell" / "tree-bcast.lua"
    report = tmp_path / "report.json"
    command = [
        *("flux", "run", f"-N{SIZE}", "-o", f"userrc={rc}", "-o", "tree-bcast.strategy=chain"),
        *("-o", f"tree-bcast.file={payload}", "-o", f"tree-bcast.destination={tmp_path}/{{rank}}"),
        *("-o", f"tree-bcast.report={report}", "sh", "-c", "echo $FLUX_JOB_ID"),
    ]
    env = {**os.environ, "FLUX_URI": uri}
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = flux_tree.records(run.stdout.split()[0], handle)
    assert result.plan == strategies.plan("chain", SIZE)
    from_file = flux_tree.Result.load(report)
    assert from_file.records.tobytes() == result.records.tobytes()
    assert from_file.jobid is None


def test_records_of_a_failed_broadcast(handle, payload, tmp_path):
    (tmp_path / "2").write_text("here already")
    future = flux_tree.broadcast_async(payload, tmp_path / "{rank}", handle=handle)
    with pytest.raises(flux_tree.DestinationError) as e:
        future.get_result()
    result = flux_tree.records(future.get_jobid(), handle)
    assert result.error == str(e.value)
    assert "FAILED" in str(result)
    data = json.loads(result.to_json())
    assert data["summary"]["error"] == result.error
    text = {row["rank"]: row["text"] for row in data["records"]}
    assert "exists" in text[2]


def test_jobs_without_records(handle):
    from flux.job import JobspecV1, cancel, result, submit

    for name in ("not a job", -1, "ƒ1234567", None):
        with pytest.raises(flux_tree.UsageError, match=r"no id of a job|no such job"):
            flux_tree.records(name, handle)
    job = submit(handle, JobspecV1.from_command(["true"]))
    result(handle, job)
    with pytest.raises(flux_tree.UsageError, match="it made no broadcast"):
        flux_tree.records(job, handle)
    spec = JobspecV1.from_command(["true"])
    spec.setattr_shell_option("tree-bcast", {"strategy": "chain"})
    spec.setattr_shell_option("initrc", "/dev/null")
    job = submit(handle, spec)
    result(handle, job)
    with pytest.raises(flux_tree.BroadcastError, match="flux-tree doctor"):
        flux_tree.records(job, handle)
    spec = JobspecV1.from_command(["true"], num_nodes=SIZE, num_tasks=SIZE)
    spec.setattr_shell_option("tree-bcast", {"strategy": "chain"})
    job = submit(handle, spec, urgency=0)
    with pytest.raises(flux_tree.UsageError, match="not over yet"):
        flux_tree.records(job, handle)
    cancel(handle, job, "enough")
    result(handle, job)
    with pytest.raises(flux_tree.Cancelled, match="enough"):
        flux_tree.records(job, handle)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "plan": 3}'])
def test_reports_that_are_none(tmp_path, text):
    (tmp_path / "report").write_text(text)
    with pytest.raises(flux_tree.UsageError, match="report"):
        flux_tree.Result.load(tmp_path / "report")
    with pytest.raises(flux_tree.UsageError, match="cannot be read"):
        flux_tree.Result.load(tmp_path / "none")


# ---- the content cache


@pytest.mark.parametrize("strategy", [None, "all", "leaves"])
def test_through_the_content_cache(handle, archivable, tmp_path, strategy):
    result = flux_tree.broadcast(
        archivable, tmp_path / "{rank}", strategy, handle=handle, transport="content", window=4
    )
    assert result.transport == "content"
    for rank in np.flatnonzero(result.plan.deliver):
        copy = tmp_path / str(rank)
        assert sorted(os.listdir(copy)) == sorted(os.listdir(archivable))
        for path in archivable.iterdir():
            assert difference(path, copy / path.name) == ""
    assert archives(handle) == []


def test_a_file_through_the_content_cache_as_in_cp(handle, archivable, tmp_path):
    source = archivable / "file3"
    for rank in range(SIZE):
        (tmp_path / str(rank)).mkdir()
    send = {"handle": handle, "transport": "content"}
    flux_tree.broadcast(source, tmp_path / "{rank}", **send)
    flux_tree.broadcast(source, tmp_path / "{rank}" / "new", **send)
    flux_tree.broadcast(archivable, tmp_path / "{rank}", **send)
    flux_tree.broadcast(archivable, f"{tmp_path}/slash-{{rank}}/", **send)
    for rank in range(SIZE):
        top = tmp_path / str(rank)
        assert sorted(os.listdir(top)) == ["file3", "new", "payload"]
        assert difference(source, top / "file3") == difference(source, top / "new") == ""
        assert difference(archivable, top / "payload") == ""
        assert difference(archivable, tmp_path / f"slash-{rank}" / "payload") == ""
    with pytest.raises(flux_tree.UsageError, match="one name on all ranks"):
        flux_tree.broadcast(source, tmp_path / "copy-{rank}", **send)
    assert archives(handle) == []


def test_no_archive_is_left_after_a_failure(handle, archivable, tmp_path):
    for rank in range(SIZE):
        (tmp_path / str(rank)).mkdir()
    (tmp_path / "2" / "payload").touch()
    with pytest.raises(flux_tree.DestinationError):
        flux_tree.broadcast(archivable, tmp_path / "{rank}", handle=handle, transport="content")
    with pytest.raises(flux_tree.SourceError):
        flux_tree.broadcast("/none", tmp_path / "{rank}", handle=handle, transport="content")
    assert archives(handle) == []


def test_an_archive_that_is_there(uri, handle, archivable, tmp_path):
    env = {**os.environ, "FLUX_URI": uri}
    create = ["flux", "archive", "create", "-n", "there", "-C", str(archivable.parent), "payload"]
    subprocess.run(create, env=env, check=True)
    try:
        for transport in ("content", "direct"):
            to = f"{tmp_path}/{transport}-{{rank}}"
            flux_tree.broadcast(None, to, handle=handle, archive="there", transport=transport)
            for rank in range(SIZE):
                copy = tmp_path / f"{transport}-{rank}" / "payload"
                assert difference(archivable, copy) == ""
    finally:
        subprocess.run(["flux", "archive", "remove", "-n", "there"], env=env, check=True)


def archives(handle):
    import flux.kvs

    try:
        return list(flux.kvs.get_dir(handle, "archive"))
    except OSError:
        return []


# ---- where it runs


@pytest.mark.parametrize("name", ["broadcast", "several"])
def test_the_examples_import_nothing_else_and_work(uri, name):
    text = (ROOT / "examples" / f"{name}.py").read_text()
    imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert imports == ["import flux", "import flux_tree"]
    process = as_script(uri, text)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), err
    assert out.count("ƒ") >= 2
    for rank in range(SIZE):
        Path(f"/tmp/flux-tree-example-{rank}.py").unlink(missing_ok=True)


def test_nodes_that_are_drained_are_not_left_out_silently(uri, handle, payload, tmp_path):
    env = {**os.environ, "FLUX_URI": uri}
    subprocess.run(["flux", "resource", "drain", "1"], env=env, check=True)
    try:
        with pytest.raises(flux_tree.UsageError, match=r"1 of 4 nodes .* \(rank 1\).* 3 nodes"):
            flux_tree.broadcast(payload, tmp_path / "{rank}", handle=handle)
        result = flux_tree.broadcast(
            payload, tmp_path / "{rank}", Backwards(), handle=handle, nodes=3
        )
    finally:
        subprocess.run(["flux", "resource", "undrain", "1"], env=env, check=True)
    # broker 3 is below broker 1, which takes no part, and so below broker 0
    assert result.plan.strategy == "backwards-[-1, 0, 0]"
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]


def test_the_plan_of_the_shells_is_that_of_python(uri, handle, payload, tmp_path):
    """The instance's tree over some of its nodes is the same in C as in Python."""
    from flux_tree import _in_flux

    env = {**os.environ, "FLUX_URI": uri}
    subprocess.run(["flux", "resource", "drain", "0"], env=env, check=True)
    try:
        nodes = _in_flux.choose_nodes(handle, 3)
        result = flux_tree.broadcast(payload, tmp_path / "{rank}", "tbon", handle=handle, nodes=3)
    finally:
        subprocess.run(["flux", "resource", "undrain", "0"], env=env, check=True)
    assert nodes.ranks == [1, 2, 3]
    expected = _in_flux.plan_options(handle, nodes, Tbon(), None, None)["plan"]["parents"]
    assert result.plan.parents.tolist() == expected == [[-1, 0, 0]]


class Tbon:
    """The strategy of that name, as a class of one's own."""

    def plan(self, topology, members=None):
        return strategies.plan("tbon", topology, members)


def test_a_nested_instance(uri, payload, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys, flux, flux_tree
            result = flux_tree.broadcast(sys.argv[1], sys.argv[2], handle=flux.Flux())
            print(len(result.records), result.jobid)
            print(flux_tree.records(result.jobid).summary()["strategy"])
            """
        )
    )
    env = {**os.environ, "FLUX_URI": uri, "PYTHONPATH": str(ROOT)}
    command = [
        *("flux", "alloc", "-N3", "-n3", sys.executable, str(program)),
        *(str(payload), f"{tmp_path}/copy-{{rank}}"),
    ]
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[::2] == ["3", "two-tree"]
    for rank in range(3):
        assert difference(payload, tmp_path / f"copy-{rank}") == ""


def test_without_an_instance_the_error_says_so(payload, tmp_path):
    process = as_script(
        "local:///none",
        """
        import sys, flux_tree
        for call in (lambda: flux_tree.records("f1"),
                     lambda: flux_tree.broadcast_async(sys.argv[1], sys.argv[2])):
            try:
                call()
            except flux_tree.UsageError as exc:
                print(exc)
        """,
        payload,
        tmp_path / "x",
    )
    out, err = process.communicate()
    assert len(out.splitlines()) == 2 and err == "", err


def test_flux_is_not_loaded_unless_asked():
    code = "import sys, flux_tree._broadcast, flux_tree._report; print('flux' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_the_names_are_public():
    assert {"broadcast_async", "records"} <= set(flux_tree.__all__)
    assert importlib.import_module("flux_tree._report").records is flux_tree.records
