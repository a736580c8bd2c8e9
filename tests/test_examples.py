"""The manifests in examples/minicluster, against the schemas of what they are."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from minicluster_support import (
    check,
    check_crd,
    documents,
    minicluster_files,
    strict_validator,
)

from flux_tree.experiment.design import Design
from flux_tree.kubernetes import unknown_fields
from flux_tree.kubernetes._cluster import RIGHTS

TOP = Path(__file__).resolve().parent.parent
EXAMPLES = TOP / "examples" / "minicluster"
MINICLUSTERS = list(minicluster_files(EXAMPLES))
#: What reads files that are no objects of a cluster; designs have none.
OTHERS = {"none", "eksctl.io", "kind.x-k8s.io", "kustomize.config.k8s.io"}
#: What of eksctl's ClusterConfig is used.
EKS = {
    "apiVersion": "eksctl.io/v1alpha5",
    "metadata": {"name", "region"},
    "managedNodeGroups": {
        *("name", "instanceType", "minSize", "maxSize", "desiredCapacity", "volumeSize"),
        *("availabilityZones", "placement"),
    },
}

SMALL = {
    "apiVersion": "flux-framework.org/v1alpha2",
    "kind": "MiniCluster",
    "metadata": {"name": "small"},
    "spec": {
        "size": 2,
        "tasks": 2,
        "flux": {"topology": "kary:2", "noWaitSocket": True},
        "containers": [{"image": "flux-tree:latest", "command": "true"}],
    },
}


def test_a_good_one_passes():
    check(SMALL)
    check_crd(SMALL)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.flux.topolgy", "kary:2"),
        ("spec.flux.topology", 2),
        ("spec.flux.noWaitSocket", "yes"),
        ("spec.containers.0.volumes", {"shm": {"emptydir": True}}),
        ("spec.containers.0.commands", {"brokerpre": "true"}),
        ("spec.tasks", "2"),
        ("spek", {}),
        ("kind", "Minicluster"),
    ],
)
def test_the_list_of_fields_refuses(path, value):
    assert unknown_fields(changed(path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.flux.topolgy", "kary:2"),
        ("spec.flux.topology", 2),
        ("spec.containers.0.volumes", {"shm": {"emptydir": True}}),
        ("spec.containers.0.resources", {"limits": {"cpu": []}}),
        ("spec.containers", None),
        ("metadata.nam", "x"),
        ("spek", {}),
    ],
)
def test_the_schema_refuses(path, value):
    assert list(strict_validator().iter_errors(changed(path, value))) != []


def test_a_secret_with_a_wrong_field_is_refused():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringdata": {}}
    with pytest.raises(jsonschema.ValidationError):
        check(secret)


def shipped():
    """Yield every document that is for a cluster's API, with a name."""
    for path in sorted(EXAMPLES.rglob("*.yaml")):
        for document in documents(path):
            # a design has no kind; eksctl, kind and kustomize read files of their own
            if not OTHERS & {document.get("apiVersion", "none").partition("/")[0]}:
                yield pytest.param(document, id=f"{path.parent.name}/{path.name}")


@pytest.mark.parametrize("document", list(shipped()))
def test_what_is_shipped(document):
    check(document)


