"""One MiniCluster from its begin to its end: made, watched, its log read, removed."""

from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple

from ..units import format_seconds
from ._cluster import Cluster, ClusterError, Unreachable, one_line, rank_of
from ._minicluster import MiniCluster

__all__ = ["Ended", "MiniClusterRun"]

POLL_S = 1.0
#: Why a container waits, where waiting on does not help.
HOPELESS = ("InvalidImageName", "ErrImageNeverPull")
#: Why one waits as long as all is well.
USUAL = ("ContainerCreating", "PodInitializing", None)


class Ended(NamedTuple):
    """How the first pod ended.

    Attributes
    ----------
    log : str
        All that it wrote.
    exit_code : int
        Of its container.
    """

    log: str
    exit_code: int


class MiniClusterRun:
    """A MiniCluster that is run to its end.

    Parameters
    ----------
    cluster : Cluster
        Where.
    minicluster : MiniCluster
        What.
    pending_limit : float
        Seconds that something may stand in the way before it is a failure.
    look : callable
        Called about once a second; what it raises ends the run.
    """

    def __init__(
        self,
        cluster: Cluster,
        minicluster: MiniCluster,
        pending_limit: float,
        look: Callable[[], None],
    ) -> None:
        self.cluster = cluster
        self.minicluster = minicluster
        self.pending_limit = pending_limit
        self.look = look
        self._answered = time.monotonic()

    def run(self, start_limit: float, run_limit: float) -> Ended:
        """Make it, and wait for its end. It is there afterwards, whatever happened.

        Parameters
        ----------
        start_limit : float
            Seconds until all of its pods run.
        run_limit : float
            Seconds from then on.

        Returns
        -------
        Ended

        Raises
        ------
        ClusterError
            If it does not come to an end of its own.
        """
        self.cluster.create(self.minicluster)
        begin = time.monotonic()
        self._wait_for_pods(begin, start_limit)
        return self._wait_for_end(time.monotonic(), run_limit)

    def _wait_for_pods(self, begin: float, limit: float) -> None:
        stuck: float | None = None
        while True:
            now, pods = self._next()
            if pods and _end_of(pods[0]) is not None:
                return
            if len(pods) >= self.minicluster.size and all(map(_runs, pods)):
                return
            problem = self._problem(pods)
            if problem is None:
                stuck = None
            else:
                stuck = stuck or now
                text, hopeless = problem
                if hopeless or now - stuck > self.pending_limit:
                    raise ClusterError(text)
            if now - begin > limit:
                running = sum(map(_runs, pods))
                raise ClusterError(
                    f"{running} of {self.minicluster.size} pods run after"
                    f" {format_seconds(limit)}: {self._last_word(pods)}"
                )

    def _wait_for_end(self, begin: float, limit: float) -> Ended:
        gone_since: float | None = None
        while True:
            now, pods = self._next()
            lead = pods[0] if pods and rank_of(pods[0], self.minicluster.name) == 0 else None
            code = None if lead is None else _end_of(lead)
            if code is not None:
                return Ended(self.cluster.log(lead), code)
            if lead is None:
                gone_since = gone_since or now
                if now - gone_since > self.pending_limit:
                    raise ClusterError("its first pod has gone: somebody has removed it")
            else:
                gone_since = None
                problem = self._problem([lead])
                if problem is not None and "CrashLoopBackOff" in problem[0]:
                    raise ClusterError(f"{problem[0]}; {_last_line(self.cluster.log(lead))}")
            if now - begin > limit:
                said = "" if lead is None else f": {_last_line(self.cluster.log(lead))}"
                raise ClusterError(f"no end within {format_seconds(limit)}{said}")

    def _next(self) -> tuple[float, list[Any]]:
        """Wait a while; return when it is, and the pods that are there, and stay."""
        while True:
            self.look()
            time.sleep(POLL_S)
            try:
                pods = self.cluster.pods(self.minicluster.name)
            except Unreachable:
                if time.monotonic() - self._answered > self.pending_limit:
                    raise
                continue
            self._answered = time.monotonic()
            return self._answered, [p for p in pods if p.metadata.deletion_timestamp is None]

    def _problem(self, pods: list[Any]) -> tuple[str, bool] | None:
        """Return what stands in the way, and whether that can only stay so."""
        name = self.minicluster.name
        if not pods:
            event = self.cluster.last_event(name)
            why = event or "does the Flux Operator run?"
            return f"MiniCluster {name}: it has got no pods: {why}", False
        for pod in pods:
            for condition in pod.status.conditions or ():
                if condition.type == "PodScheduled" and condition.status == "False":
                    event = self.cluster.last_event(pod.metadata.name)
                    text = event or one_line(condition.message or condition.reason or "")
                    return f"pod {pod.metadata.name}: cannot be scheduled: {text}", False
            status = pod.status
            for one in [
                *(status.init_container_statuses or ()),
                *(status.container_statuses or ()),
            ]:
                waiting = one.state.waiting if one.state else None
                if waiting is None or waiting.reason in USUAL:
                    continue
                event = self.cluster.last_event(pod.metadata.name)
                text = event or one_line(waiting.message or "")
                return (
                    f"pod {pod.metadata.name}: {waiting.reason}: {one.image}: {text}",
                    waiting.reason in HOPELESS,
                )
        return None

    def _last_word(self, pods: list[Any]) -> str:
        for pod in pods:
            if not _runs(pod):
                event = self.cluster.last_event(pod.metadata.name)
                return f"pod {pod.metadata.name} is {pod.status.phase}" + (
                    f": {event}" if event else ""
                )
        return f"there are only {len(pods)} pods"


def _runs(pod: Any) -> bool:
    return pod.status.phase in ("Running", "Succeeded")


def _end_of(pod: Any) -> int | None:
    """Return the exit code of a pod; None as long as it has none."""
    for one in pod.status.container_statuses or ():
        terminated = one.state.terminated if one.state else None
        if terminated is not None:
            return int(terminated.exit_code)
    return {"Succeeded": 0, "Failed": 1}.get(pod.status.phase)


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it has written nothing"
