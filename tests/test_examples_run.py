"""The shell lines of examples/minicluster, run by real brokers as the operator would run them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from entrypoint_support import Pods
from minicluster_support import documents

from flux_tree.experiment._pod import read_answer
from flux_tree.lab import Lab

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "minicluster"

pytestmark = [pytest.mark.flux, pytest.mark.lab]


@pytest.fixture(scope="module")
def lab():
    with Lab(hosts=7, rate=125e6) as lab:
        yield lab


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="pods-") as name:
        yield Path(name)


def the_minicluster(name):
    (found,) = (d for d in documents(EXAMPLES / name) if d["kind"] == "MiniCluster")
    return found


def run(lab, manifest, folder, keep=()):
    with Pods(lab, manifest, folder, keep=keep) as pods:
        out = pods.wait()
    assert pods.code == 0, out
    return pods, out


def digests(out):
    return re.findall(r"^([0-9a-f]{64})  \S+/data$", out, re.M)


def sha256(path):
    assert path.stat().st_size > 0
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_broadcast(lab, folder):
    pods, out = run(lab, the_minicluster("broadcast/minicluster.yaml"), folder)
    assert digests(out) == [sha256(pods.pod(0) / "mnt/flux/data")] * 4


def test_topology(lab, folder):
    pods, out = run(lab, the_minicluster("topology/minicluster.yaml"), folder)
    assert "\x1b" not in out, "colours and progress bars are not for a log"
    # the parents that kary:2 means, and not those of the operator's own fan-out
    rows = re.findall(r"^ +(\d) +\S+ +(\d|root) ", out, re.M)
    parents = ["root", "0", "0", "1", "1", "2", "2"]
    assert rows == [(str(rank), parent) for rank, parent in enumerate(parents)], out
    data = sha256(pods.pod(0) / "mnt/flux/data")
    assert [sha256(pods.pod(r) / "mnt/flux/copy") for r in range(7)] == [data] * 7


@pytest.mark.parametrize("medium", ["memory", pytest.param("disk", marks=pytest.mark.slow)])
def test_an_empty_dir(lab, folder, medium):
    pods, out = run(lab, the_minicluster(f"shared-data/{medium}.yaml"), folder)
    data = sha256(pods.pod(0) / "mnt/flux/data")
    assert digests(out) == [data] * 4
    assert [sha256(pods.pod(r) / "shm/data") for r in range(4)] == [data] * 4


@pytest.mark.slow
def test_a_folder_of_the_node(lab, folder):
    manifest = the_minicluster("shared-data/host.yaml")
    pods, out = run(lab, manifest, folder / "first")
    assert digests(out) == [sha256(pods.pod(0) / "mnt/flux/data")] * 4
    kept = [pods.pod(r) / "mnt" / "host" for r in range(4)]
    before = [(k / "data").stat().st_ino for k in kept]
    _, again = run(lab, manifest, folder / "again", kept)
    assert digests(again) == digests(out)
    # what was right is left as it was
    assert [(k / "data").stat().st_ino for k in kept] == before


def test_a_container_beside_it(lab, folder):
    pods, _ = run(lab, the_minicluster("shared-data/sidecar.yaml"), folder)
    data = sha256(pods.pod(0) / "mnt/flux/data")
    logs = [(pods.pod(r) / "application.log").read_text() for r in range(4)]
    assert logs == [f"{data}  /dev/shm/data\n"] * 4


@pytest.mark.slow
def test_the_experiment(lab, folder):
    """A MiniCluster that the Job would make, with the command line that is in the Job."""
    (job,) = (d for d in documents(EXAMPLES / "experiment/job.yaml") if d["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    design = str(EXAMPLES / "experiment/design.yaml")
    command = shlex.join([*container["command"], *container["args"]])
    command = command.replace("/design/design.yaml", design)
    command = command.replace("/results", str(folder / "results"))
    argv = [sys.executable, "-m", "flux_tree", *shlex.split(command)[1:], "--dry-run"]
    made = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = [d for d in yaml.safe_load_all(made) if d["spec"]["flux"]["topology"] == "kary:2"]
    (folder / "results").mkdir()
    cells = [json.loads(d["spec"]["containers"][0]["environment"]["FLUX_TREE_CELL"]) for d in found]
    one = next(i for i, c in enumerate(cells) if c["cell"]["transport"] == "content")
    _, out = run(lab, found[one], folder / "pods")
    answer = read_answer(out)
    assert (answer["status"], answer["error"]) == ("ok", None)
    names = {event["event"] for event in answer["events"]}
    assert "distribute-all-nodes" in names
