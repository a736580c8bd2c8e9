"""MiniClusters that come to grief, on a real API server: what is said of them, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_tree.kubernetes import Cluster, Container, MiniCluster, MiniClusterRun, Network
from flux_tree.kubernetes._cluster import ClusterError

pytestmark = pytest.mark.cluster

NAME = "mine"
#: Longer than any of these tests: what is reported is so before a limit is reached.
LONG = 30.0


@pytest.fixture
def cluster(server: Any, operator: Any) -> Iterator[Cluster]:
    found = Cluster(str(server.kubeconfig))
    yield found
    found.delete(NAME, 30)


def follow(cluster: Cluster, pending: float = LONG, run: float = LONG, **more: Any) -> Any:
    made = MiniCluster(NAME, 2, Container("image", "true"), **more)
    return MiniClusterRun(cluster, made, pending, lambda: None).run(LONG, run)


def grief(cluster: Cluster, **more: Any) -> str:
    with pytest.raises(ClusterError) as caught:
        follow(cluster, **more)
    return str(caught.value)


def test_a_log_is_that_of_a_terminal(cluster: Cluster, operator: Any) -> None:
    operator.script, operator.text = "says", "one\ntwo\n"
    assert follow(cluster) == ("one\r\ntwo\r\n", 0, None)


def test_a_pod_that_is_out_of_memory_is_named(cluster: Cluster, operator: Any) -> None:
    operator.script = "out-of-memory"
    assert grief(cluster) == f"pod {NAME}-1-abcde: container {NAME}: exit code 137, OOMKilled"


def test_the_first_pod_is_evicted_and_its_log_has_gone(cluster: Cluster, operator: Any) -> None:
    operator.script = "evicted"
    message = "Evicted: The node was low on resource: memory."
    assert grief(cluster) == f"pod {NAME}-0-abcde: {message}"


def test_another_pod_in_its_place_is_not_taken_for_it(cluster: Cluster, operator: Any) -> None:
    operator.script = "replaced"
    error = grief(cluster)
    assert re.fullmatch(rf"pod {NAME}-[01]-abcde has gone: somebody has removed it, .*", error)


def test_pods_on_one_node(cluster: Cluster, operator: Any) -> None:
    operator.script = "one-node"
    error = grief(cluster)
    assert error.startswith(f"pods {NAME}-0-abcde and {NAME}-1-abcde share node node-0, and")
    cluster.delete(NAME, 30)
    error = grief(cluster, network=Network(disable_affinity=True), run=1.0)
    assert error == "no end within 1 s: still at work"


def test_a_quota_that_lets_only_some_pods_be(cluster: Cluster, operator: Any) -> None:
    operator.script = "quota"
    error = grief(cluster, pending=1.0)
    assert f"{NAME}: it has got 1 of 2 pods: Error creating: pods" in error
    assert "exceeded quota: pods=1 (for 1 s)" in error


def test_a_pull_that_fails_is_told_by_its_own_event(cluster: Cluster, operator: Any) -> None:
    operator.script = "no-image"
    error = grief(cluster, pending=1.0)
    assert "ImagePullBackOff: image: Failed to pull image: rpc error: code = NotFound" in error


def test_a_log_that_cannot_be_read_at_first(cluster: Cluster, operator: Any) -> None:
    operator.script, operator.text, operator.broken = "says", "late\n", 2
    assert follow(cluster).log == "late\r\n"
    assert operator.broken == 0


def test_a_log_that_is_missing_is_not_a_missing_operator(
    cluster: Cluster, operator: Any, tmp_path: Path
) -> None:
    operator.script = "never"
    with pytest.raises(ClusterError):
        follow(cluster, run=1.0)
    lead, *_ = cluster.pods(NAME)
    (tmp_path / "logs" / lead.metadata.name).unlink()
    with pytest.raises(ClusterError, match="pod mine-0-abcde: its log cannot be read: "):
        cluster.log(lead, NAME)
