"""``flux-tree bcast`` and ``report`` inside an instance of Flux, as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from support import difference, instance, leftovers, make_payload

import flux_tree

pytest.importorskip("flux", reason="flux-python is not installed")
pytestmark = pytest.mark.flux

SIZE = 4


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    with instance(tmp_path_factory.mktemp("instance"), SIZE, "-Stbon.topo=kary:2") as uri:
        yield {**os.environ, "FLUX_URI": uri}


@pytest.fixture
def run(env):
    def run(*args, **more):
        command = [sys.executable, "-m", "flux_tree", *map(str, args)]
        done = subprocess.run(
            command, env={**env, **more}, capture_output=True, text=True, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def source(tmp_path):
    return make_payload(tmp_path / "source")


def test_inside_an_instance_all_its_nodes_get_it(run, source, tmp_path):
    code, out, err = run("bcast", source, tmp_path / "to-{rank}", "--strategy", "chain")
    assert (code, err) == (0, "")
    head, table, figures = out.split("\n\n")
    assert head.startswith(f"chain: {source} to ")
    assert "engine: flux, job ƒ" in head and "on 4 nodes, directly, TLS 1.3" in head
    assert [line.split()[0] for line in table.splitlines()] == ["RANK", "0", "1", "2", "3"]
    assert "limit       unknown" in figures
    for rank in range(SIZE):
        assert difference(source, tmp_path / f"to-{rank}") == ""


def test_options_reach_the_job(run, source, tmp_path):
    code, out, err = run(
        *("bcast", source, tmp_path / "to-{rank}", "-N", 3, "--strategy", "tbon"),
        *("--topology", "kary:1", "--security", "none", "--chunk-size", "8KiB"),
        *("--bandwidth", "1GB/s", "--interface", "lo", "--json"),
    )
    assert code == 0, err
    data = json.loads(out)
    assert "engine: flux" in err
    summary = data["summary"]
    assert (summary["engine"], summary["security"], summary["chunk_size"]) == ("flux", "none", 8192)
    assert (summary["ranks"], summary["depth"], summary["bandwidth"]) == (3, 2, 1e9)


def test_members_are_those_of_the_job(run, source, tmp_path):
    code, _, err = run("bcast", source, tmp_path / "to-{rank}", "--members", "1,3", "-q")
    assert (code, err) == (0, "")
    assert sorted(p.name for p in tmp_path.glob("to-*")) == ["to-1", "to-3"]
    code, _, err = run("bcast", source, tmp_path / "to-{rank}", "--members", "7")
    assert code == 2 and "7" in err


def test_local_stays_on_this_machine(run, source, tmp_path):
    code, out, _ = run("bcast", source, tmp_path / "to-{rank}", "--local", "--ranks", 2)
    assert code == 0 and "engine: local" in out
    assert sorted(p.name for p in tmp_path.glob("to-*")) == ["to-0", "to-1"]


@pytest.mark.parametrize(
    ("code", "args", "words"),
    [
        (2, ["SOURCE", "x-{rank}", "--ranks", "2"], "give --nodes, or --local"),
        (2, ["SOURCE", "x-{rank}", "--local", "--nodes", "2"], "--nodes: only inside Flux"),
        (2, ["SOURCE", "x-{rank}", "--local", "--transport", "content"], "--transport: only"),
        (2, ["SOURCE", "x-{rank}", "--nodes", "99"], "nodes 99"),
        (2, ["SOURCE", "x"], "put {rank} into it"),
        (2, ["SOURCE", "x-{rank}", "--archive", "main"], "either a file or a directory, or"),
        (2, ["SOURCE"], "Missing argument 'DEST'"),
        (2, ["SOURCE", "x-{rank}", "--window", "2"], "transport 'content' only"),
        (3, ["nothing-here", "x-{rank}"], "nothing-here"),
        (3, ["--archive", "none", "x-{rank}"], "no archive 'none'"),
        (4, ["SOURCE", "/no/such/x-{rank}"], "/no/such/x-"),
        (5, ["SOURCE", "x-{rank}", "--interface", "nix0"], "nix0"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(
    run, code, args, words, source, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result, _, err = run("bcast", "-q", *(str(source) if a == "SOURCE" else a for a in args))
    assert (result, err.count("\n")) == (code, 1), err
    assert err.startswith("flux-tree: error: ") and words in err


def test_an_instance_without_bindings_is_an_error(source, tmp_path):
    code = "import sys; sys.modules['flux'] = None; from flux_tree.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "bcast", str(source), f"{tmp_path}/to-{{rank}}"],
        env={**os.environ, "FLUX_URI": "local:///nowhere", "PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert "--local" in run.stderr and run.stderr.count("\n") == 1
    assert not list(tmp_path.glob("to-*"))


def test_an_instance_that_is_gone_is_an_error(run, source, tmp_path):
    code, _, err = run("bcast", source, tmp_path / "to-{rank}", FLUX_URI="local:///nowhere")
    assert code == 2 and "FLUX_URI=local:///nowhere" in err and "--local" in err


def test_an_archive_and_the_content_cache(run, source, tmp_path, env):
    (source / os.fsdecode(b"n\xfcr \xff")).unlink()
    create = ["flux", "archive", "create", "-n", "cli", "-C", str(tmp_path), "source"]
    subprocess.run(create, env=env, check=True)
    try:
        code, out, err = run(
            *("bcast", "--archive", "cli", "--transport", "content", "--window", 3),
            tmp_path / "to-{rank}",
        )
    finally:
        subprocess.run(["flux", "archive", "remove", "-n", "cli"], env=env, check=True)
    assert (code, err) == (0, "")
    assert out.startswith("all: archive cli to ") and "through the content cache" in out
    for rank in range(SIZE):
        copy = tmp_path / f"to-{rank}" / "source" / "file3"
        assert copy.read_bytes() == (source / "file3").read_bytes()


def test_progress_is_shown_on_a_terminal(env, tmp_path):
    source = tmp_path / "large"
    source.write_bytes(os.urandom(128 << 20))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flux_tree", "bcast", source, f"{tmp_path}/to-{{rank}}"]
    with subprocess.Popen(
        command, env={**env, "TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 1 << 16):
                shown += part
        except OSError:  # its end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert b"of 128 MiB a rank" in shown


def test_ctrl_c_ends_the_job(env, tmp_path):
    source = tmp_path / "large"
    with source.open("wb") as f:
        f.truncate(1)
        for i in range(256):
            f.write(i.to_bytes(8, "big") + os.urandom((1 << 20) - 8))
    to = tmp_path / "to"
    to.mkdir()
    command = [sys.executable, "-m", "flux_tree", "bcast", source, f"{to}/{{rank}}"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored in the child
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, before)
    process.stdout.readline()  # the header: the job is submitted
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "flux-tree: interrupted\n"
    jobs = subprocess.run(["flux", "jobs", "-n"], env=env, capture_output=True, text=True).stdout
    assert jobs == ""
    assert os.listdir(to) == [] and leftovers(tmp_path) == []


def test_output_that_nobody_reads_ends_the_job(env, source, tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "flux_tree", "bcast", source, f"{tmp_path}/to-{{rank}}"]
    assert subprocess.run(command, env=env, stdout=write).returncode == 141
    os.close(write)
    states = ["flux", "jobs", "-a", "-n", "-c1", "-o", "{status}"]
    while True:
        state = subprocess.run(states, env=env, capture_output=True, text=True).stdout.strip()
        if state in ("CANCELED", "FAILED", "COMPLETED"):
            break
    assert state == "CANCELED"
    assert not list(tmp_path.glob("to-*"))


def test_report_of_a_job_and_of_a_file(run, source, tmp_path, env):
    code, out, err = run("bcast", source, tmp_path / "to-{rank}", "--json")
    assert code == 0, err
    data = json.loads(out)
    jobid = data["summary"]["jobid"]
    code, again, err = run("report", jobid, "--json")
    assert (code, err) == (0, "")
    assert json.loads(again) == data

    info = ["flux", "job", "info", jobid, "guest.tree-bcast"]
    with (tmp_path / "report.json").open("w") as f:
        subprocess.run(info, env=env, check=True, stdout=f)
    code, text, err = run(
        *("report", tmp_path / "report.json", "--bandwidth", "1GB/s"),
        *("--plot", tmp_path / "times.svg"),
        FLUX_URI="",
    )
    assert (code, err) == (0, "")
    assert "engine: flux, 4 shells" in text and "at 1 GB/s (as given)" in text
    assert (tmp_path / "times.svg").stat().st_size > 1000


def test_report_of_a_failure(run, source, tmp_path):
    (tmp_path / "to-1").touch()
    code, out, err = run("bcast", source, tmp_path / "to-{rank}")
    assert code == 4
    jobid = out.split("job ")[1].split()[0]
    code, text, _ = run("report", jobid)
    assert code == 0 and "FAILED" in text and err.partition("error: ")[2].strip() in text
    code, out, _ = run("report", jobid, "--json")
    assert json.loads(out)["summary"]["error"] in err


def test_report_of_what_is_none(run, env):
    assert run("report", "not-a-job")[0] == 2
    command = ["flux", "run", "-n1", "sh", "-c", "echo $FLUX_JOB_ID"]
    jobid = subprocess.run(command, env=env, capture_output=True, text=True).stdout.strip()
    code, _, err = run("report", jobid)
    assert code == 2 and "made no broadcast" in err


def test_records_are_the_same_in_python_and_on_the_command_line(run, source, tmp_path, env):
    out = json.loads(run("bcast", source, tmp_path / "to-{rank}", "--json")[1])
    import flux

    handle = flux.Flux(env["FLUX_URI"])
    result = flux_tree.records(out["summary"]["jobid"], handle)
    assert json.loads(result.to_json()) == out
