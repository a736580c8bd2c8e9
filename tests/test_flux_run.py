"""flux run --tree-bcast: what the CLI plugin makes of the option."""

from __future__ import annotations

import json
import subprocess

import pytest
from flux_support import PACKAGE, SET_UP, in_instance

from flux_tree import PlanError, Topology, UsageError, _setup, strategies
from flux_tree._submission import complete_option

pytestmark = pytest.mark.flux
needs_plugin = pytest.mark.skipif(not _setup.PLUGIN.exists(), reason="built without flux-core")

STRATEGIES = """
from flux_tree import Plan
from flux_tree.strategies import rank_count

class Star:
    def plan(self, topology, members=None):
        return Plan([[-1] + [0] * (rank_count(topology) - 1)])

class Follow:
    def plan(self, topology, members=None):
        return Plan([topology.parents])

class Members:
    def plan(self, topology, members=None):
        n = rank_count(topology)
        return Plan([[-1] + [0] * (n - 1)], None if members is None else members)

class Broken:
    def plan(self, topology, members=None):
        raise RuntimeError("broken")
"""


@pytest.fixture
def cwd(tmp_path):
    (tmp_path / "my.py").write_text(STRATEGIES)
    (tmp_path / "f").write_text("data\n")
    (tmp_path / "other.lua").write_text("-- nothing\n")
    (tmp_path / "good.lua").write_text(f'source "{_setup.RC_FILE}"\n')
    return tmp_path


