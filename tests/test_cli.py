"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import leftovers

import flux_tree
from flux_tree import Plan, Topology, UsageError, designs, strategies
from flux_tree.cli import _app, _text

COMMANDS = [name for section in _app.SECTIONS.values() for name in section]
#: Those whose commands have commands.
GROUPS = ("lab", "experiment")
JSON_COMMANDS = [n for n in COMMANDS if n not in ("completion", "env", "install", *GROUPS)]


def start(*args, env=None, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "flux_tree", *args],
        env={**os.environ, **(env or {})},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )


def run(*args, **more):
    """Run the command as a user does; return exit code, standard output and standard error."""
    process = start(*args, **more)
    out, err = process.communicate(timeout=120)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def invoke(*args):
    """Run the command in this process; return what it printed on standard output."""
    return CliRunner().invoke(_app.cli, args, catch_exceptions=False).stdout


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(os.urandom(300_000))
    return path


# ---- help, version, start-up


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_names_every_command_in_its_section(args):
    code, out, err = run(*args)
    assert (code, err) == (0, "")
    for section, commands in _app.SECTIONS.items():
        listed = out.partition(f"{section}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in listed.splitlines()] == list(commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_teaches(name):
    out = invoke(name, "--help")
    assert out.startswith(f"Usage: cli {name}")
    if name == "completion":
        assert "~/.bashrc" in out
        return
    assert "Examples:" in out
    assert name in GROUPS or ("--json" in out) == (name in JSON_COMMANDS)
    examples = re.findall(r"^ +(?:sudo )?(flux-tree .*)$", out, re.M)
    assert any(example.startswith(f"flux-tree {name}") for example in examples)


def test_the_examples_of_the_help_work():
    for name in ("topology", "designs", "strategies", "plan"):
        for line in re.findall(r"^ +flux-tree (.*)$", invoke(name, "--help"), re.M):
            args = line.split()
            if args[0] == name and "--draw" not in args and "--output" not in args:
                assert invoke(*args)


def test_version_imports_next_to_nothing():
    code = (
        "import sys; from flux_tree.cli import main; main(['--version']);"
        "print(sorted({'numpy', 'rich', 'matplotlib', '_cffi_backend'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == f"flux-tree {flux_tree.__version__}\n[]\n"


def test_help_imports_no_numpy():
    code = (
        "import sys; from flux_tree.cli import main; main(['--help']); main(['bcast', '--help']);"
        "print(sorted({'numpy', 'rich', 'matplotlib', '_cffi_backend'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.endswith("\n[]\n")


# ---- topology, designs, strategies, plan


def test_topology():
    out = invoke("topology", "kary:2", "--size", "8")
    tree, figures = out.split("\n\n")
    assert tree + "\n" == Topology.from_spec("kary:2", 8).text()
    assert re.search(r"^levels +4  with 1 2 4 1 ranks$", figures, re.M)
    assert re.search(r"^leaves +4  ranks 4-7$", figures, re.M)
    assert invoke("topology", "kary:2", "--size", "8", "--no-tree") == figures


def test_topology_as_json():
    topology = Topology.from_spec("binomial", 11)
    data = json.loads(invoke("topology", "binomial", "--size", "11", "--json"))
    assert data == {
        "topo": "binomial",
        "size": 11,
        "parents": topology.parents.tolist(),
        "depth": topology.max_depth,
        "fanout": topology.fanout,
        "levels": [level.tolist() for level in topology.levels],
        "leaves": topology.leaves.tolist(),
        "middle": topology.middle.tolist(),
        "deepest": topology.deepest.tolist(),
    }


def test_custom_topology():
    data = json.loads(invoke("topology", "custom", "--parents", "-1,0,0,1", "--json"))
    assert (data["size"], data["parents"]) == (4, [-1, 0, 0, 1])


def test_topology_of_a_long_chain_without_its_tree():
    out = invoke("topology", "kary:1", "--size", "20000", "--no-tree")
    assert re.search(r"^levels +20000 ", out, re.M)


def test_designs(tmp_path):
    expected = designs.design_set(range(4, 9), range(1, 32))
    rows = invoke("designs", "--sizes", "4-8").splitlines()
    assert len(rows) == 1 + len(expected)
    assert rows[1].split()[:2] == ["4", "binomial"]
    assert invoke("designs", "--sizes", "4-8", "--json") == f"{designs.designs_json(expected)}\n"
    text = designs.designs_text(expected)
    assert invoke("designs", "--sizes", "4-8", "--format", "text") == text
    for name, content in (("a.json", designs.designs_json(expected) + "\n"), ("a.txt", text)):
        invoke("designs", "--sizes", "4-8", "--output", str(tmp_path / name))
        assert (tmp_path / name).read_text() == content


def test_strategies():
    rows = invoke("strategies").splitlines()
    assert len(rows) == 1 + len(strategies.describe())
    data = json.loads(invoke("strategies", "--json"))
    assert [row["name"] for row in data] == strategies.names()
    assert set(data[0]) == {"name", "usage", "stripes", "depth", "load", "when", "origin"}


def test_strategies_of_installed_packages_are_listed(tmp_path):
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flux_tree.strategies]\nstar = other:Star\n")
    (tmp_path / "other.py").write_text(
        "class Star:\n"
        "    '''All under rank 0.'''\n"
        "    def plan(self, topology, members=None): ...\n"
    )
    code, out, _ = run("strategies", env={"PYTHONPATH": str(tmp_path)})
    assert code == 0
    assert re.fullmatch(r"star +other:Star +All under rank 0.", out.splitlines()[-1])


def test_plan():
    out = invoke("plan", "two-tree", "--size", "8")
    plan = strategies.plan("two-tree", 8)
    first = Topology.from_parents(plan.parents[0]).text()
    assert out.startswith(f"tree 1 of 2\n{first}\ntree 2 of 2\n")
    assert re.search(r"^depth +3 ", out, re.M)
    assert re.search(r"^load +1 ", out, re.M)


def test_plan_marks_relays_and_leaves_out_who_takes_no_part():
    out = invoke("plan", "leaves", "--size", "8", "--topology", "kary:2")
    assert out.startswith("0\n└─ 1 (relay)\n   └─ 3 (relay)\n      └─ 7\n\n")
    assert "1 rank through 2 relays" in out


@pytest.mark.parametrize("name", ["two-tree", "edst", "middle-leaves:strict"])
def test_plan_as_json_is_a_plan(name):
    args = ("plan", name, "--size", "12", "--topology", "kary:2", "--json")
    assert Plan.from_json(invoke(*args)) == strategies.plan(name, Topology.from_spec("kary:2", 12))


def test_plan_with_members():
    data = json.loads(invoke("plan", "chain", "--size", "8", "--members", "0-3,6", "--json"))
    assert data["parents"] == [[-1, 0, 1, 2, -2, -2, 3, -2]]


def test_plan_cost():
    given = ["--bytes", "1GB", "--bandwidth", "8Gbit/s", "--latency", "1ms"]
    given += ["--chunk-size", "1MB"]
    args = ("plan", "kary:2", "--size", "15", *given)
    cost = json.loads(invoke(*args, "--json"))["cost"]
    assert cost["seconds"] == pytest.approx(2 * 1.0 + 3 * (1e-3 + 1e-3))
    assert (cost["limit_s"], cost["max_load"], cost["depth"]) == (1.0, 2.0, 3)
    assert re.search(r"^limit +1 s ", invoke(*args), re.M)
    assert re.search(r"^cost +2.01 s .*: 49.9% of the limit$", invoke(*args), re.M)


def test_many_lines_of_trees_are_printed_on_demand():
    assert "--tree prints them" in invoke("plan", "kary:2", "--size", "300")
    assert invoke("plan", "kary:2", "--size", "300", "--tree").startswith("0\n├─ 1\n")


# ---- bcast


def test_bcast(tmp_path, source):
    code, out, err = run("bcast", source, tmp_path / "to-{rank}", "--ranks", "4")
    assert (code, err) == (0, "")
    for rank in range(4):
        assert (tmp_path / f"to-{rank}").read_bytes() == source.read_bytes()
    assert "engine: local, 4 processes" in out
    table = out.split("\n\n")[1].splitlines()
    assert table[0].split()[:2] == ["RANK", "PARENTS"]
    assert [line.split()[0] for line in table[1:]] == ["0", "1", "2", "3"]
    plan = strategies.plan("two-tree", 4)
    assert table[2].split()[1] == ",".join(map(str, plan.parents[:, 1]))
    for name in ("slowest", "median", "p95", "limit", "reached"):
        assert re.search(rf"^{name} ", out, re.M)


def test_bcast_as_json(tmp_path, source):
    to = tmp_path / "to-{rank}"
    code, out, err = run("bcast", source, to, "--ranks", "3", "--strategy", "chain", "--json")
    assert code == 0 and "engine: local" in err
    data = json.loads(out)
    summary = data["summary"]
    assert {"strategy", "ranks", "bytes", "slowest_s", "median_s", "limit_ratio"} <= set(summary)
    assert (summary["strategy"], summary["ranks"], summary["bytes"]) == ("chain", 3, 300_000)
    assert [r["rank"] for r in data["records"]] == [0, 1, 2]
    assert [r["parents"] for r in data["records"]] == [[-1], [0], [1]]
    assert Plan.from_json(data["plan"]) == strategies.plan("chain", 3)


def test_bcast_options_reach_the_broadcast(tmp_path, source):
    code, out, _ = run(
        *("bcast", source, tmp_path / "to-{rank}", "--strategy", "leaves", "--topology", "kary:2"),
        *("--ranks", "8", "--chunk-size", "64KiB", "--security", "none", "--timeout", "30s"),
        *("--workers", "1", "--bandwidth", "8Mbit/s", "--json"),
    )
    assert code == 0
    summary = json.loads(out)["summary"]
    assert (summary["strategy"], summary["security"]) == ("leaves", "none")
    assert (summary["chunk_size"], summary["bandwidth"]) == (65536, 1e6)
    assert summary["limit_s"] == 0.3
    assert [p.name for p in tmp_path.iterdir() if p != source] == ["to-7"]


def test_bcast_shows_the_slowest_of_many(tmp_path, source):
    code, out, _ = run("bcast", source, tmp_path / "to-{rank}", "--ranks", "20")
    assert code == 0
    table = out.split("\n\n")[1].splitlines()
    assert len(table) == 1 + 16 + 1
    assert table[-1].startswith("the slowest 16 of 20 ranks")
    checked = [float(line.split()[5]) for line in table[1:-1]]
    assert checked == sorted(checked, reverse=True)


def test_bcast_quietly(tmp_path, source):
    assert run("bcast", source, tmp_path / "to-{rank}", "--ranks", "2", "-q") == (0, "", "")


def test_bcast_to_one_rank_and_of_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for ranks in ("1", "3"):
        to = tmp_path / f"to-{ranks}-{{rank}}"
        code, out, _ = run("bcast", tmp_path / "empty", to, "--ranks", ranks)
        assert code == 0 and "0 B in 0 files" in out and "reached" not in out


def test_bcast_again_needs_overwrite(tmp_path, source):
    args = ("bcast", source, tmp_path / "to-{rank}", "--ranks", "2", "-q")
    assert run(*args)[0] == 0
    code, _, err = run(*args)
    assert code == 4 and re.fullmatch(r"flux-tree: error: .*exists.*\n", err)
    assert run(*args, "--overwrite") == (0, "", "")


# ---- how things go wrong

BAD = [
    (2, ["frob"], "no command 'frob'"),
    (2, ["topolgy"], "did you mean 'topology'?"),
    (2, ["--frob"], "--help"),
    (2, ["plan", "chain"], "--size"),
    (2, ["plan", "chain", "--size", "x"], "'x' is not a valid integer"),
    (2, ["plan", "chain", "--size", "0"], "1 or more"),
    (2, ["plan", "two-tre", "--size", "8"], "did you mean 'two-tree'?"),
    (2, ["plan", "chain", "--size", "8", "--members", "0-8"], "0-7"),
    (2, ["plan", "chain", "--size", "8", "--bytes", "1GB"], "give both"),
    (2, ["plan", "nofile.py:Class", "--size", "8"], "no file 'nofile.py'"),
    (2, ["topology", "kary:2"], "--size"),
    (2, ["topology", "kary:x", "--size", "3"], "kary:x"),
    (2, ["topology", "custom", "--parents", "-1,b"], "'b' is no rank"),
    (2, ["topology", "custom", "--parents", "-1,1"], "rank 1"),
    (2, ["topology", "kary:2", "--size", "4", "--parents", "-1,0,0,0"], "custom"),
    (2, ["topology", "kary:1", "--size", "20000"], "smaller or a flatter"),
    (2, ["designs", "--output", "designs.foo"], ".json or .txt"),
    (2, ["designs", "--sizes", "4-"], "--sizes"),
    (4, ["designs", "--output", "/no/such/designs.json"], "/no/such"),
    (2, ["completion", "tcsh"], "'tcsh'"),
    (2, ["bcast", "SOURCE"], "DEST"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--ranks", "0"], "--ranks 0"),
    (2, ["bcast", "SOURCE", "x"], "{rank}"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--security", "ssl"], "'ssl'"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--bandwidth", "0"], "10Gbit/s"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--chunk-size", "64kb"], "write kB"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--chunk-size", "1"], "4096"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--timeout", "0"], "above 0"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--workers", "0"], "--workers"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--topology", "kry:2"], "kry:2"),
    (2, ["bcast", "SOURCE", "x-{rank}", "--plot", "x.foo"], "'foo'"),
    (4, ["bcast", "SOURCE", "x-{rank}", "--plot", "none/x.png"], "'none'"),
    (3, ["bcast", "nothing-here", "x-{rank}"], "nothing-here"),
    (3, ["bcast", "/dev/null", "x-{rank}"], "/dev/null"),
    (4, ["bcast", "SOURCE", "/no/such/x-{rank}"], "/no/such/x-0"),
]


@pytest.mark.parametrize(("code", "args", "words"), BAD, ids=[" ".join(b[1]) for b in BAD])
def test_one_line_and_an_exit_code(tmp_path, source, code, args, words):
    args = [str(source) if arg == "SOURCE" else arg for arg in args]
    got, _, err = run(*args, cwd=tmp_path, env={"PYTHONPATH": os.getcwd()})
    assert got == code
    assert re.fullmatch(r"flux-tree: error: [^\n]+\n", err)
    assert words in err
    assert sorted(tmp_path.iterdir()) == [source]


def test_nothing_but_json_on_standard_output_when_it_fails(tmp_path):
    code, out, err = run("bcast", "nothing-here", tmp_path / "x-{rank}", "--json")
    assert (code, out) == (3, "") and err.count("\n") == 1


def faulty(tmp_path, body):
    path = tmp_path / "faulty.py"
    path.write_text(f"class Faulty:\n    def plan(self, topology, members=None):\n        {body}\n")
    return "plan", f"{path}:Faulty", "--size", "4"


def test_a_bug_is_one_line_too(tmp_path):
    args = faulty(tmp_path, "raise ValueError('two\\nlines')")
    code, out, err = run(*args)
    assert (code, out) == (70, "")
    assert re.fullmatch(
        r"flux-tree: error: ValueError: two\\nlines \(.*FLUX_TREE_DEBUG=1.*\)\n", err
    )
    code, _, err = run(*args, env={"FLUX_TREE_DEBUG": "1"})
    assert code == 70 and err.startswith("Traceback") and "in plan" in err


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise MemoryError", "out of memory"),
        ("open('/no/such/file')", "/no/such/file: No such file or directory"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_what_the_machine_lacks_is_one_line(tmp_path, body, line):
    assert run(*faulty(tmp_path, body)) == (1, "", f"flux-tree: error: {line}\n")


def test_interrupted(tmp_path):
    args = faulty(tmp_path, "import time; print('now', flush=True); time.sleep(60)")
    process = start(*args)
    assert process.stdout.readline() == b"now\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"flux-tree: interrupted\n")


def test_interrupted_in_the_middle_of_a_broadcast(tmp_path):
    source = tmp_path / "source"
    with source.open("wb") as f:
        for _ in range(128):
            f.write(os.urandom(1 << 20))
    process = start("bcast", source, tmp_path / "to-{rank}", "--ranks", "6")
    while not leftovers(tmp_path):  # ranks have begun to write
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"flux-tree: interrupted\n")
    assert list(tmp_path.iterdir()) == [source]


def test_a_reader_that_leaves_is_not_an_error():
    process = start("plan", "kary:2", "--size", "50000", "--tree")
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 141
    process.stderr.close()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_not_matter(tmp_path, source, closed):
    command = f'"$0" -m flux_tree bcast "$1" "$2" --ranks 2 {closed}'
    to = tmp_path / "{rank}"
    done = subprocess.run(["sh", "-c", command, sys.executable, source, to], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "1").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("args", [["strategies"], ["topology", "kary:2", "--size", "9", "--json"]])
def test_a_full_disk_under_standard_output(args):
    with open("/dev/full", "wb") as full:
        code, _, err = run(*args, stdout=full)
    assert (code, err) == (1, "flux-tree: error: No space left on device\n")


# ---- what stands where: pipes, terminals, encodings

#: An encoding without box characters: no UTF-8 mode, no help from the locale.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.mark.parametrize("columns", ["40", "500"])
def test_plain_text_does_not_depend_on_a_width(columns):
    env = {"COLUMNS": columns, "TERM": "xterm-256color", "FORCE_COLOR": "1"}
    code, out, _ = run("strategies", env=env)
    assert code == 0 and out == invoke("strategies")
    assert "\x1b" not in out and out.isascii()
    assert len({line.find("built-in") for line in out.splitlines()[1:]}) == 1


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, ASCII], ids=["C", "ascii"])
def test_other_locales(tmp_path, source, env):
    code, out, err = run("topology", "kary:2", "--size", "5", env=env)
    assert (code, err) == (0, "")
    tree = "0\n├─ 1\n│  ├─ 3\n│  └─ 4\n└─ 2\n"
    assert out.startswith(tree if env != ASCII else tree.translate(_text.ASCII_TREE))
    for command in COMMANDS:
        assert run(command, "--help", env=env)[0] == 0
    code, _, err = run("bcast", source, tmp_path / "ä-{rank}", "--ranks", "2", env=env)
    assert (code, err) == (0, "")
    assert (tmp_path / "ä-1").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "C"}, ASCII], ids=["utf-8", "C", "ascii"])
