"""All strategies, or all topologies for `flux archive`, by what they would take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .. import strategies as _strategies
from ..errors import UsageError
from ..plan import Plan
from ..topology import Topology
from .bound import best_chunk_size
from .limit import chunk_size as usual_chunk_size
from .network import Network
from .predict import BLOB_SIZE, METHODS, SIMULATE_MOST, Prediction, predict

__all__ = [
    "STRATEGIES",
    "TOPOLOGIES",
    "archive_plan",
    "chunk_of",
    "compare",
    "compare_topologies",
    "default_strategies",
    "plan_of",
]

#: What is compared if nobody says what: the built-in strategies that need no topology.
STRATEGIES = (
    "flat",
    "chain",
    "kary:2",
    "binomial",
    "mincrit",
    "two-tree",
    "multi-tree",
    "edst",
    "split-binary",
    "scatter-allgather",
    "rack",
)
#: With a topology, its own tree too. "all" is the same; "leaves" and "middle-leaves" go to fewer
#: ranks, so their times do not compare.
FOLLOWING = "tbon"

#: Topologies of Flux that are compared if nobody says which; the last kary is its default.
TOPOLOGIES = (
    "kary:1",
    "kary:2",
    "kary:3",
    "kary:4",
    "kary:8",
    "kary:16",
    "kary:32",
    "binomial",
    "mincrit",
)


def compare(
    n: int,
    size: int,
    network: Network,
    strategies: Iterable[Any] | None = None,
    topology: Topology | str | None = None,
    members: Any = None,
    method: str | None = "closed-form",
    *,
    chunk_size: int | str | None = None,
    security: str = "tls",
) -> list[Prediction]:
    """Return how long each strategy would take, best first.

    Parameters
    ----------
    n : int
        Ranks.
    size : int
        Of the payload, bytes.
    network : Network
        Between which machines. Where it has groups, "rack" follows them.
    strategies : iterable of str, Strategy or Plan, optional
        As for `flux_tree.strategies.plan`. If not given, `STRATEGIES`, and with a topology "tbon"
        as well.
    topology : Topology or str, optional
        What Flux built, or its spec, for strategies that follow it.
    members : optional
        The ranks that want the data, as for `Strategy.plan`; all, if not given.
    method : {"closed-form", "simulation"} or None, default "closed-form"
        As in `predict`, the same for all. None is a simulation, unless it took long.
    chunk_size : int or "best", optional
        Bytes; or that with the least time in closed form, for each. As a broadcast would choose
        it, if not given.
    security : {"tls", "none"}, default "tls"
        Whether the data is encrypted.

    Returns
    -------
    list of Prediction
        By time, equal ones as they were given. ``plan.strategy`` tells which is which.

    Raises
    ------
    UsageError
        If a number makes no sense, or there is no such strategy (a PlanError, which is one too).

    Examples
    --------
    >>> best = flux_tree.model.compare(1024, 20 << 30, Network(bandwidth=3.1e9))[0]
    >>> best.plan.strategy, best.time, best.limit
    """
    _check(n, size)
    if isinstance(topology, str):
        topology = Topology.from_spec(topology, n)
    if topology is not None and topology.size != n:
        raise UsageError(f"topology '{topology.spec}': of {topology.size} ranks, and there are {n}")
    if strategies is None:
        strategies = default_strategies(topology)
    plans = [plan_of(strategy, n, size, network, topology, members) for strategy in strategies]
    chunks = [chunk_of(plan, size, network, chunk_size, security) for plan in plans]
    if method is None:
        method = _method(n * -(-size // chunk) for chunk in chunks)
    return _best_first(
        predict(plan, size, network, method=method, chunk_size=chunk, security=security)
        for plan, chunk in zip(plans, chunks)
    )


def compare_topologies(
    n: int,
    size: int,
    network: Network,
    specs: Sequence[str] | None = None,
    method: str | None = "closed-form",
) -> list[Prediction]:
    """Return how long `flux archive extract` on all ranks would take on each topology, best first.

    Parameters
    ----------
    n : int
        Brokers, one a machine.
    size : int
        Of the archive, bytes; all its blobs differ.
    network : Network
        Between which machines.
    specs : sequence of str, optional
        As for ``tbon.topo``; `TOPOLOGIES`, if not given.
    method : {"closed-form", "simulation"} or None, default "closed-form"
        As in `compare`.

    Returns
    -------
    list of Prediction
        By time, equal ones as they were given. ``plan.strategy`` is the topology.

    Raises
    ------
    UsageError
        If a number makes no sense, or there is no such topology (a TopologyError, which is one
        too).
    """
    _check(n, size)
    specs = TOPOLOGIES if specs is None else specs
    if method is None:
        method = _method(n * -(-size // BLOB_SIZE) for _ in specs)
    return _best_first(
        predict(archive_plan(spec, n), size, network, method=method, transport="content")
        for spec in specs
    )


def default_strategies(topology: Topology | None) -> tuple[str, ...]:
    """Return what is compared if nobody says what.

    Parameters
    ----------
    topology : Topology or None
        What Flux built.

    Returns
    -------
    tuple of str
        `STRATEGIES`, and with a topology "tbon" as well.
    """
    return STRATEGIES if topology is None else (*STRATEGIES, FOLLOWING)


def plan_of(
    strategy: Any,
    n: int,
    size: int,
    network: Network,
    topology: Topology | None = None,
    members: Any = None,
) -> Plan:
    """Return the plan of a strategy, which knows the network if it can make use of it.

    Parameters
    ----------
    strategy : str, Strategy or Plan
        As for `flux_tree.strategies.plan`.
    n, size, network, topology, members
        As for `compare`.

    Returns
    -------
    Plan
    """
    if strategy == "rack" and network.groups is not None:
        strategy = _strategies.Rack(groups=network.groups)
    elif strategy == "auto":
        strategy = _strategies.Auto(network, size)
    return _strategies.plan(strategy, n if topology is None else topology, members)


def chunk_of(
    plan: Plan, size: int, network: Network, chunk_size: int | str | None, security: str
) -> int:
    """Return the chunk size that a plan is to be predicted with.

    Parameters
    ----------
    plan : Plan
        Who sends what to whom.
    size, network, chunk_size, security
        As for `compare`.

    Returns
    -------
    int
        Bytes.
    """
    if chunk_size is None:
        return usual_chunk_size(size, plan.depth, plan.stripes, network.bandwidth)
    if chunk_size == "best":
        return best_chunk_size(plan, size, network, security=security)
    if isinstance(chunk_size, str):
        raise UsageError(f"chunk size '{chunk_size}': give bytes, or 'best'")
    return chunk_size


def archive_plan(spec: str, n: int) -> Plan:
    """Return the way that an archive takes to all ranks of an instance.

    Parameters
    ----------
    spec : str
        Its ``tbon.topo``.
    n : int
        Its ranks.

    Returns
    -------
    Plan
        Of the strategy "all", but named after the topology.
    """
    plan = _strategies.plan("all", Topology.from_spec(spec, n))
    return Plan(plan.parents, plan.deliver, plan.phase, spec)


def _best_first(predictions: Iterable[Prediction]) -> list[Prediction]:
    return sorted(predictions, key=lambda p: p.time)


def _method(work: Iterable[int]) -> str:
    return METHODS[0] if sum(work) <= SIMULATE_MOST else METHODS[1]


def _check(n: int, size: int) -> None:
    if n < 1:
        raise UsageError(f"{n} ranks: give 1 or more")
    if size < 0:
        raise UsageError(f"size {size}: give bytes, not below 0")
