"""How times grow with the ranks and with the size, for pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import PlanError, UsageError
from ..plan import Plan
from ..topology import Topology
from .compare import TOPOLOGIES, archive_plan, chunk_of, plan_of
from .limit import limit
from .network import Native, Network
from .quick import content_time, direct_time

__all__ = ["Curves", "curves"]

#: Sizes are this far apart, and reach from about the least to two steps beyond the one asked for.
STEP = 4
SMALLEST = 1 << 16
BEYOND = 2


@dataclass(frozen=True)
class Curves:
    """Times in closed form over the number of ranks and over the size.

    Attributes
    ----------
    ranks : list of int
        Powers of two up to the number of ranks, and that number.
    sizes : list of int
        Bytes, each four times the one before.
    by_ranks, by_size : dict of str to list of float
        Of each strategy, seconds; NaN where it has no plan.
    archive_by_ranks, archive_by_size : list of float
        Of `flux archive` on the topology that is best there, seconds.
    limit_by_ranks, limit_by_size : list of float
        Seconds.
    """

    ranks: list[int]
    sizes: list[int]
    by_ranks: dict[str, list[float]]
    by_size: dict[str, list[float]]
    archive_by_ranks: list[float]
    archive_by_size: list[float]
    limit_by_ranks: list[float]
    limit_by_size: list[float]


def curves(
    n: int,
    size: int,
    network: Network,
    strategies: Iterable[Any],
    topology: Topology | None = None,
    *,
    chunk_size: int | str | None = None,
    security: str = "tls",
    specs: Sequence[str] = TOPOLOGIES,
) -> Curves:
    """Return the times of strategies up to `n` ranks, and for sizes below and above `size`.

    Parameters
    ----------
    n : int
        Ranks, 2 or more.
    size : int
        Of the payload, bytes, above 0.
    network : Network
        Between which machines. Fewer ranks are the first ones of them.
    strategies, topology, chunk_size, security
        As for `compare`.
    specs : sequence of str
        Topologies for `flux archive`.

    Returns
    -------
    Curves

    Raises
    ------
    UsageError
        If nothing moves: with one rank, or no bytes.
    """
    if n < 2 or size < 1:
        raise UsageError("a picture of 1 rank or 0 bytes: nothing moves, give more")
    ranks = [1 << bit for bit in range(1, n.bit_length()) if 1 << bit < n] + [n]
    sizes = _sizes(size)
    chosen = list(strategies)

    def times(count: int, of: Sequence[int]) -> _Times:
        here, tree = _first(network, count), _smaller(topology, count)
        native = Native(here, count, encrypt=security == "tls")

        def seconds(plan: Plan | None, s: int) -> float:
            if plan is None:
                return math.nan
            return direct_time(plan, s, chunk_of(plan, s, here, chunk_size, security), native)

        found = {}
        for strategy in chosen:
            plan = _plan(strategy, count, size, here, tree)
            found[_name(strategy)] = [
                seconds(_plan(strategy, count, s, here, tree) if strategy == "auto" else plan, s)
                for s in of
            ]
        brokers = Native(here, count)
        brokers.struct.start = here.extract_start
        trees = [archive_plan(spec, count) for spec in specs]
        return _Times(found, [min(content_time(tree, s, brokers) for tree in trees) for s in of])

    at_ranks = [times(count, [size]) for count in ranks]
    at_sizes = times(n, sizes)
    return Curves(
        ranks=ranks,
        sizes=sizes,
        by_ranks={name: [at.direct[name][0] for at in at_ranks] for name in at_sizes.direct},
        by_size=at_sizes.direct,
        archive_by_ranks=[at.archive[0] for at in at_ranks],
        archive_by_size=at_sizes.archive,
        limit_by_ranks=[limit(size, network.bandwidth)] * len(ranks),
        limit_by_size=[limit(s, network.bandwidth) for s in sizes],
    )


class _Times(NamedTuple):
    """Of so many ranks, for some sizes."""

    direct: dict[str, list[float]]
    archive: list[float]


def _sizes(size: int) -> list[int]:
    sizes = [size * STEP**i for i in range(BEYOND + 1)]
    while sizes[0] // STEP >= SMALLEST:
        sizes.insert(0, sizes[0] // STEP)
    return sizes


def _first(network: Network, count: int) -> Network:
    """Return the network of the first ranks."""
    groups = None if network.groups is None else network.groups[:count]
    rates = {rank: rate for rank, rate in network.rates.items() if rank < count}
    return replace(network, groups=groups, rates=rates)


def _smaller(topology: Topology | None, count: int) -> Topology | None:
    """Return the topology of the same kind over fewer ranks; None if there is no such kind."""
    if topology is None or topology.size == count:
        return topology
    kind = topology.spec
    return None if kind.partition(":")[0] == "custom" else Topology.from_spec(kind, count)


def _plan(
    strategy: Any, count: int, size: int, network: Network, topology: Topology | None
) -> Plan | None:
    try:
        return plan_of(strategy, count, size, network, topology)
    except PlanError:  # one that follows a topology, or one of a user
        return None


def _name(strategy: Any) -> str:
    return strategy if isinstance(strategy, str) else getattr(strategy, "spec", str(strategy))
