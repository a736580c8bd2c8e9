"""flux-tree: broadcast a file or a directory to every node of a Flux job, over any tree.

>>> import flux_tree
>>> result = flux_tree.broadcast("model", "/tmp/rank-{rank}", strategy="two-tree", ranks=8)
>>> print(result)

Inside an instance of Flux, with ``handle=flux.Flux()``, it is a job on all of its nodes.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    BroadcastError,
    Cancelled,
    DestinationError,
    FluxTreeError,
    LabError,
    PlanError,
    SourceError,
    TopologyError,
    UsageError,
)

if TYPE_CHECKING:
    from ._broadcast import broadcast, broadcast_async
    from ._records import DTYPE as RECORD_DTYPE
    from ._records import Result
    from ._report import records
    from .plan import Plan
    from .topology import Topology

__all__ = [
    "BroadcastError",
    "Cancelled",
    "DestinationError",
    "FluxTreeError",
    "LabError",
    "Plan",
    "PlanError",
    "RECORD_DTYPE",
    "Result",
    "SourceError",
    "Topology",
    "TopologyError",
    "UsageError",
    "__version__",
    "broadcast",
    "broadcast_async",
    "records",
]

_WHERE = {
    "Plan": ("plan", "Plan"),
    "RECORD_DTYPE": ("_records", "DTYPE"),
    "Result": ("_records", "Result"),
    "Topology": ("topology", "Topology"),
    "broadcast": ("_broadcast", "broadcast"),
    "broadcast_async": ("_broadcast", "broadcast_async"),
    "records": ("_report", "records"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
