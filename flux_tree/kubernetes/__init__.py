"""MiniClusters of the Flux Operator: as typed data, and run to their end on a cluster."""

from __future__ import annotations

from ._cluster import Cluster
from ._minicluster import (
    FIELDS,
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
from ._options import ClusterOptions
from ._run import MiniClusterRun

__all__ = [
    "FIELDS",
    "Cluster",
    "ClusterOptions",
    "Commands",
    "Container",
    "FluxOptions",
    "FluxView",
    "Logging",
    "MiniCluster",
    "MiniClusterRun",
    "Network",
    "Pod",
    "Volume",
    "unknown_fields",
]
