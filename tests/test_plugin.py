"""The shell plugin in real jobs: flux run -o tree-bcast."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flux_support import shells_of, wait_until
from support import difference, instance, leftovers, make_payload

import flux_tree
from flux_tree import _records, strategies

pytestmark = pytest.mark.flux

SIZE = 8
ROOT = Path(flux_tree.__file__).parent
PLUGIN = ROOT / "_plugin.abi3.so"


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    with instance(tmp_path_factory.mktemp("instance"), SIZE, "-Stbon.topo=kary:2") as uri:
        yield uri


@pytest.fixture(scope="module")
def payload(tmp_path_factory):
    return make_payload(tmp_path_factory.mktemp("payload") / "payload")


@pytest.fixture
def flux(uri):
    """Return a function that runs a command of Flux in the instance."""

    def run(*args, check=True, env=None, **more):
        base = {"FLUX_URI": uri, "FLUX_SHELL_RC_PATH": str(ROOT / "shell")}
        done = subprocess.run(
            ["flux", *map(str, args)],
            env={**os.environ, **base, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            **more,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def bcast(flux):
    """Return a function that runs a job with the option in its object form."""

    def run(*command, nodes=SIZE, args=(), check=True, **options):
        keys = [f"-otree-bcast.{k.replace('_', '-')}={v}" for k, v in options.items()]
        done = flux("run", f"-N{nodes}", *args, *keys, *(command or ("true",)), check=check)
        if not check:
            assert done.returncode != 0
            assert "Traceback" not in done.stderr
        return done

    return run


def report(flux) -> dict:
    return json.loads(flux("job", "info", last(flux), "guest.tree-bcast").stdout)


def last(flux) -> str:
    return flux("job", "last").stdout.strip()


def note(flux) -> str:
    """Return the note of the last job's exception."""
    for line in flux("job", "eventlog", "--format=json", last(flux)).stdout.splitlines():
        event = json.loads(line)
        if event["name"] == "exception":
            return event["context"]["note"]
    raise AssertionError("no exception")


def test_the_plugin_is_what_flux_shell_can_load():
    """As flux-shell does, in a process without Python: lazily, its symbols for itself."""
    needed = subprocess.run(["ldd", PLUGIN], capture_output=True, text=True, check=True).stdout
    assert "libpython" not in needed
    assert "libflux-core" in needed
    code = "#include <dlfcn.h>\n#include <stdio.h>\nint main (int c, char **v) { void *h = "
    code += "dlopen (v[c - 1], RTLD_LAZY | RTLD_LOCAL); if (!h) puts (dlerror ()); "
    code += 'return !h || !dlsym (h, "flux_plugin_init"); }'
    subprocess.run(
        ["cc", "-xc", "-", "-o", PLUGIN.parent / ".dlopen"], input=code, text=True, check=True
    )
    try:
        subprocess.run([PLUGIN.parent / ".dlopen", PLUGIN], check=True)
    finally:
        (PLUGIN.parent / ".dlopen").unlink()


def test_data_stands_on_every_node_before_tasks_start(bcast, payload, tmp_path, flux):
    done = bcast(
        *("sh", "-c", f"ls {tmp_path}/$FLUX_TASK_RANK/file1"),
        strategy="binomial",
        file=payload,
        destination=f"{tmp_path}/{{rank}}",
    )
    assert len(done.stdout.split()) == SIZE
    for rank in range(SIZE):
        assert difference(payload, tmp_path / str(rank)) == ""
    document = report(flux)
    assert document["ok"]
    assert document["fields"] == list(_records.DTYPE.names)
    assert document["plan"] == strategies.plan("binomial", SIZE).to_dict()
    assert all(record[1] == 3 for record in document["records"])


@pytest.mark.parametrize("spec", ["flat", "chain", "two-tree", "multi-tree:3", "edst", "tbon"])
def test_strategies_by_name(flux, payload, tmp_path, spec):
    option = f"-otree-bcast={spec},file={payload},destination={tmp_path}/{{rank}},security=none"
    flux("run", f"-N{SIZE}", option, "true")
    assert all(difference(payload, tmp_path / str(r)) == "" for r in range(SIZE))


def test_job_tmpdir_is_the_default_destination(bcast, payload):
    done = bcast("sh", "-c", "cat $FLUX_JOB_TMPDIR/payload/file0 | wc -c", file=payload)
    assert done.stdout.split() == ["1"] * SIZE


