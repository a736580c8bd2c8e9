"""MiniClusters as data, and which cluster they are for; none is needed."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_tree.errors import UsageError
from flux_tree.experiment import Design
from flux_tree.experiment._backend_kubernetes import KubernetesBackend
from flux_tree.experiment._pod import REQUEST_VAR
from flux_tree.kubernetes import (
    FIELDS,
    Cluster,
    ClusterOptions,
    Commands,
    Container,
    FluxOptions,
    FluxView,
    Logging,
    MiniCluster,
    Network,
    Pod,
    Volume,
    unknown_fields,
)
from flux_tree.kubernetes._cluster import RIGHTS

import minicluster_support  # isort: skip

DOCS = Path(__file__).parent.parent / "docs" / "kubernetes.md"

#: With a value for all that there is.
FULL = MiniCluster(
    "a-1",
    4,
    Container(
        "image",
        "app --flag",
        launcher=True,
        working_dir="/data",
        image_pull_policy="Never",
        image_pull_secret="registry",
        environment={"ANY_NAME": "x"},
        commands=Commands("id", "true", "false", "date", "hostname"),
        volumes={
            "data": Volume("/dev/shm", empty_dir=True, empty_dir_medium="memory"),
            "disk": Volume("/disk", host_path="/mnt", read_only=True),
            "all": Volume("/all", "/mnt", True, "memory", "1Gi", "claim", "secret", True),
        },
    ),
    namespace="study",
    labels={"a": "b"},
    flux=FluxOptions("kary:2", "-o tree-bcast=binomial", "5s", True, FluxView(True, "view")),
    logging=Logging(quiet=True, strict=True),
    network=Network(disable_affinity=True),
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
    assert container["commands"] == {
        "init": "id",
        "pre": "true",
        "post": "false",
        "brokerPre": "date",
        "workerPre": "hostname",
    }
    assert container["volumes"]["data"] == {
        "path": "/dev/shm",
        "emptyDir": True,
        "emptyDirMedium": "memory",
    }
    assert yaml.safe_load(yaml.safe_dump(manifest)) == manifest


def test_only_what_was_given_is_in_it() -> None:
    assert MiniCluster("a", 1, Container("i", "c")).to_dict()["spec"] == {
        "size": 1,
        "containers": [{"image": "i", "command": "c"}],
    }


def given(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields of typed data that have a value, with their classes."""
    if is_dataclass(value):
        for field in fields(value):
            part = getattr(value, field.name)
            if part is not None and part != {}:
                yield type(value).__name__, field.name
                yield from given(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from given(part)


def example(known: Any) -> Any:
    """Return a value that has every field of a list of them."""
    if isinstance(known, dict):
        return {"x" if key == "*" else key: example(part) for key, part in known.items()}
    if isinstance(known, list):
        return [example(known[0])]
    first = known[0] if isinstance(known, tuple) else known
    return {str: "1", int: 1, bool: True}[first]


def test_every_field_of_the_data_is_one_of_the_kind() -> None:
    kinds = (MiniCluster, Container, Commands, Volume, FluxOptions, FluxView, Logging, Network, Pod)
    assert set(given(FULL)) == {(kind.__name__, f.name) for kind in kinds for f in fields(kind)}
    assert unknown_fields(FULL.to_dict()) == []
    minicluster_support.check_crd(FULL.to_dict())


def test_every_field_of_the_list_is_one_of_the_kind() -> None:
    manifest = {**MiniCluster("a", 1, Container("i", "c")).to_dict(), "spec": example(FIELDS)}
    assert unknown_fields(manifest) == []
    minicluster_support.check_crd(manifest)


def test_the_crd_refuses_what_it_does_not_know() -> None:
    manifest = copy.deepcopy(FULL.to_dict())
    manifest["spec"]["containers"][0]["volumes"]["data"]["emptyDirr"] = True
    with pytest.raises(AssertionError, match="emptyDirr"):
        minicluster_support.check_crd(manifest)


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


def test_the_longest_name_is_one_in_dns() -> None:
    """That of the last pod of many, which ends in six letters of its Job's."""
    design = Design(["kubernetes"], [4], ["kary:1"], ["two-tree"], ["direct"], ["64KiB"])
    (made, *_) = manifests(design, Path("r"), ClusterOptions(name="a" * 37))
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", made.name)
    assert len(f"{made.name}-999999-abcde") == 63


def test_names_of_runs_into_two_folders_differ() -> None:
    design = Design(["kubernetes"], [4], ["kary:1"], ["two-tree"], ["direct"], ["64KiB"])
    one, two = (manifests(design, Path(x), ClusterOptions()) for x in ("one", "two"))
    names = {made.name for made in (*one, *two)}
    assert len(names) == len(one) + len(two) > 2
    (label,) = {made.labels["flux-tree/run"] for made in one}
    assert re.fullmatch(r"[a-z0-9]{1,63}", label)
    assert {made.labels["flux-tree/run"] for made in two} != {label}
    assert manifests(design, Path("one"), ClusterOptions()) == one


@pytest.mark.parametrize(
    ("values", "where", "what"),
    [
        ({"image": "a"}, "flux.container", {"disable": True, "image": "a"}),
        ({"view": True}, "flux.container", None),
        ({}, "network", None),
        ({"share_nodes": True}, "network", {"disableAffinity": True}),
        ({"node_selector": {"a/b": "c"}}, "pod.nodeSelector", {"a/b": "c"}),
    ],
)
def test_options_of_a_cluster(values: dict[str, Any], where: str, what: Any) -> None:
    design = Design(["kubernetes"], [4], ["kary:1"], ["two-tree"], ["direct"], ["64KiB"])
    manifest = manifests(design, Path("r"), ClusterOptions(**values))[0].to_dict()
    minicluster_support.check(manifest)
    if minicluster_support.crd_or_none() is not None:
        minicluster_support.check_crd(manifest)
    found: Any = manifest["spec"]
    for key in where.split("."):
        found = found.get(key)
    assert found == what


def manifests(design: Design, folder: Path, options: ClusterOptions) -> list[MiniCluster]:
    """Return what a run into a folder makes."""
    backend = KubernetesBackend(design)
    backend.configure(folder, options)
    return list(backend.manifests(design.blocks()))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"image": "a b"}, "image 'a b'"),
        ({"name": "a" * 38}, "at most 37"),
        ({"namespace": "A"}, "namespace 'A'"),
        ({"pull_policy": "never"}, "must be one of Always"),
        ({"pull_secret": "a/b"}, "pull secret 'a/b'"),
        ({"pending_limit": 0}, "above 0"),
    ],
)
def test_no_options(values: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ClusterOptions(**values)


# ---- which cluster


KUBECONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [
        {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "study"}},
        {"name": "there", "context": {"cluster": "c", "user": "u"}},
    ],
}


