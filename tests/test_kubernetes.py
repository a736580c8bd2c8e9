"""MiniClusters as data, and what comes out of their logs; no cluster is needed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_tree.errors import BroadcastError, UsageError
from flux_tree.experiment import Design
from flux_tree.experiment._pod import REQUEST_VAR, answer_lines, read_answer
from flux_tree.kubernetes import (
    ClusterOptions,
    Commands,
    Container,
    FluxOptions,
    FluxView,
    MiniCluster,
    Pod,
    Volume,
    unknown_fields,
)

import minicluster_support  # isort: skip
from flux_support import in_instance  # isort: skip

FULL = MiniCluster(
    "a-1",
    4,
    Container(
        "image",
        "app --flag",
        launcher=True,
        working_dir="/data",
        image_pull_policy="Never",
        environment={"ANY_NAME": "x"},
        commands=Commands(pre="true", broker_pre="date"),
        volumes={
            "data": Volume("/data", empty_dir=True, empty_dir_medium="Memory"),
            "disk": Volume("/disk", host_path="/mnt", read_only=True),
            "login": Volume("/login", secret_name="login"),
        },
    ),
    namespace="study",
    labels={"a": "b"},
    flux=FluxOptions("kary:2", "-o tree-bcast=binomial", "5s", True, FluxView(True, "view")),
    pod=Pod({"c": "d"}, {"pool": "x"}, "me", "Never"),
    deadline_seconds=100,
    tasks=8,
)


def test_a_manifest() -> None:
    manifest = FULL.to_dict()
    assert manifest["apiVersion"] == "flux-framework.org/v1alpha2"
    assert manifest["metadata"] == {"name": "a-1", "namespace": "study", "labels": {"a": "b"}}
    spec = manifest["spec"]
    assert (spec["size"], spec["tasks"], spec["deadlineSeconds"]) == (4, 8, 100)
    assert spec["flux"] == {
        "topology": "kary:2",
        "optionFlags": "-o tree-bcast=binomial",
        "connectTimeout": "5s",
        "completeWorkers": True,
        "container": {"disable": True, "image": "view"},
    }
    (container,) = spec["containers"]
    assert container["imagePullPolicy"] == "Never" and container["workingDir"] == "/data"
    assert container["environment"] == {"ANY_NAME": "x"}
    assert container["commands"] == {"pre": "true", "brokerPre": "date"}
    assert container["volumes"]["data"] == {
        "path": "/data",
        "emptyDir": True,
        "emptyDirMedium": "Memory",
    }
    assert yaml.safe_load(yaml.safe_dump(manifest)) == manifest


def test_only_what_was_given_is_in_it() -> None:
    assert MiniCluster("a", 1, Container("i", "c")).to_dict()["spec"] == {
        "size": 1,
        "containers": [{"image": "i", "command": "c"}],
    }


def test_every_field_is_one_of_the_kind() -> None:
    assert unknown_fields(FULL.to_dict()) == []
    minicluster_support.check_crd(FULL.to_dict())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("flux.topolgy", "kary:2"),
        ("size", "4"),
        ("size", True),
        ("containers", {}),
        ("containers.0.volumes.data.emptyDirr", True),
        ("pod.labels.x", 1),
    ],
)
def test_unknown_fields(path: str, value: Any) -> None:
    manifest = FULL.to_dict()
    *way, last = path.split(".")
    place = manifest["spec"]
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    assert unknown_fields(manifest) == ["spec." + path.replace(".0.", "[0].")]


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a-", "-a", "a" * 51, "a.b"])
def test_no_names(name: str) -> None:
    with pytest.raises(UsageError, match="of a MiniCluster"):
        MiniCluster(name, 1, Container("i", "c"))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"image": "a b"}, "image 'a b'"),
        ({"name": "a" * 38}, "at most 37"),
        ({"namespace": "A"}, "namespace 'A'"),
        ({"pull_policy": "never"}, "must be one of Always"),
        ({"pending_limit": 0}, "above 0"),
    ],
)
def test_no_options(values: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ClusterOptions(**values)


# ---- the answer in a log


def test_an_answer_in_a_log() -> None:
    rng = random.Random(1)
    answer = {"status": "ok", "records": [rng.random() for _ in range(5000)]}
    lines = answer_lines(answer)
    assert len(lines) > 50 and max(map(len, lines)) < 512
    noise = ["broker.err[0]: something", "", "flux-tree-answer is no such line"]
    log = noise + [f"2026-01-01T00:00:00Z {line.decode()}" for line in lines]
    rng.shuffle(log)
    assert read_answer("\n".join(log)) == answer


def test_no_answer_in_a_log() -> None:
    lines = [line.decode() for line in answer_lines({"x": os.urandom(3000).hex()})]
    with pytest.raises(BroadcastError, match=f"only a part of the answer, {len(lines) - 1} of"):
        read_answer("".join(lines[1:]))
    with pytest.raises(BroadcastError, match="has no answer: it has written nothing"):
        read_answer("\n")
    with pytest.raises(BroadcastError, match="has no answer: out of memory"):
        read_answer("begin\nout of memory\n")


@pytest.mark.flux
def test_what_a_pod_runs(tmp_path: Path) -> None:
    """The command of the first pod, as its MiniCluster has it."""
    from flux_tree.experiment._backend_kubernetes import KubernetesBackend

    design = Design(
        ["kubernetes"], [3], ["kary:1"], ["middle-leaves"], ["content"], ["64KiB"], iterations=1
    )
    backend = KubernetesBackend(design)
    (made,) = backend.manifests(design.blocks())
    container = made.to_dict()["spec"]["containers"][0]
    command = container["command"].replace("python3", sys.executable)
    request = container["environment"][REQUEST_VAR]
    done = in_instance(f"{REQUEST_VAR}='{request}' {command}", size=3)
    answer = read_answer(done.stdout)
    assert answer["status"] == "failed" and "has not the topology kary:1" in answer["error"]
    script = f"flux start --test-size=3 -Stbon.topo=kary:1 {command}"
    done = in_instance(f"export {REQUEST_VAR}='{request}'; unset FLUX_URI; {script}", size=1)
    answer = read_answer(done.stdout)
    assert answer["status"] == "ok", answer
    assert "distribute-middle-nodes-0" in [event["event"] for event in answer["events"]]


# ---- the command line


def flux_tree(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flux_tree", "experiment", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def design_file(tmp_path: Path) -> Path:
    path = tmp_path / "design.yaml"
    done = flux_tree("design", "--topologies", "kary:2,binomial", "--sizes", "1MiB", "-o", path)
    assert done.returncode == 0
    return path


def test_the_manifests_of_a_design(design_file: Path) -> None:
    args = ["run", design_file, "--dry-run", "--backend", "kubernetes", "--nodes", "4"]
    args += ["--image", "here/tree:1", "--namespace", "study", "--name", "mine"]
    args += ["--pull-policy", "Never", "--node-selector", "pool=a", "--share-nodes"]
    done = flux_tree(*args)
    assert done.returncode == 0, done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    assert len(manifests) == 2 * 3 * 3  # topologies, strategies, iterations
    assert len({m["metadata"]["name"] for m in manifests}) == len(manifests)
    for manifest in manifests:
        assert unknown_fields(manifest) == []
        spec, metadata = manifest["spec"], manifest["metadata"]
        assert metadata["namespace"] == "study" and metadata["name"].startswith("mine-")
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "flux-tree"
        (container,) = spec["containers"]
        assert container["image"] == "here/tree:1" and container["imagePullPolicy"] == "Never"
        request = json.loads(container["environment"][REQUEST_VAR])
        assert request["cell"]["topology"] == spec["flux"]["topology"]
        assert spec["size"] == request["cell"]["nodes"] == 4
        assert spec["network"] == {"disableAffinity": True}
        assert spec["pod"]["nodeSelector"] == {"pool": "a"}
    if os.environ.get("FLUX_TREE_CRD"):
        minicluster_support.check_crd(manifests[0])


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--image", "x"], "--image: of backend kubernetes only"),
        (["--backend", "kubernets"], "did you mean 'kubernetes'?"),
        (["--backend", "kubernetes", "--node-selector", "x"], "give LABEL=VALUE"),
        (["--backend", "kubernetes", "--pending-limit", "x"], "x"),
        (["--backend", "kubernetes", "--name", "A"], "name 'A'"),
        (["--backend", "kubernetes", "--cell-limit", "0"], "cell_limit"),
    ],
)
def test_no_run(design_file: Path, args: list[str], why: str) -> None:
    done = flux_tree("run", design_file, "--dry-run", *args)
    assert done.returncode == 2 and done.stdout == ""
    assert why in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