def test_names_that_are_not_utf8(tmp_path, env):
    source = os.fsencode(tmp_path) + b"/s\xff\n"
    Path(os.fsdecode(source)).write_bytes(b"data")
    to = os.fsencode(tmp_path) + b"/d\xfe-{rank}"
    code, out, _ = run(b"bcast", source, to, b"--ranks", b"2", b"--json", env=env)
    assert code == 0
    assert os.fsencode(json.loads(out)["destination"]) == to
    assert Path(os.fsdecode(to.replace(b"{rank}", b"1"))).read_bytes() == b"data"
    code, _, err = run(b"bcast", source, os.fsencode(tmp_path) + b"/d\xfe", env=env)
    assert code == 2 and "/d\\xfe: 8 ranks" in err
    code, _, err = run(b"bcast", source + b"gone", to, b"--ranks", b"2", env=env)
    assert code == 3 and err.count("\n") == 1


def on_terminal(columns, *args, err=False):
    """Run with standard output (or error) on a terminal; return the exit code and what it shows."""
    try:
        ours, theirs = pty.openpty()
    except OSError as exc:
        pytest.skip(f"no terminal to be had: {exc}")
    env = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = start(*args, env=env, **{"stderr" if err else "stdout": theirs})
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    return process.returncode, shown.decode(), (out or b"").decode()


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_tables_fit_the_terminal(tmp_path, source, columns):
    to = tmp_path / "to-{rank}"
    code, shown, _ = on_terminal(columns, "bcast", source, to, "--ranks", "4")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "")
    table = plain.split("\n\n")[1].splitlines()
    assert len(table) == 5 and max(map(len, table)) <= columns
    assert "DISK/s" in table[0] if columns >= 100 else "CONN/s" not in table[0]
    assert "CHECKED/s" in table[0]
    code, shown, _ = on_terminal(columns, "strategies")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "")
    assert code == 0 and max(map(len, plain.splitlines())) <= columns
    assert len(plain.splitlines()) > len(strategies.names())