def test_leaves_of_the_tbon_only(bcast, payload, tmp_path, flux):
    bcast(strategy="leaves", file=payload, destination=f"{tmp_path}/{{rank}}")
    assert sorted(os.listdir(tmp_path)) == ["7"]  # the deepest level of kary:2 over 8
    bcast(strategy="chain", members="1-3", file=payload, destination=f"{tmp_path}/m{{rank}}")
    assert sorted(p for p in os.listdir(tmp_path) if p[0] == "m") == ["m1", "m2", "m3"]


def test_topology_of_a_job_on_some_of_the_brokers(flux, payload, tmp_path):
    """Ranks 1, 3, 4 and 7 of kary:2: 3 and 4 are under 1, and 7 is under 3."""
    requires = "--requires=rank:1,3,4,7"
    option = f"-otree-bcast=tbon,file={payload},destination={tmp_path}/{{rank}}"
    flux("run", "-N4", requires, option, "true")
    assert report(flux)["plan"]["parents"] == [[-1, 0, 0, 1]]


def test_templates_of_flux_and_a_file_name_with_braces(bcast, tmp_path):
    source = tmp_path / "a{b}"
    source.write_bytes(os.urandom(5000))
    bcast(file=source, destination=f"{tmp_path}/{{{{node.id}}}}-{{rank}}")
    assert (tmp_path / "3-3").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("transport", ["direct", "content"])
def test_an_archive_is_what_travels_without_a_file(flux, bcast, payload, tmp_path, transport):
    name = f"test-{transport}"
    # flux archive takes no other names than UTF-8
    made = tmp_path / "made" / "payload"
    shutil.copytree(payload, made, symlinks=True, ignore=lambda *_: [os.fsdecode(b"n\xfcr \xff")])
    flux("archive", "create", "--name", name, "-C", made.parent, "payload")
    try:
        destination = f"{tmp_path}/{{rank}}"
        bcast(transport=transport, archive=name, destination=destination)
    finally:
        flux("archive", "remove", "--name", name)
    for rank in range(SIZE):
        copy = tmp_path / str(rank) / "payload"
        assert (copy / "file4").read_bytes() == (payload / "file4").read_bytes()
        assert os.readlink(copy / "link") == os.readlink(payload / "link")
    assert leftovers(tmp_path) == []
    document = report(flux)
    assert document["transport"] == transport
    assert document["bytes"] > 0


def test_one_shell(bcast, payload, tmp_path):
    bcast(nodes=1, file=payload, destination=tmp_path / "copy")
    assert difference(payload, tmp_path / "copy") == ""


def test_two_jobs_at_once(flux, payload, tmp_path):
    jobs = [
        flux(
            *("submit", f"-N{SIZE}", "-n8", "-c1"),
            f"-otree-bcast=chain,file={payload},destination={tmp_path}/{i}-{{rank}}",
            "true",
        ).stdout.strip()
        for i in range(3)
    ]
    for i, job in enumerate(jobs):
        flux("job", "attach", job)
        assert all(difference(payload, tmp_path / f"{i}-{r}") == "" for r in range(SIZE))


def test_a_nested_instance(flux, payload, tmp_path):
    option = f"-otree-bcast=tbon,file={payload},destination={tmp_path}/{{rank}}"
    flux("alloc", "-N4", "flux", "run", "-N4", option, "true")
    assert all(difference(payload, tmp_path / str(r)) == "" for r in range(4))


def test_report_in_a_file(bcast, payload, tmp_path, flux):
    path = tmp_path / "report.json"
    bcast(file=payload, report=path)
    assert json.loads(path.read_text()) == report(flux)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_one_line_in_the_eventlog(bcast, payload, flux):
    bcast(file=payload)
    lines = flux("job", "eventlog", "-p", "exec", "--format=json", last(flux)).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    (mine,) = (e for e in events if e["name"] == "tree-bcast")
    assert mine["context"]["ok"] is True
    assert mine["context"]["ranks"] == SIZE
    names = [e["name"] for e in events]
    assert names.index("shell.init") < names.index("tree-bcast") < names.index("shell.start")


def test_verbose_shows_what_happens(bcast, payload):
    text = bcast(file=payload, args=["-overbose=1"]).stderr
    assert f"{SIZE} shells are here" in text
    assert "listens on 127.0.0.1:" in text