@pytest.mark.parametrize("path", MINICLUSTERS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_minicluster_that_is_shipped(path):
    for document in documents(path):
        if document["kind"] == "MiniCluster":
            check_crd(document)


@pytest.mark.parametrize("path", MINICLUSTERS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_what_the_operator_makes_of_it(path):
    """What no schema says, and the operator's sources do."""
    (manifest,) = (d for d in documents(path) if d["kind"] == "MiniCluster")
    spec = manifest["spec"]
    runners = [c for c in spec["containers"] if c.get("runFlux") or len(spec["containers"]) == 1]
    assert len(runners) == 1
    assert all("name" in c for c in spec["containers"] if c not in runners)
    # one task if nothing is said, and then one pod only has any part in the job
    assert spec["tasks"] == spec["size"]
    # what writes the configuration must be the user that reads it, so it is of the same image;
    # with a view both are root
    if path.name != "view.yaml":
        assert spec["flux"]["container"] == {"image": runners[0]["image"], "disable": True}
    # pasted between double quotes, and then taken apart at spaces
    for text in (runners[0]["command"], spec["flux"].get("optionFlags", "")):
        assert not re.search(r"""["'$`\\\n]""", text)
    # a redirection is put behind it, which must not be one of its last line
    for text in runners[0].get("commands", {}).values():
        assert text.endswith("\n")
    for container in spec["containers"]:
        empty = [v for v in container.get("volumes", {}).values() if v.get("emptyDir")]
        assert [v["path"] for v in empty] in ([], ["/dev/shm"])
        for name, volume in container.get("volumes", {}).items():
            assert volume.get("configMapName", name) == name
            assert volume.get("emptyDirMedium", "memory") == "memory"


def test_the_clusters_of_the_study():
    for nodes in (6, 30, 256):
        (config,) = documents(EXAMPLES / "clusters" / f"eks-{nodes}.yaml")
        (group,) = config["managedNodeGroups"]
        assert config["apiVersion"] == EKS["apiVersion"]
        assert set(config["metadata"]) == EKS["metadata"]
        assert set(group) <= EKS["managedNodeGroups"]
        assert {group[k] for k in ("minSize", "maxSize", "desiredCapacity")} == {nodes}
        assert set(group["availabilityZones"]) <= set(config["availabilityZones"])
    (kind,) = documents(EXAMPLES / "clusters" / "kind.yaml")
    assert set(kind) == {"kind", "apiVersion", "name", "nodes"}
    assert [n["role"] for n in kind["nodes"]] == ["control-plane", *["worker"] * 4]


def test_the_command_for_google_cloud(tmp_path):
    gcloud = tmp_path / "gcloud"
    gcloud.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n[ "$3" != describe ]\n')
    gcloud.chmod(0o755)
    script = EXAMPLES / "clusters" / "gke.sh"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("LOCATION", None)
    for bad in ([], ["0"], ["x"], ["6", "7"], ["delete"]):
        assert subprocess.run([script, *bad], env=environment, capture_output=True).returncode == 2
    subprocess.run([script, "30"], env=environment, check=True)
    subprocess.run([script, "delete", "30"], env=environment, check=True)
    called = (tmp_path / "gcloud.log").read_text().splitlines()
    assert [" ".join(line.split()[:4]) for line in called] == [
        "compute networks describe flux-tree",
        "compute networks create flux-tree",
        "container clusters create flux-tree-30",
        "container clusters delete flux-tree-30",
    ]
    assert "--num-nodes=30 " in called[2]


def test_an_image_is_built_by_what_is_there(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "grep", "tail"):
        (tools / name).symlink_to(shutil.which(name))
    command = [TOP / "docker" / "build", "name:tag", "docker/Dockerfile"]

    def build():
        return subprocess.run(command, env={"PATH": tools}, capture_output=True, text=True)

    assert build().stderr == (
        "make image: neither docker nor podman is on PATH: install one of them\n"
    )
    engine = tools / "podman"
    engine.write_text('#!/bin/sh\n[ "$1" != info ] || { echo "no engine" >&2; exit 1; }\n')
    engine.chmod(0o755)
    assert build().stderr == f"make image: {engine} cannot work here: no engine\n"
    engine.write_text('#!/bin/sh\n[ "$1" = info ] || echo "$@"\n')
    top = f"{TOP}/docker/.."
    assert build().stdout == f"build -t name:tag -f {top}/docker/Dockerfile {top}\n"


def test_what_a_kustomization_names_is_there():
    for path in EXAMPLES.rglob("kustomization.yaml"):
        (document,) = documents(path)
        files = [f for g in document["configMapGenerator"] for f in g["files"]]
        for name in [*document["resources"], *files]:
            assert (path.parent / name).is_file()


def test_the_job_may_do_what_it_needs():
    (role,) = (d for d in documents(EXAMPLES / "experiment" / "job.yaml") if d["kind"] == "Role")
    allowed = {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    for verb, group, resource, part in RIGHTS:
        assert (verb, group, f"{resource}/{part}" if part else resource) in allowed


def test_the_design_can_be_run():
    design = Design.read(EXAMPLES / "experiment" / "design.yaml")
    assert list(design.backends) == ["kubernetes"]


def test_every_folder_has_a_readme_that_is_linked():
    index = (EXAMPLES / "README.md").read_text()
    for folder in sorted(p for p in EXAMPLES.iterdir() if p.is_dir()):
        assert (folder / "README.md").is_file()
        assert f"]({folder.name}/" in index
    for readme in EXAMPLES.rglob("README.md"):
        for link in re.findall(r"\]\(([^)#]+)", readme.read_text()):
            assert "://" in link or (readme.parent / link).exists(), f"{readme}: {link}"


def changed(path, value):
    manifest = copy.deepcopy(SMALL)
    *way, last = path.split(".")
    at = manifest
    for key in way:
        at = at[int(key)] if key.isdigit() else at[key]
    at[last] = value
    return manifest
