"""The MiniCluster of a cell."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from ..kubernetes import (
    ClusterOptions,
    Container,
    FluxOptions,
    FluxView,
    Logging,
    MiniCluster,
    Network,
    Pod,
)
from ..kubernetes._cluster import MANAGER, RUN_LABEL
from ._cells import Cell
from ._pod import REQUEST_VAR

__all__ = ["minicluster"]

#: Where a pod keeps the data of a cell, if the design does not say.
WORKDIR = "/tmp"


def _tag(run_id: str, seed: int) -> str:
    """Return what no other cell has, not even the same one of a run into another folder."""
    return hashlib.sha256(f"{run_id}:{seed}".encode()).hexdigest()[:12]


def minicluster(
    cell: Cell,
    seed: int,
    options: ClusterOptions,
    namespace: str | None,
    *,
    workdir: str | None,
    deadline: float,
) -> MiniCluster:
    """Return the MiniCluster that runs a cell, once, and ends.

    Parameters
    ----------
    cell : Cell
        What is run.
    seed : int
        Of its data.
    options : ClusterOptions
        Where, and as what.
    namespace : str or None
        For the manifest.
    workdir : str or None
        In the pods, for the data.
    deadline : float
        Seconds after which Kubernetes itself ends it, should nobody else be left to do so.

    Returns
    -------
    MiniCluster
    """
    labels = {**MANAGER, RUN_LABEL: options.run_id}
    request: dict[str, Any] = {
        "setup": {"place": "flux", "nodes": cell.nodes, "topology": cell.topology},
        "cell": cell._asdict(),
        "seed": seed,
        "folder": f"{workdir or WORKDIR}/flux-tree-{seed:012x}",
    }
    return MiniCluster(
        name=f"{options.name}-{_tag(options.run_id, seed)}",
        namespace=namespace,
        labels=labels,
        size=cell.nodes,
        deadline_seconds=math.ceil(deadline),
        logging=Logging(quiet=True),
        network=Network(disable_affinity=True) if options.share_nodes else None,
        flux=FluxOptions(
            topology=cell.topology,
            container=None if options.view else FluxView(disable=True, image=options.image),
        ),
        pod=Pod(
            labels=labels,
            node_selector=options.node_selector,
            # whatever ends it is a result, and not to be tried again
            restart_policy="Never",
        ),
        container=Container(
            image=options.image,
            command="python3 -m flux_tree.experiment._pod",
            launcher=True,
            image_pull_policy=options.pull_policy,
            image_pull_secret=options.pull_secret,
            environment={REQUEST_VAR: json.dumps(request)},
        ),
    )
