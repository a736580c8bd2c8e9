"""The backend "kubernetes": each cell is a MiniCluster of the Flux Operator."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from ..kubernetes import Cluster, ClusterOptions
from ._backends import Backend, driver_command, start_driver
from ._manifests import minicluster

if TYPE_CHECKING:
    import subprocess

    from ..kubernetes import MiniCluster
    from ._cells import Block
    from .design import Design

__all__ = ["KubernetesBackend"]

MODULE = "flux_tree.experiment._kubernetes_driver"


class KubernetesBackend(Backend):
    """Ranks are the pods of MiniClusters, one for each cell."""

    name = "kubernetes"
    summary = "MiniClusters of the Flux Operator, one for each cell"
    transports: ClassVar[tuple[str, ...]] = ("content", "direct", "ping")
    #: It removes what it has made in the cluster.
    end_limit: ClassVar[float] = 75.0

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.options = ClusterOptions()
        self.logs = Path("logs")

    def configure(self, results: Path, options: Any) -> None:
        """Take the options of the run; see `Backend.configure`."""
        # the next run into the same folder knows by it what this one may have left
        where = f"{platform.node()}:{results.resolve()}"
        run_id = hashlib.sha256(where.encode()).hexdigest()[:16]
        self.options = replace(options or ClusterOptions(), run_id=run_id)
        self.logs = results.resolve() / "logs"

    def check(self) -> None:
        """Refuse to run where no MiniCluster can."""
        options = self.options
        Cluster(options.kubeconfig, options.context, options.namespace).check()

    def start(
        self, nodes: int, topology: str, folder: Path, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start the process that makes MiniClusters; see `Backend.start`."""
        setup = {
            "options": {**asdict(self.options), "node_selector": dict(self.options.node_selector)},
            "start_limit": self.design.instance_limit,
            "cell_limit": self.design.cell_limit,
            "deadline": self.cell_limit(),
            "workdir": self.design.workdir,
            "logs": str(self.logs),
        }
        return start_driver(driver_command(MODULE, **setup), log)

    def cell_limit(self) -> float:
        """Return how long a cell may take, from its MiniCluster's begin to its end."""
        return self.design.instance_limit + self.design.cell_limit + self.end_limit

    def manifests(self, blocks: list[Block]) -> Iterator[MiniCluster]:
        """Return what would be made, in order.

        Parameters
        ----------
        blocks : list of Block
            Cells that are to be run.

        Yields
        ------
        MiniCluster
        """
        for block in blocks:
            for cell in block.cells:
                yield minicluster(
                    cell,
                    cell.seed(self.design.seed),
                    self.options,
                    self.options.namespace,
                    workdir=self.design.workdir,
                    deadline=self.cell_limit(),
                )

    @classmethod
    def line_seconds(cls, design: Design, nodes: int, load: float, size: int) -> float:
        """Return about how long data is on its way, through NICs of 10 Gbit/s."""
        return load * size / 1.25e9

    @classmethod
    def start_seconds(cls, nodes: int) -> float:
        """Return about how long a MiniCluster takes, though each cell has one of its own."""
        return 20.0 + 0.5 * nodes