def test_which_namespace(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump({**KUBECONFIG, "current-context": "here"}))
    assert Cluster(str(file)).namespace == "study"
    assert Cluster(str(file), "there").namespace == "default"
    assert Cluster(str(file), "there", "mine").namespace == "mine"
    file.write_text(yaml.safe_dump(KUBECONFIG))
    assert Cluster(str(file), "here").namespace == "study"


@pytest.mark.parametrize(
    ("text", "context", "why"),
    [
        (yaml.safe_dump(KUBECONFIG), None, "current-context"),
        (yaml.safe_dump(KUBECONFIG), "nowhere", "nowhere"),
        ("", None, "is empty"),
        ("{a: [", None, "cannot be read (while parsing"),
        ("- a", None, "cannot be read"),
        ("\x00", None, "cannot be read"),
        (None, None, "No configuration found"),
    ],
)
def test_no_cluster(tmp_path: Path, text: str | None, context: str | None, why: str) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as caught:
        Cluster(str(file), context)
    message = str(caught.value)
    assert message.startswith(f"kubeconfig {file}: ") and why in message
    assert "--kubeconfig" in message and "\n" not in message


def test_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(UsageError, match=r"pip install 'flux-tree\[kubernetes\]'"):
        Cluster()


def test_the_role_in_the_manual_is_what_is_asked_for() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    role = yaml.safe_load(text)
    minicluster_support.check(role)
    has = {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for verb, group, resource, subresource in RIGHTS:
        has.remove((verb, group, f"{resource}/{subresource}" if subresource else resource))
    # the first is found out by doing so, the second is for the reasons of failures
    assert has == {("list", "flux-framework.org", "miniclusters"), ("list", "", "events")}


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
    args += ["--pull-secret", "login"]
    done = flux_tree(*args)
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    assert len(found) == 2 * 3 * 3  # topologies, strategies, iterations
    assert len({m["metadata"]["name"] for m in found}) == len(found)
    for manifest in found:
        assert unknown_fields(manifest) == []
        spec, metadata = manifest["spec"], manifest["metadata"]
        assert metadata["namespace"] == "study" and metadata["name"].startswith("mine-")
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "flux-tree"
        (container,) = spec["containers"]
        assert container["image"] == "here/tree:1" and container["imagePullPolicy"] == "Never"
        assert container["imagePullSecret"] == "login"
        request = json.loads(container["environment"][REQUEST_VAR])
        assert request["cell"]["topology"] == spec["flux"]["topology"]
        assert spec["size"] == request["cell"]["nodes"] == 4
        assert spec["network"] == {"disableAffinity": True}
        assert spec["pod"]["nodeSelector"] == {"pool": "a"}
        if minicluster_support.crd_or_none() is not None:
            minicluster_support.check_crd(manifest)


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