# ---- refusals


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "nope"}, "strategy 'nope': there is no 'nope', use one of: flat"),
        ({"strategy": "kary:x"}, "K must be a whole number"),
        ({"bogus": 1}, "there is no 'bogus', use strategy, file,"),
        ({"chunk_size": "1"}, "tree-bcast.chunk-size=1: give a size from 4KiB"),
        ({"timeout": "soon"}, "tree-bcast.timeout=soon: give a time such as 60s"),
        ({"security": "rot13"}, "tree-bcast.security=rot13: use none or tls"),
        ({"transport": "pigeon"}, "tree-bcast.transport=pigeon: use direct or content"),
        ({"on_failure": "cry"}, "tree-bcast.on-failure=cry: use abort or continue"),
        ({"workers": 0}, "tree-bcast.workers=0: give a whole number of at least 1"),
        ({"members": "x"}, "tree-bcast.members=x: use all, leaves, middle-leaves"),
        ({"members": "3-99"}, "the ranks of this job are 0-7"),
        ({"interface": "nope0"}, "interface nope0: there is no such interface"),
        ({"archive": "a"}, "leave it out, or file="),
        ({"transport": "content"}, "transport=content takes an archive"),
        ({"file": "/no/such"}, "rank 0 ({host}): source /no/such: no such file or directory"),
        ({"destination": "/no/such/x"}, "destination /no/such/x: its directory does not exist"),
    ],
)
def test_what_makes_no_sense_ends_the_job_in_one_line(bcast, payload, flux, options, text):
    done = bcast("echo", "started", check=False, **{"file": payload, **options})
    text = text.replace("{host}", os.uname().nodename)
    assert text in done.stderr
    assert text in note(flux)
    assert "started" not in done.stdout


@pytest.mark.parametrize("transport", ["direct", "content"])
def test_no_archive(bcast, flux, transport):
    bcast(check=False, archive="nope", transport=transport)
    assert "there is no archive 'nope': make one with 'flux archive create'" in note(flux)
    # without a source there is nothing to go on with
    done = bcast(
        "echo", "up", check=False, archive="nope", transport=transport, on_failure="continue"
    )
    assert done.stdout == ""
    assert "there is no archive 'nope'" in done.stderr


def test_a_destination_that_exists_is_left_alone(bcast, payload, tmp_path, flux):
    (tmp_path / "3").write_text("mine")
    bcast(check=False, file=payload, destination=f"{tmp_path}/{{rank}}")
    assert "rank 3 (" in note(flux)
    assert "exists: remove it, or allow overwrite" in note(flux)
    assert [p.name for p in tmp_path.iterdir()] == ["3"]
    document = report(flux)
    assert document["error"]["rank"] == 3
    assert document["error"]["kind"] == "destination"
    bcast(file=payload, destination=f"{tmp_path}/{{rank}}", overwrite="true")
    assert difference(payload, tmp_path / "3") == ""


def test_failure_may_be_no_reason_to_stop(bcast, payload, tmp_path, flux):
    (tmp_path / "3").write_text("mine")
    done = bcast(
        "echo", "up", file=payload, destination=f"{tmp_path}/{{rank}}", on_failure="continue"
    )
    assert done.stdout.split() == ["up"] * SIZE
    assert done.stderr.count("\n") == 1
    assert "rank 3 (" in done.stderr and "exists: remove it, or allow overwrite" in done.stderr
    assert leftovers(tmp_path) == []
    assert (tmp_path / "3").read_text() == "mine"
    for rank in set(range(SIZE)) - {3}:
        assert difference(payload, tmp_path / str(rank)) == ""
    document = report(flux)
    assert (document["ok"], document["error"], document["failed"]) == (True, None, [3])
    record = dict(zip(document["fields"], document["records"][3]))
    assert (record["state"], record["kind"]) == (4, 2)
    assert "exists: remove it" in record["text"]


def test_a_full_disk(bcast, tmp_path, flux):
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        bcast(check=False, file=source, destination=f"{small}/{{rank}}")
        assert "no space left on device" in note(flux)
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


# ---- shells that are not there