def test_progress_is_on_standard_error_if_that_is_a_terminal(tmp_path, source):
    args = ("bcast", source, tmp_path / "to-{rank}", "--ranks", "3", "--json")
    code, shown, out = on_terminal(80, *args, err=True)
    assert code == 0 and json.loads(out)["summary"]["ranks"] == 3
    assert re.search(r"\d+%", shown) and "of 293 KiB a rank" in shown
    # what was there before counts as well; it may be over before anybody looks
    again = (on_terminal(80, *args, "--resume", err=True)[1] for _ in range(3))
    assert any("293 KiB of 293 KiB a rank" in shown for shown in again)


# ---- completion


def complete(words, last):
    """Return what the shell offers for the last word."""
    env = {"_FLUX_TREE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(last)}
    code, out, err = run(env=env)
    assert (code, err) == (0, "")
    return [line.partition(",")[2] for line in out.splitlines()]


def test_commands_strategies_and_specs_complete():
    assert complete("flux-tree ", 1) == COMMANDS
    assert complete("flux-tree bc", 1) == ["bcast"]
    assert set(strategies.names()) <= set(complete("flux-tree plan ", 2))
    assert complete("flux-tree plan two", 2) == ["two-tree"]
    assert "kary:2" in complete("flux-tree topology ka", 2)
    assert complete("flux-tree bcast a b --strategy edst", 5) == ["edst"]
    assert "binomial" in complete("flux-tree plan leaves --topology b", 4)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_the_shell_reads(shell):
    code, out, _ = run("completion", shell)
    assert code == 0 and f"_FLUX_TREE_COMPLETE={shell}_complete" in out and "flux-tree" in out


def test_bash_takes_the_completion(tmp_path):
    _, script, _ = run("completion", "bash")
    done = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p flux-tree"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "_flux_tree_completion" in done.stdout


# ---- text


def test_printable():
    assert _text.printable("plain ä ├") == "plain ä ├"
    assert _text.printable("a\nb\x1b[31m\udcff\u2028") == "a\\nb\\x1b[31m\\xff\\u2028"


def test_usage_errors_of_click_become_ours():
    with pytest.raises(UsageError, match="see 'flux-tree plan --help'"):
        _app.run(["plan", "chain", "--size", "x"])
