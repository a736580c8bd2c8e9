"""Strategies: what turns a topology and the ranks that want the data into a plan.

A strategy has a name, ``get("kary:2")``, and one method, ``plan(topology, members=None)``.
Other packages add theirs through the entry-point group ``flux_tree.strategies``.
"""

from ._auto import BYTES, LOOPBACK, Auto, Choice, known_network
from ._base import Builtin, Ranks, Strategy, member_flags, rank_count
from ._builtin import (
    AllRanks,
    Binomial,
    Chain,
    Edst,
    Flat,
    Kary,
    Leaves,
    MiddleLeaves,
    Mincrit,
    MultiTree,
    Rack,
    ScatterAllgather,
    SplitBinary,
    Tbon,
    TwoTree,
)
from ._find import GROUP, Description, describe, get, names, plan

__all__ = [
    "GROUP",
    "AllRanks",
    "Auto",
    "BYTES",
    "Binomial",
    "Builtin",
    "Chain",
    "Choice",
    "Description",
    "Edst",
    "Flat",
    "Kary",
    "LOOPBACK",
    "Leaves",
    "MiddleLeaves",
    "Mincrit",
    "MultiTree",
    "Rack",
    "Ranks",
    "ScatterAllgather",
    "SplitBinary",
    "Strategy",
    "Tbon",
    "TwoTree",
    "describe",
    "get",
    "known_network",
    "member_flags",
    "names",
    "plan",
    "rank_count",
]