def partial_rc(tmp_path, without: int) -> dict[str, str]:
    """Return an environment in which one shell has no plugin."""
    folder = tmp_path / "rc"
    folder.mkdir()
    text = f'if shell.info.rank ~= {without} then plugin.load {{ file = "{PLUGIN}" }} end\n'
    (folder / "partial.lua").write_text(text)
    return {"FLUX_SHELL_RC_PATH": str(folder)}


@pytest.mark.parametrize(("rank", "text"), [(2, "has not come within"), (0, "has not answered")])
def test_a_shell_without_the_plugin_is_named(flux, payload, tmp_path, rank, text):
    env = partial_rc(tmp_path, rank)
    option = f"-otree-bcast=chain,file={payload},destination={tmp_path}/{{rank}},timeout=1s"
    done = flux("run", "-N4", option, "true", env=env, check=False)
    assert done.returncode != 0
    assert f"rank {rank} (" in note(flux)
    assert text in note(flux)
    assert leftovers(tmp_path) == []


def test_a_shell_without_the_plugin_may_be_no_reason_to_stop(flux, payload, tmp_path):
    env = partial_rc(tmp_path, 2)
    option = f"-otree-bcast=chain,file={payload},timeout=1s,on-failure=continue"
    option += f",destination={tmp_path}/{{rank}}"
    done = flux("run", "-N4", option, "echo", "up", env=env)
    assert done.stdout.split() == ["up"] * 4
    assert "rank 2 (" in done.stderr
    assert [difference(payload, tmp_path / str(rank)) for rank in (0, 1, 3)] == [""] * 3
    assert not (tmp_path / "2").exists()


def submit_large(flux, tmp_path) -> str:
    """Start a broadcast that takes long enough to look at; return the job."""
    source = tmp_path / "source"
    with source.open("wb") as f:
        for _ in range(256):
            f.write(os.urandom(1 << 20))
    option = f"-otree-bcast=chain,file={source},destination={tmp_path}/{{rank}}"
    return flux("submit", f"-N{SIZE}", option, "true").stdout.strip()


def test_a_shell_that_dies_ends_the_job(flux, tmp_path):
    job = submit_large(flux, tmp_path)
    wait_until(lambda: leftovers(tmp_path))
    os.kill(shells_of(job)[SIZE - 1], 9)
    done = flux("job", "attach", job, check=False)
    assert done.returncode != 0
    assert "its shell has died" in note(flux)
    # what stands there is of the one that was killed
    assert len(leftovers(tmp_path)) <= 1


def test_a_cancelled_job_leaves_nothing_behind(flux, tmp_path):
    job = submit_large(flux, tmp_path)
    wait_until(lambda: len(leftovers(tmp_path)) == SIZE)
    flux("cancel", job)
    flux("job", "wait-event", job, "clean")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
    assert shells_of(job) == {}


# ---- who asks


def test_another_shell_cannot_say_hello_twice(flux, tmp_path):
    """Whoever is no shell of the job, or comes for one that is here, gets no key."""
    pytest.importorskip("flux")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1000))
    # rank 1 never comes, so the first shell waits, and answers us
    env = partial_rc(tmp_path, 1)
    option = f"-otree-bcast=chain,file={source},destination={tmp_path}/{{rank}},timeout=5s"
    job = flux("submit", "-N2", option, "true", env=env).stdout.strip()
    flux("job", "wait-event", "-p", "exec", job, "shell.init")
    code = """
import flux, sys
from flux.job import JobID
handle = flux.Flux()
topic = f"{sys.argv[2]}-shell-{JobID(sys.argv[1]).f58plain}.tree-bcast.hello"
nodeid = int(sys.argv[3])
for rank in (0, 7, -1):
    body = {"rank": rank, "address": "127.0.0.1:1", "host": "x", "error": ""}
    try:
        print(handle.rpc(topic, body, nodeid=nodeid).get())
    except OSError as exc:
        print(exc)
"""
    resources = json.loads(flux("job", "info", job, "R").stdout)
    first = resources["execution"]["R_lite"][0]["rank"].split("-")[0].split(",")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, job, str(os.getuid()), first],
        env={**os.environ, "FLUX_URI": flux("getattr", "local-uri").stdout.strip()},
        capture_output=True,
        text=True,
    )
    assert "key" not in done.stdout
    assert done.stdout.count("this is no shell of the job") == 3, done.stdout + done.stderr
    flux("cancel", job)
    flux("job", "wait-event", job, "clean")