def dry(cwd, *args, prog="run"):
    """Run without an instance; return exit code, shell options or None, standard error."""
    run = subprocess.run(
        ["flux", prog, "--dry-run", *args, *(["--wrap"] if prog == "batch" else []), "true"],
        env=SET_UP,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        return run.returncode, None, run.stderr
    options = json.loads(run.stdout)["attributes"]["system"]["shell"]["options"]
    return 0, options, run.stderr


FORMS = [
    ["--tree-bcast=chain,file=f"],
    ["--tree-bcast=chain", "-o", "tree-bcast.file=f"],
    ["--tree-bcast=file=f", "-o", "tree-bcast.strategy=chain"],
    ["--tree-bcast=file=f", "-o", "tree-bcast=chain"],
    ["--tree-bcast=file=f,strategy=chain"],
    ["-o", "tree-bcast=chain,file=f"],
    ["-o", "tree-bcast.strategy=chain", "-o", "tree-bcast.file=f"],
    ["-o", "tree-bcast=chain", "-o", "tree-bcast.file=f"],
    ["-o", "tree-bcast.file=f", "-o", "tree-bcast=chain"],
    ["-o", 'tree-bcast={"strategy": "chain"}', "-o", "tree-bcast.file=f"],
    ["-o", "tree-bcast", "-o", "tree-bcast.file=f", "-o", "tree-bcast.strategy=chain"],
]


@pytest.mark.parametrize("args", FORMS, ids=" ".join)
def test_all_forms_are_the_same(cwd, args):
    code, options, err = dry(cwd, "-N2", "--env=-*", *args)
    assert (code, err) == (0, "")
    assert options["tree-bcast"] == {"strategy": "chain", "file": str(cwd / "f")}
    assert options["userrc"] == str(PACKAGE / "shell" / "tree-bcast.lua")


@pytest.mark.parametrize("prog", ["run", "submit", "alloc", "batch"])
def test_all_commands_have_it(cwd, prog):
    code, options, err = dry(cwd, "-N2", "--tree-bcast=file=f,destination=/d", prog=prog)
    assert (code, err) == (0, "")
    assert options["tree-bcast"] == {"file": str(cwd / "f"), "destination": "/d"}
    assert "userrc" in options
    run = subprocess.run(["flux", prog, "--help"], env=SET_UP, capture_output=True, check=True)
    assert b"--tree-bcast=STRATEGY" in run.stdout


@needs_plugin
def test_many_jobs_of_one_command(cwd):
    show = "sh -c 'cat $FLUX_JOB_TMPDIR/f'"
    script = (
        "flux bulksubmit --quiet --watch -N2 --tree-bcast=my.py:Star -o tree-bcast.file={}"
        f" {show} ::: f f &&"
        f" flux submit --quiet --watch --cc=1-2 -N2 --tree-bcast=my.py:Star,file=f {show}"
    )
    run = in_instance(script, cwd=cwd)
    assert (run.returncode, run.stdout) == (0, "data\n" * 8), run.stderr


def test_jobs_without_it_are_left_alone(cwd):
    code, options, _ = dry(cwd, "-N2", "-o", "verbose", "-o", "userrc=other.lua")
    assert code == 0 and options["userrc"] == "other.lua" and "tree-bcast" not in options


@pytest.mark.parametrize("path", ["/absolute", "{{tmpdir}}/f"])
def test_paths_that_need_no_folder_are_left_alone(cwd, path):
    options = dry(cwd, f"--tree-bcast=chain,file={path},report=r.json")[1]["tree-bcast"]
    assert options == {"strategy": "chain", "file": path, "report": str(cwd / "r.json")}


def test_help(cwd):
    run = subprocess.run(
        ["flux", "run", "--help=tree-bcast"], env=SET_UP, capture_output=True, text=True, check=True
    )
    assert "flux run -N16 --tree-bcast=two-tree,file=/data/model ./app" in run.stdout


BAD = [
    (["--tree-bcast=chain,strategy=flat"], "strategy is given twice"),
    (["--tree-bcast=chain", "-o", "tree-bcast=flat"], "strategy is given twice"),
    (["-o", "tree-bcast=[1]"], "give a strategy"),
    (["-o", "tree-bcast=17"], "give a strategy"),
    (["--tree-bcast=chain", "-o", "userrc=other.lua"], "add this line to it: source"),
    (["--tree-bcast=chain", "-o", "userrc=none.lua"], "none.lua: cannot be read"),
    (["--tree-bcast=chain", "-o", "initrc=other.lua"], "add this line to it: source"),
    (["--tree-bcast=my.py:Star"], "number of nodes: -N"),
    (["-N2", "--tree-bcast=mine.py:Star"], "no file 'mine.py'"),
    (["-N2", "--tree-bcast=my.py:Stars"], "no class 'Stars'"),
    (["-N2", "--tree-bcast=my.py:Follow"], "all nodes of the instance"),
    (["-N2", "--tree-bcast=my.py:Broken"], "RuntimeError: broken"),
    (["-N2", "--tree-bcast=my.py:Star,members=leaves"], "built-in strategies"),
    (["-N2", "--tree-bcast=my.py:Members,members=0-2"], "0-1"),
]
BAD_FOR_PLUGIN = [
    (["--tree-bcast=chian"], "did you mean 'chain'?"),
    (["--tree-bcast=chain,fiel=f"], "no 'fiel'"),
    (["--tree-bcast=file=f,timeout=soon"], "timeout=soon"),
    (["-o", "tree-bcast.chunk-size=1"], "chunk-size=1"),
    (["--tree-bcast=file=f,archive=main"], "archive=main"),
]


def refused(cwd, args, words):
    code, _, err = dry(cwd, *args)
    assert code == 1
    assert err.startswith("flux-run: ERROR: ") and err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(("args", "words"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_one_line_and_an_exit_code(cwd, args, words):
    refused(cwd, args, words)


@needs_plugin
@pytest.mark.parametrize(
    ("args", "words"), BAD_FOR_PLUGIN, ids=[" ".join(a) for a, _ in BAD_FOR_PLUGIN]
)
def test_what_the_plugin_would_refuse_is_refused_at_submission(cwd, args, words):
    refused(cwd, args, words)


@pytest.mark.parametrize("prog", ["alloc", "batch"])
def test_an_allocation_needs_a_destination(cwd, prog):
    code, _, err = dry(cwd, "-N2", "--tree-bcast=file=f", prog=prog)
    assert code == 1 and err.endswith("so say destination=\n") and err.count("\n") == 1


def test_a_userrc_that_sources_ours_is_kept(cwd):
    code, options, _ = dry(cwd, "--tree-bcast=chain", "-o", "userrc=good.lua")
    assert code == 0 and options["userrc"] == "good.lua"


def test_a_strategy_of_ones_own_is_a_plan(cwd):
    code, options, err = dry(cwd, "-N4", "--tree-bcast=my.py:Members,members=0-1,file=f")
    assert (code, err) == (0, "")
    option = options["tree-bcast"]
    assert set(option) == {"file", "plan"}
    assert option["plan"]["parents"] == [[-1, 0, 0, 0]]
    assert option["plan"]["deliver"] == [True, True, False, False]


@needs_plugin
def test_strategies_of_ones_own_in_jobs(cwd):
    show = 'sh -c "cat \\$FLUX_JOB_TMPDIR/f"'
    script = (
        f"flux run -N3 --tree-bcast=my.py:Star,file=f {show} &&"
        f" flux run -N3 --tree-bcast=my.py:Follow,file=f {show} &&"
        " flux run -N3 --tree-bcast=my.py:Follow,file=f --dry-run true &&"
        " ! flux run -N2 --tree-bcast=my.py:Follow,file=f true"
    )
    run = in_instance(script, size=3, cwd=cwd)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[:-1] == ["data"] * 6
    plan = json.loads(lines[-1])["attributes"]["system"]["shell"]["options"]["tree-bcast"]["plan"]
    assert plan["parents"] == [Topology.from_spec("kary:32", 3).parents.tolist()]


@needs_plugin
def test_in_a_nested_instance(cwd):
    script = (
        "flux alloc -N2 --tree-bcast=file=f,destination=$PWD/to-{rank} sh -c"
        " 'cat to-0 to-1; flux run -N2 --tree-bcast=file=f sh -c \"cat \\$FLUX_JOB_TMPDIR/f\"'"
    )
    run = in_instance(script, cwd=cwd)
    assert (run.returncode, run.stdout) == (0, "data\n" * 4), run.stderr


def test_python_that_went_away(cwd):
    env = {**SET_UP, "FLUX_TREE_PYTHON": str(cwd / "python")}
    command = ["flux", "run", "--dry-run", "-N2", "--tree-bcast=my.py:Star", "true"]
    run = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1 and "'flux-tree env'" in run.stderr


# ---- the part that runs in the Python of flux_tree


def test_built_in_strategies_stay_names():
    assert complete_option({"strategy": "kary:2"}, None, None) == {"strategy": "kary:2"}


def test_a_plan_over_the_topology_of_the_instance(cwd):
    overlay = {"rank": 0, "size": 3, "children": [
        {"rank": 1, "size": 2, "children": [{"rank": 2, "size": 1, "children": []}]}
    ]}  # fmt: skip
    option = complete_option({"strategy": f"{cwd}/my.py:Follow"}, 3, overlay)
    assert option["plan"]["parents"] == [[-1, 0, 1]]
    with pytest.raises(PlanError, match="all nodes of the instance"):
        complete_option({"strategy": f"{cwd}/my.py:Follow"}, 3, None)


@needs_plugin
def test_every_built_in_strategy_passes_the_plugin():
    for row in strategies.describe():
        if row.origin == "built-in":
            complete_option({"strategy": row.name.replace("kary", "kary:2")}, None, None)
    with pytest.raises(UsageError, match="no 'fiel'"):
        complete_option({"fiel": "f"}, None, None)
