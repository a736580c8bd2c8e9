"""One MiniCluster from its begin to its end: made, watched, its log read, removed."""

from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple, TypeVar

from ..units import format_seconds
from ._cluster import Cluster, ClusterError, Unreachable
from ._minicluster import MiniCluster
from ._pods import end_of, failure_of, one_line, rank_of, runs, shared_node, waits

__all__ = ["Ended", "MiniClusterRun"]

POLL_S = 1.0
#: Why a container waits, where waiting on does not help.
HOPELESS = ("InvalidImageName", "ErrImageNeverPull")

T = TypeVar("T")


class Ended(NamedTuple):
    """How the first pod ended.

    Attributes
    ----------
    log : str
        All that it wrote.
    exit_code : int
        Of its container.
    why : str or None
        Why it failed, if it did.
    """

    log: str
    exit_code: int
    why: str | None


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

    Attributes
    ----------
    made : bool
        It is there, or was, and is to be removed.
    log : str or None
        What its first pod has written, also if it did not end; None if that was not read.
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
        self.made = False
        self.log: str | None = None
        #: By uid, the names of the pods that are one instance of Flux.
        self._ranks: dict[str, str] = {}

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
        try:
            self.cluster.create(self.minicluster)
        except Unreachable:
            self.made = True  # perhaps
            raise
        self.made = True
        begin = time.monotonic()
        self._wait_for_pods(begin, start_limit)
        return self._wait_for_end(time.monotonic(), run_limit)

    def _wait_for_pods(self, begin: float, limit: float) -> None:
        stuck: float | None = None
        while True:
            now, pods = self._next()
            self._check_nodes(pods)
            self._ranks = {pod.metadata.uid: pod.metadata.name for pod in pods}
            if self._ended(pods) is not None:
                return
            self._check_failed(pods)
            if len(pods) >= self.minicluster.size and all(map(runs, pods)):
                return
            problem = self._problem(pods)
            if problem is None:
                stuck = None
            else:
                stuck = stuck or now
                text, hopeless = problem
                if hopeless:
                    raise ClusterError(text)
                if now - stuck > self.pending_limit:
                    raise ClusterError(f"{text} (for {format_seconds(self.pending_limit)})")
            if now - begin > limit:
                running = sum(map(runs, pods))
                raise ClusterError(
                    f"{running} of {self.minicluster.size} pods run after"
                    f" {format_seconds(limit)}: {self._last_word(pods)}"
                )

    def _wait_for_end(self, begin: float, limit: float) -> Ended:
        while True:
            now, pods = self._next()
            lead = self._ended(pods)
            if lead is not None:
                return self._end(lead)
            self._check_failed(pods)
            self._check_gone(pods)
            if now - begin > limit:
                said = self._last_line(self._leads(pods)[0])
                raise ClusterError(f"no end within {format_seconds(limit)}: {said}")

    def _next(self) -> tuple[float, list[Any]]:
        """Wait a while; return when it is, and the pods that are there, and stay."""
        time.sleep(POLL_S)
        pods = self._asked(lambda: self.cluster.pods(self.minicluster.name))
        return time.monotonic(), [p for p in pods if p.metadata.deletion_timestamp is None]

    def _asked(self, ask: Callable[[], T]) -> T:
        """Ask the cluster, again and again if it does not answer for a moment."""
        begin = time.monotonic()
        while True:
            self.look()
            try:
                return ask()
            except Unreachable:
                if time.monotonic() - begin > self.pending_limit:
                    raise
            time.sleep(POLL_S)

    def _leads(self, pods: list[Any]) -> list[Any]:
        """Return the pods of rank 0: more than one, if it was replaced."""
        return [pod for pod in pods if rank_of(pod, self.minicluster.name) == 0]

    def _ended(self, pods: list[Any]) -> Any:
        """Return the first pod if it has ended, else None."""
        name = self.minicluster.name
        return next((p for p in self._leads(pods) if end_of(p, name) is not None), None)

    def _end(self, lead: Any) -> Ended:
        why = failure_of(lead)
        try:
            log = self._asked(lambda: self._log(lead))
        except ClusterError:  # of one that was evicted, or did not begin, there may be none
            if why is None:
                raise
            raise ClusterError(f"pod {lead.metadata.name}: {why}") from None
        code = end_of(lead, self.minicluster.name)
        assert code is not None
        return Ended(log, code, why)

    def _log(self, pod: Any) -> str:
        # the operator calls the container that runs Flux like the MiniCluster
        self.log = self.cluster.log(pod, self.minicluster.name)
        return self.log

    def _last_line(self, pod: Any) -> str:
        try:
            log = self._asked(lambda: self._log(pod))
        except ClusterError as exc:
            return str(exc)
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it has written nothing"

    def _check_nodes(self, pods: list[Any]) -> None:
        """Refuse pods that share a node: the operator prefers others, but does not insist."""
        network = self.minicluster.network
        shared = shared_node(pod for pod in pods if failure_of(pod) is None)
        if shared is not None and not (network is not None and network.disable_affinity):
            first, second, node = shared
            raise ClusterError(
                f"pods {first} and {second} share node {node}, and what is between them would"
                " cross no network: give more nodes, or let them with --share-nodes"
            )

    def _check_failed(self, pods: list[Any]) -> None:
        """Refuse to go on without a pod: the Job replaces it, but Flux does not take it back."""
        for pod in pods:
            why = failure_of(pod)
            if why is not None:
                raise ClusterError(f"pod {pod.metadata.name}: {why}")

    def _check_gone(self, pods: list[Any]) -> None:
        there = {pod.metadata.uid for pod in pods}
        for uid, name in self._ranks.items():
            if uid not in there:
                event = self.cluster.last_event(name)
                raise ClusterError(
                    f"pod {name} has gone: {event or 'somebody has removed it, or its node'}"
                )

    def _problem(self, pods: list[Any]) -> tuple[str, bool] | None:
        """Return what stands in the way, and whether that can only stay so."""
        for pod in pods:
            name = pod.metadata.name
            for condition in pod.status.conditions or ():
                if condition.type == "PodScheduled" and condition.status == "False":
                    said = self.cluster.last_event(name) or condition.message or condition.reason
                    return f"pod {name}: cannot be scheduled: {one_line(said or '')}", False
            waiting = waits(pod)
            if waiting is not None:
                reason, image, message = waiting
                text = self.cluster.last_event(name) or message
                return f"pod {name}: {reason}: {image}: {text}", reason in HOPELESS
        if len(pods) < self.minicluster.size:
            # of the Job, which has the same name
            event = self.cluster.last_event(self.minicluster.name)
            if event or not pods:
                count = f"{len(pods)} of {self.minicluster.size}" if pods else "no"
                why = event or "does the Flux Operator run?"
                return f"MiniCluster {self.minicluster.name}: it has got {count} pods: {why}", False
        return None

    def _last_word(self, pods: list[Any]) -> str:
        for pod in pods:
            if not runs(pod):
                event = self.cluster.last_event(pod.metadata.name)
                return f"pod {pod.metadata.name} is {pod.status.phase}" + (
                    f": {event}" if event else ""
                )
        return f"there are only {len(pods)} pods"
