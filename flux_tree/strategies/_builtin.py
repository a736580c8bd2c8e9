"""The built-in strategies. ``docs/strategies.md`` has the sources, the bounds and the proofs."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._native import check, ffi, lib, pointer
from ..errors import PlanError
from ..plan import Plan
from ..topology import Topology
from ._base import Builtin, Ranks, member_flags, rank_count, take_plan

__all__ = [
    "BUILTIN",
    "AllRanks",
    "Binomial",
    "Chain",
    "Edst",
    "Flat",
    "Kary",
    "Leaves",
    "MiddleLeaves",
    "Mincrit",
    "MultiTree",
    "Rack",
    "ScatterAllgather",
    "SplitBinary",
    "Tbon",
    "TwoTree",
]


class Flat(Builtin):
    """Rank 0 sends to every rank."""

    name = usage = "flat"
    stripes, depth, load = "1", "1", "n - 1"
    when = "two or three ranks, or little data: one hop, but rank 0 sends it n - 1 times"


class Chain(Builtin):
    """A path through the ranks, or pipeline."""

    name = usage = "chain"
    stripes, depth, load = "1", "n - 1", "1"
    when = "much data on up to some tens of ranks: no rank sends it twice, and nothing is simpler"


class Kary(Builtin):
    """The k-ary tree that Flux builds for ``tbon.topo=kary:K``."""

    name, usage = "kary", "kary:K"
    stripes, depth, load = "1", "log_K n", "K"
    when = "little data on many ranks; kary:2 halves the bandwidth, a larger K divides it by K"


class Binomial(Builtin):
    """The binomial tree that Flux builds for ``tbon.topo=binomial``."""

    name = usage = "binomial"
    stripes, depth, load = "1", "log2 n", "log2 n"
    when = "a message of one chunk: least steps where a rank sends to one other at a time"


class Mincrit(Builtin):
    """The tree of at most three levels that Flux builds for ``tbon.topo=mincrit``."""

    name, usage = "mincrit", "mincrit[:K]"
    stripes, depth, load = "1", "2", "max(K, n / K)"
    when = "to compare with an instance that has this topology"


class Tbon(Builtin):
    """The topology's own tree, cut back to the paths to the members."""

    name = usage = "tbon"
    stripes, depth, load = "1", "of the topology", "its fan-out"
    when = "where the data should go the way that Flux's own messages go"


class TwoTree(Builtin):
    """Two binary trees in which no rank but rank 0 is inner twice.

    References
    ----------
    P. Sanders, J. Speck, J. L. Träff: Two-tree algorithms for full bandwidth broadcast, reduction
    and scan. Parallel Computing 35 (2009) 581-594.
    """

    name = usage = "two-tree"
    stripes, depth, load = "2", "log2 n", "1"
    when = "the default choice: full bandwidth, few hops, any number of ranks"


class MultiTree(Builtin):
    """S trees, where each rank but rank 0 is inner in at most one.

    References
    ----------
    M. Castro et al.: SplitStream: high-bandwidth multicast in cooperative environments. SOSP 2003.
    """

    name, usage = "multi-tree", "multi-tree[:S]"
    stripes, depth, load = "S, else 1 to 8", "log_S n + 1", "1, with S given below 2"
    when = "thousands of ranks: fewer hops than two-tree, at more connections for each rank"


class Edst(Builtin):
    """Rotated binomial trees that share no edge, for any number of ranks.

    References
    ----------
    S. L. Johnsson, C.-T. Ho: Optimum broadcasting and personalized communication in hypercubes.
    IEEE Transactions on Computers 38 (1989) 1249-1268.
    """

    name = usage = "edst"
    stripes, depth, load = "log2 n", "log2 n + 1 to 2 log2 n + 2", "1"
    when = "as two-tree, where many equal links beat two; best if n is a power of two"


class SplitBinary(Builtin):
    """Two halves with a binary tree and half of the data each, which then exchange, as in MPI.

    References
    ----------
    J. Pješivac-Grbović et al.: Performance analysis of MPI collective operations. Cluster
    Computing 10 (2007) 127-143.
    """

    name = usage = "split-binary"
    stripes, depth, load = "2", "log2 n", "1.5"
    when = "to compare with Open MPI; two-tree has the same depth and less load"


class ScatterAllgather(Builtin):
    """A ring that each of S stripes enters at another place.

    References
    ----------
    R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in
    MPICH. International Journal of High Performance Computing Applications 19 (2005) 49-66.
    """

    name, usage = "scatter-allgather", "scatter-allgather[:S]"
    stripes, depth, load = "S, else up to 8", "n - 1", "1"
    when = "as chain, where ranks should get different parts first; to compare with MPICH"


class Rack(Builtin):
    """One path from group to group for each of two stripes, and chains inside the groups.

    Parameters
    ----------
    argument : int or str, optional
        G: groups are G consecutive ranks. The square root of n if not given.
    groups : array_like, shape (n,), optional
        The group of each rank, as numbers or names; instead of `argument`.

    Raises
    ------
    PlanError
        If both are given, or G is not a number from 1 on.
    """

    name, usage = "rack", "rack[:G]"
    stripes, depth, load = "2", "groups + largest group", "1"
    when = "racks or zones with a narrow link between them: each link carries the data once"

    def __init__(self, argument: int | str | None = None, *, groups: Any = None) -> None:
        super().__init__(argument)
        self.groups = None if groups is None else np.asarray(groups)
        if argument is not None and groups is not None:
            raise PlanError(
                f"strategy '{self.spec}': give a size of groups or the groups, not both"
            )

    def plan(self, topology: Topology | int, members: Ranks = None) -> Plan:
        """Return who sends what to whom; see `Strategy.plan`."""
        if self.groups is None:
            return super().plan(topology, members)
        n = rank_count(topology)
        if self.groups.shape != (n,):
            raise PlanError(
                f"strategy 'rack': {self.groups.size} groups for {n} ranks, give one each"
            )
        flags = member_flags(members, n)
        numbers = np.unique(self.groups, return_inverse=True)[1].astype(np.int32)
        out = ffi.new("struct plan **")
        fault = ffi.new("struct fault *")
        rc = lib.shape_rack(
            pointer("int32_t *", numbers), n, pointer("uint8_t *", flags), out, fault
        )
        check(rc, fault, PlanError)
        return take_plan(out[0], self.spec)


class AllRanks(Builtin):
    """The topology's own tree, in which every member keeps the data."""

    name = usage = "all"
    stripes, depth, load = "1", "of the topology", "its fan-out"
    when = "the first of the flux-distribute study: root to all ranks; the same as tbon"


class Leaves(Builtin):
    """The topology's own tree, in which only the lowest level keeps the data."""

    name = usage = "leaves"
    stripes, depth, load = "1", "of the topology", "its fan-out"
    when = "the second of the study: root to the lowest level, the ranks between relay"


class MiddleLeaves(Builtin):
    """The topology's own tree, in which the middle and the lowest level keep the data.

    With the argument ``strict``, nothing below the middle level starts before all above is done.
    """

    name, usage = "middle-leaves", "middle-leaves[:strict]"
    stripes, depth, load = "1", "of the topology", "its fan-out"
    when = "the third of the study: root to the middle, then the lowest level; strict: in two steps"


BUILTIN: tuple[type[Builtin], ...] = (
    Flat,
    Chain,
    Kary,
    Binomial,
    Mincrit,
    Tbon,
    TwoTree,
    MultiTree,
    Edst,
    SplitBinary,
    ScatterAllgather,
    Rack,
    AllRanks,
    Leaves,
    MiddleLeaves,
)
