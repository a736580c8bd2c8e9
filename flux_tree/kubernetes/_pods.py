"""What the pods of a MiniCluster say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["end_of", "failure_of", "one_line", "rank_of", "runs", "shared_node", "telling", "waits"]

#: Why a container waits as long as all is well.
USUAL = ("ContainerCreating", "PodInitializing", None)
#: What kubelet says of a container beside the event that has the reason.
_EMPTY = re.compile(r"Error: [A-Za-z]+|Back-off .*")


def rank_of(pod: Any, name: str) -> int:
    """Return the rank of a pod in a MiniCluster.

    Parameters
    ----------
    pod : V1Pod
        Of the Job that the operator makes.
    name : str
        Of the MiniCluster.

    Returns
    -------
    int
        Its completion index; behind all others if it has none.
    """
    index = (pod.metadata.annotations or {}).get("batch.kubernetes.io/job-completion-index")
    if index is None:
        index = pod.metadata.name[len(name) + 1 :].partition("-")[0]
    return int(index) if index.isdigit() else 1 << 30


def runs(pod: Any) -> bool:
    """Return whether a pod runs, or has done so.

    Parameters
    ----------
    pod : V1Pod

    Returns
    -------
    bool
    """
    return pod.status.phase in ("Running", "Succeeded")


def end_of(pod: Any, container: str) -> int | None:
    """Return how a pod has ended.

    Parameters
    ----------
    pod : V1Pod
    container : str
        The one that matters: a cluster may put others beside it, which go on.

    Returns
    -------
    int or None
        The exit code; None as long as it has not ended.
    """
    for one in pod.status.container_statuses or ():
        terminated = one.state.terminated if one.state else None
        if one.name == container and terminated is not None:
            return int(terminated.exit_code)
    return {"Succeeded": 0, "Failed": 1}.get(pod.status.phase)


def failure_of(pod: Any) -> str | None:
    """Return why a pod has failed.

    Parameters
    ----------
    pod : V1Pod

    Returns
    -------
    str or None
        Such as ``Evicted: The node was low on resource: memory.``; None if it has not.
    """
    status = pod.status
    if status.phase != "Failed":
        return None
    if status.reason:
        return one_line(f"{status.reason}: {status.message or ''}").rstrip(": ")
    for one in _containers(status):
        terminated = one.state.terminated if one.state else None
        if terminated is not None and terminated.exit_code != 0:
            # "Error" is the reason of all that have no other
            reason = f", {terminated.reason}" if terminated.reason not in (None, "Error") else ""
            return f"container {one.name}: exit code {terminated.exit_code}{reason}"
    return "it has failed, and does not say why"


def waits(pod: Any) -> tuple[str, str, str] | None:
    """Return for what a container waits, if not for what all of them do.

    Parameters
    ----------
    pod : V1Pod

    Returns
    -------
    (str, str, str) or None
        The reason, such as ``ImagePullBackOff``, the image, and what else is said of it.
    """
    for one in _containers(pod.status):
        waiting = one.state.waiting if one.state else None
        if waiting is not None and waiting.reason not in USUAL:
            return waiting.reason, one.image, one_line(waiting.message or "")
    return None


def shared_node(pods: Iterable[Any]) -> tuple[str, str, str] | None:
    """Return two pods that are on one node.

    Parameters
    ----------
    pods : iterable of V1Pod

    Returns
    -------
    (str, str, str) or None
        Their names, and the node's.
    """
    seen: dict[str, str] = {}
    for pod in pods:
        node = pod.spec.node_name
        if node in seen:
            return seen[node], pod.metadata.name, node
        if node:
            seen[node] = pod.metadata.name
    return None


def telling(events: Iterable[Any]) -> str | None:
    """Return what was said last of something that went wrong.

    Parameters
    ----------
    events : iterable of V1Event
        Of one object.

    Returns
    -------
    str or None
    """
    warnings = [e for e in events if e.type == "Warning" and e.message]
    warnings.sort(
        key=lambda e: (
            not _EMPTY.fullmatch(one_line(e.message)),
            str(e.last_timestamp or e.event_time or e.metadata.creation_timestamp),
        )
    )
    return one_line(warnings[-1].message) if warnings else None


def one_line(text: str) -> str:
    """Return a text without line breaks.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return " ".join(text.split())


def _containers(status: Any) -> list[Any]:
    return [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
