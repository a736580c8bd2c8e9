"""Experiments on a real API server, with a stand-in for the operator behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_tree.experiment import Design, run
from flux_tree.experiment._store import read_status
from flux_tree.kubernetes import Cluster, ClusterOptions, Container, MiniCluster
from flux_tree.kubernetes._cluster import MANAGER, RUN_LABEL, ClusterError

pytestmark = pytest.mark.cluster


def design(**more: Any) -> Design:
    values = {"strategies": ["two-tree"], "sizes": ["64KiB"], "iterations": 1, "cell_limit": 60}
    return Design(["kubernetes"], [2], ["kary:1"], **{**values, **more})


def options(server: Any, **more: Any) -> ClusterOptions:
    return ClusterOptions(**{"kubeconfig": str(server.kubeconfig), "pending_limit": 1.0, **more})


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def failure(server: Any, tmp_path: Path, **more: Any) -> str:
    """Run a cell that fails; return why it says it does."""
    summary = run(design(**more), tmp_path / "r", options=options(server))
    assert (summary.ok, summary.failed) == (0, 1)
    assert objects(server) == []
    return str(results(tmp_path / "r")[0]["error"])


def objects(server: Any) -> list[str]:
    """Return what is in the cluster: MiniClusters and pods."""
    from kubernetes import client

    api = server.api()
    custom = client.CustomObjectsApi(api)
    found = custom.list_cluster_custom_object("flux-framework.org", "v1alpha2", "miniclusters")
    pods = client.CoreV1Api(api).list_pod_for_all_namespaces().items
    return [m["metadata"]["name"] for m in found["items"]] + [p.metadata.name for p in pods]


@pytest.mark.flux
def test_a_cell_runs_and_leaves_nothing(server: Any, operator: Any, tmp_path: Path) -> None:
    what = design(transports=["direct", "content"], strategies=["all"])
    summary = run(what, tmp_path / "r", options=options(server, name="study", image="mine:1"))
    assert (summary.ok, summary.failed) == (2, 0), results(tmp_path / "r")
    events = [e["event"] for r in results(tmp_path / "r") for e in r["events"]]
    assert events.count("distribute-all-nodes") == 2 and "create-archive" in events
    assert objects(server) == []
    logs = sorted((tmp_path / "r" / "logs").iterdir())
    assert len(logs) == 2
    assert all("flux-tree-answer" in log.read_text() for log in logs)
    for item in operator.seen:
        assert item["metadata"]["name"].startswith("study-")
        assert item["spec"]["containers"][0]["image"] == "mine:1"
        assert item["spec"]["flux"]["topology"] == "kary:1"
        assert item["spec"]["size"] == 2


def test_what_is_shown_is_what_is_made(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script, operator.text = "says", "nothing\n"
    run_it = command(server, tmp_path)
    shown = subprocess.run([*run_it, "--dry-run"], capture_output=True, text=True, check=True)
    subprocess.run(run_it, capture_output=True)
    (made,) = operator.seen
    (manifest,) = yaml.safe_load_all(shown.stdout)
    assert made["metadata"]["name"] == manifest["metadata"]["name"]
    assert contains(made["spec"], manifest["spec"])


def test_nothing_is_lost_of_a_manifest(server: Any, tmp_path: Path) -> None:
    """A server prunes what the schema has not: then something else would come back."""
    from flux_tree.experiment._backend_kubernetes import KubernetesBackend

    cluster = Cluster(str(server.kubeconfig))
    backend = KubernetesBackend(design())
    chosen = options(server, node_selector={"pool": "a"}, share_nodes=True, pull_policy="Always")
    backend.configure(tmp_path, chosen)
    for made in backend.manifests(design().blocks()):
        cluster.create(made)
        from kubernetes import client

        custom = client.CustomObjectsApi(server.api())
        kind = ("flux-framework.org", "v1alpha2", "default", "miniclusters")
        stored = custom.get_namespaced_custom_object(*kind, made.name)
        assert contains(stored["spec"], made.to_dict()["spec"])
        assert stored["metadata"]["labels"] == made.to_dict()["metadata"]["labels"]
        custom.delete_namespaced_custom_object(*kind, made.name)


def contains(stored: Any, sent: Any) -> bool:
    if isinstance(sent, dict):
        return all(key in stored and contains(stored[key], sent[key]) for key in sent)
    if isinstance(sent, list):
        return len(stored) == len(sent) and all(map(contains, stored, sent))
    return bool(stored == sent)


def test_no_room(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script = "unschedulable"
    error = failure(server, tmp_path)
    assert "cannot be scheduled: 0/3 nodes are available: 3 Insufficient cpu." in error


def test_no_image(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script = "no-image"
    error = failure(server, tmp_path)
    assert "ImagePullBackOff: flux-tree:latest: Failed to pull image: rpc error" in error


def test_no_end(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script = "never"
    error = failure(server, tmp_path, cell_limit=2)
    assert error == "no end within 2 s: still at work"
    assert "still at work" in next((tmp_path / "r" / "logs").iterdir()).read_text()


def test_no_operator(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script = "idle"
    assert "has got no pods: does the Flux Operator run?" in failure(server, tmp_path)


def test_no_answer(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script, operator.text = "fails", "flux: what?\nbroker: out of luck\n"
    error = failure(server, tmp_path)
    assert error.startswith("container flux-tree-")
    assert error.endswith(": exit code 1; its log has no answer: broker: out of luck")
    assert "out of luck" in next((tmp_path / "r" / "logs").iterdir()).read_text()


def test_pods_that_somebody_removes(server: Any, operator: Any, tmp_path: Path) -> None:
    operator.script = "vanishes"
    error = failure(server, tmp_path)
    assert error.endswith("-0-abcde has gone: somebody has removed it, or its node")


def command(server: Any, tmp_path: Path, **more: Any) -> list[str]:
    file = tmp_path / "design.yaml"
    file.write_text(design(**more).to_yaml())
    run_it = [sys.executable, "-m", "flux_tree", "experiment", "run", str(file)]
    run_it += ["--output", str(tmp_path / "r"), "--kubeconfig", str(server.kubeconfig)]
    return run_it


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing(
    server: Any, operator: Any, tmp_path: Path, number: signal.Signals
) -> None:
    operator.script = "never"
    process = subprocess.Popen(command(server, tmp_path), stderr=subprocess.PIPE)
    wait_for(lambda: len(objects(server)) == 3)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130 and b"goes on with the rest" in err
        assert objects(server) == []
    wait_for(lambda: objects(server) == [])
    assert read_status(tmp_path / "r") == {}


def test_what_an_earlier_run_left_is_removed(server: Any, operator: Any, tmp_path: Path) -> None:
    from flux_tree.experiment._backend_kubernetes import KubernetesBackend

    operator.script, operator.text = "says", "nothing\n"
    backend = KubernetesBackend(design())
    (tmp_path / "r").mkdir()
    backend.configure(tmp_path / "r", options(server))
    labels = {**MANAGER, RUN_LABEL: backend.options.run_id}
    Cluster(str(server.kubeconfig)).create(
        MiniCluster("left", 1, Container("image", "true"), labels=labels)
    )
    run(design(), tmp_path / "r", options=options(server))
    assert objects(server) == []


def refusal(args: list[str]) -> str:
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode not in (0, 130) and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_what_fails_for_every_cell_ends_the_run(server: Any, tmp_path: Path) -> None:
    base = command(server, tmp_path)
    assert "namespace 'none': there is none" in refusal([*base, "--namespace", "none"])
    guest = [*base[:-1], str(server.guest)]
    assert "guest" in refusal(guest) and "cannot be listed" in refusal(guest)
    assert "no configuration found" in refusal([*base[:-1], "/none"]).lower()
    broken = yaml.safe_load(server.kubeconfig.read_text())
    broken["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "broken").write_text(yaml.safe_dump(broken))
    assert "cannot be reached" in refusal([*base[:-1], str(tmp_path / "broken")])


def test_what_another_run_has_made_stays(server: Any, operator: Any, tmp_path: Path) -> None:
    """A name that is taken is refused, and not removed along with the cell."""
    from flux_tree.experiment._backend_kubernetes import KubernetesBackend

    operator.script = "never"
    backend = KubernetesBackend(design())
    (tmp_path / "r").mkdir()
    backend.configure(tmp_path / "r", options(server))
    (made,) = backend.manifests(design().blocks())
    cluster = Cluster(str(server.kubeconfig))
    cluster.create(MiniCluster(made.name, 1, Container("image", "true")))
    run(design(), tmp_path / "r", options=options(server))
    assert "already exists" in results(tmp_path / "r")[0]["error"]
    assert made.name in objects(server)
    cluster.delete(made.name, 10)


def test_rights_that_are_missing_are_named(server: Any) -> None:
    """What the documentation says is needed is enough, and nothing of it can be left out."""
    from kubernetes import client

    rbac = client.RbacAuthorizationV1Api(server.api())
    needed = [
        ("flux-framework.org", "miniclusters", "list"),
        ("flux-framework.org", "miniclusters", "create"),
        ("flux-framework.org", "miniclusters", "delete"),
        ("", "pods", "list"),
        ("", "pods/log", "get"),
    ]
    metadata = {"name": "study"}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "study"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "guest"}]
    rbac.create_namespaced_role("default", {"metadata": metadata, "rules": []})
    rbac.create_namespaced_role_binding(
        "default", {"metadata": metadata, "roleRef": ref, "subjects": subjects}
    )
    guest = Cluster(str(server.guest))
    rules: list[Any] = []
    try:
        for group, resource, verb in needed:
            # the server takes a moment to know a new rule
            wait_for(lambda: says(guest, verb, resource))  # noqa: B023
            rules.append({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
            role = {"metadata": metadata, "rules": rules}
            rbac.replace_namespaced_role("study", "default", role)
        wait_for(lambda: not refusal_of(guest))
    finally:
        rbac.delete_namespaced_role_binding("study", "default")
        rbac.delete_namespaced_role("study", "default")


def refusal_of(cluster: Cluster) -> str:
    try:
        cluster.check()
    except ClusterError as exc:
        return str(exc)
    return ""


def says(cluster: Cluster, verb: str, resource: str) -> bool:
    refused = refusal_of(cluster)
    assert refused
    return verb in refused and resource in refused
