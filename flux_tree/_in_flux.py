"""What a broadcast inside Flux is asked to do, as the options of the shell plugin."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ._model.network import Native
from ._racks import Racks, rack_numbers, with_racks
from .errors import PlanError, UsageError
from .plan import Plan
from .strategies import Auto, Builtin, Choice, Strategy, get, member_flags
from .strategies import plan as make_plan
from .topology import Topology

__all__ = ["Nodes", "absolute", "check_destination", "choose_nodes", "plan_options"]


class Nodes(NamedTuple):
    """The nodes that a broadcast runs on.

    Attributes
    ----------
    ranks : list of int
        Broker ranks; the place in the list is the rank of the broadcast.
    hosts : list of str
        Of each.
    constraint : str or None
        The ranks as an idset for the scheduler; None if they are all that it has.
    """

    ranks: list[int]
    hosts: list[str]
    constraint: str | None


def choose_nodes(handle: Any, count: int | None) -> Nodes:
    """Return the nodes to run on: all of the instance, or the first ones that are up.

    Parameters
    ----------
    handle : flux.Flux
        The instance.
    count : int or None
        How many; None for all.

    Returns
    -------
    Nodes

    Raises
    ------
    UsageError
        If there are not so many, or some of all are down.
    """
    from flux.hostlist import Hostlist
    from flux.resource import resource_list

    with handle.in_reactor():  # else flux-python takes Ctrl-C away from Python
        known = resource_list(handle).get()
    every = [int(r) for r in known.all.ranks]
    up = [int(r) for r in known.up.ranks]
    if count is None and len(up) < len(every):
        down = _idset(set(every) - set(up))
        raise UsageError(
            f"{len(every) - len(up)} of {len(every)} nodes are down or drained (rank {down}):"
            f" mend them, or ask for {len(up)} nodes"
        )
    if count is not None and count < 1:
        raise UsageError(f"nodes {count}: must be at least 1")
    if count is not None and count > len(up):
        raise UsageError(f"nodes {count}: the instance has {len(up)} that are up, give fewer")
    ranks = up[:count]
    hosts = list(Hostlist(handle.attr_get("hostlist")))
    constraint = _idset(ranks) if len(ranks) < len(every) else None
    return Nodes(ranks, [hosts[r] for r in ranks], constraint)


def check_destination(destination: str, hosts: list[str]) -> None:
    """Refuse a destination at which brokers of one host would meet.

    Parameters
    ----------
    destination : str
        As it was given.
    hosts : list of str
        Of each rank.

    Raises
    ------
    UsageError
        If hosts come twice, and neither ``{rank}`` nor a template is in the destination.
    """
    if not destination or "\0" in destination:
        raise UsageError(f"destination {destination!r}: no path, give a file or a directory")
    shared = {h for h in hosts if hosts.count(h) > 1} if len(set(hosts)) < len(hosts) else set()
    if shared and "{rank}" not in destination and "{{" not in destination:
        host = min(shared)
        raise UsageError(
            f"destination {destination}: {hosts.count(host)} ranks on host {host} would write to"
            f" the same place: put {{rank}} into it, as in {destination.rstrip('/')}-{{rank}}"
        )


def plan_options(
    handle: Any,
    nodes: Nodes,
    strategy: str | Strategy | Plan | None,
    topology: Topology | str | None,
    members: Iterable[int] | None,
    racks: Racks | None = None,
) -> dict[str, Any]:
    """Return the options that say who sends what to whom.

    A built-in strategy travels by its name, and the shells lay it out over the topology that they
    find. Any other is asked for its plan here, where Python runs.

    Parameters
    ----------
    handle : flux.Flux
        The instance.
    nodes : Nodes
        Where to.
    strategy : str, Strategy, Plan or None
        None is the default of the transport.
    topology : Topology, str or None
        The tree that the strategy starts from, if not that of the instance.
    members : iterable of int or None
        The ranks that want the data; all, if None.
    racks : str or sequence, optional
        As of `rack_numbers`: which nodes stand together.

    Returns
    -------
    dict
        With ``strategy``, ``members`` and ``racks``, or with ``plan``.

    Raises
    ------
    UsageError, PlanError, TopologyError
        If there is no such strategy, or it has no plan for these nodes, or takes no racks.
    """
    n = len(nodes.ranks)
    flags = member_flags(members, n)
    if isinstance(strategy, str):
        strategy = get(strategy)
    if strategy is None and (topology is not None or racks is not None):
        strategy = get("two-tree")
    strategy = with_racks(strategy, racks, n, nodes.hosts)
    if isinstance(topology, str):
        topology = Topology.from_spec(topology, n)
    if topology is not None and topology.size != n:
        raise PlanError(f"topology: it has {topology.size} ranks, and there are {n} nodes")
    if isinstance(strategy, Auto) or (
        topology is None and (strategy is None or isinstance(strategy, Builtin))
    ):
        options = {} if strategy is None else _by_name(strategy, n)
        if flags is not None:
            options["members"] = _idset(np.flatnonzero(flags).tolist())
        return options
    tree = _topology(handle, nodes) if topology is None else topology
    plan = make_plan(strategy, tree, flags)
    options = {"plan": plan.to_dict()}
    if isinstance(plan, Choice):
        options["chunk-size"] = plan.chunk_size
    return options


def _by_name(strategy: Auto | Builtin, n: int) -> dict[str, Any]:
    """Return the options of a strategy that the shells lay out."""
    options: dict[str, Any] = {"strategy": strategy.spec}
    groups = getattr(strategy, "groups", None)
    if groups is not None:
        options["racks"] = rack_numbers(groups, n)
    if isinstance(strategy, Auto) and strategy.network is not None:
        Native(strategy.network, n)  # refuses one of other ranks
        options["network"] = strategy.network.to_dict()
    if isinstance(strategy, Auto) and strategy.chunk_size is not None:
        options["chunk-size"] = strategy.chunk_size
    return options


def absolute(path: str) -> str:
    """Return a path of the caller's as the shells of a job need it.

    Parameters
    ----------
    path : str
        One that begins with a template is the shell's to complete.

    Returns
    -------
    str
    """
    return path if path.startswith("{{") else os.path.join(os.getcwd(), path)


def _topology(handle: Any, nodes: Nodes) -> Topology:
    """Return the instance's tree over these nodes, as the shell plugin sees it.

    The parent of a node is the nearest of them above it; the first is the root.
    """
    whole = Topology.from_instance(handle).parents
    place = {broker: rank for rank, broker in enumerate(nodes.ranks)}
    parents = [-1]
    for broker in nodes.ranks[1:]:
        above = int(whole[broker])
        while above >= 0 and above not in place:
            above = int(whole[above])
        parents.append(place.get(above, 0))
    return Topology.from_parents(parents)


def _idset(ranks: Iterable[int]) -> str:
    from flux.idset import IDset

    return str(IDset(",".join(map(str, ranks))))
