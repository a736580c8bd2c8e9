"""A driver that turns each cell into a MiniCluster; see `flux_tree.experiment._inside`.

It is a process of this machine, so that it can remove what it has made when the run that it belongs
to has ended, in whatever way.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from ..errors import BroadcastError, Cancelled, DestinationError, FluxTreeError
from ..kubernetes import Cluster, ClusterOptions, MiniClusterRun
from ..kubernetes._run import Ended
from ._cells import Cell
from ._inside import _answer, describe
from ._manifests import minicluster
from ._pod import read_answer

__all__ = ["main"]

#: How long the objects of a cell may take to go.
DELETE_S = 60.0


class Driver:
    """The cluster, and the run that has not ended yet.

    Parameters
    ----------
    setup : dict
        From `flux_tree.experiment._backend_kubernetes`.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.options = ClusterOptions(**setup["options"])
        self.cluster = Cluster(
            self.options.kubeconfig, self.options.context, self.options.namespace
        )
        self.ended = threading.Event()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a cell; whatever goes wrong is its failure."""
        cell = Cell(**request["cell"])
        made = minicluster(
            cell,
            request["seed"],
            self.options,
            self.cluster.namespace,
            workdir=self.setup["workdir"],
            deadline=self.setup["deadline"],
        )
        name = made.name
        run = MiniClusterRun(self.cluster, made, self.options.pending_limit, self.look)
        try:
            try:
                ended = run.run(self.setup["start_limit"], self.setup["cell_limit"])
            finally:
                self.keep_log(name, run.log)
            answer = self.answer_of(ended)
        except Cancelled:
            raise
        except Exception as exc:
            answer = {"status": "failed", "error": describe(exc)}
        finally:
            if run.made:
                self.cluster.delete(name, DELETE_S)
        return answer

    def answer_of(self, ended: Ended) -> dict[str, Any]:
        """Return the answer in the log; if there is none, how the pod ended says why."""
        try:
            return read_answer(ended.log)
        except BroadcastError as exc:
            if ended.why is None:
                raise
            raise BroadcastError(f"{ended.why}; {exc}") from None

    def look(self) -> None:
        """End what is under way if the run has ended."""
        if self.ended.is_set():
            raise Cancelled("the run has ended")

    def keep_log(self, name: str, log: str | None) -> None:
        """Keep what the first pod has written, if that was read."""
        if log is None:
            return
        folder = Path(self.setup["logs"])
        try:
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.log").write_text(log, encoding="utf-8")
        except OSError as exc:
            raise DestinationError(f"{folder}: the log cannot be kept ({exc.strerror})") from None


def main(text: str) -> None:
    """Run cells until standard input ends.

    Parameters
    ----------
    text : str
        JSON: ``options`` of the cluster, ``start_limit``, ``cell_limit``, ``deadline`` of the
        MiniCluster, ``workdir`` in the pods, ``logs``.
    """
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    try:
        driver = Driver(json.loads(text))
        for name in driver.cluster.names(driver.options.run_id):
            driver.cluster.delete(name, DELETE_S)
    except FluxTreeError as exc:
        _answer(answers, {"error": describe(exc)})
        return
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_read, args=(requests, lines, driver.ended), daemon=True).start()
    _answer(answers, {"ready": True})
    while (line := lines.get()) is not None:
        try:
            answer = driver.run(json.loads(line))
        except Cancelled:
            return
        except FluxTreeError as exc:  # it could not be removed
            answer = {"status": "failed", "error": describe(exc)}
            print(f"flux-tree: {describe(exc)}", file=sys.stderr)
        _answer(answers, answer)


def _read(fd: int, lines: queue.Queue[bytes | None], ended: threading.Event) -> None:
    with os.fdopen(fd, "rb") as f:
        for line in f:
            lines.put(line)
    ended.set()
    lines.put(None)
