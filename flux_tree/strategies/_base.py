"""What every strategy is: something that turns a topology into a plan."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._native import check, ffi, lib, pointer
from ..errors import PlanError
from ..plan import Plan
from ..topology import Topology

__all__ = ["Builtin", "Ranks", "Strategy", "member_flags", "rank_count", "take_plan"]

#: Who wants the data: None for all ranks, a boolean for each rank, or the ranks themselves.
Ranks = Any


class Strategy:
    """Base class of strategies; a class of one's own may do without it.

    A class is a strategy if it has ``plan(topology, members=None)``; it is made without arguments,
    or, as ``NAME:ARGUMENT``, with the argument as text. The attributes are for lists and tables.

    Attributes
    ----------
    name : str
        What it is called.
    usage : str
        How to write it with its argument, such as ``kary:K``.
    stripes, depth, load : str
        Number of trees, depth of the deepest, and load of the busiest rank, as functions of the
        number of ranks n.
    when : str
        When to use it, in one line.
    """

    name: ClassVar[str] = ""
    usage: ClassVar[str] = ""
    stripes: ClassVar[str] = ""
    depth: ClassVar[str] = ""
    load: ClassVar[str] = ""
    when: ClassVar[str] = ""

    def plan(self, topology: Topology | int, members: Ranks = None) -> Plan:
        """Return who sends what to whom.

        Parameters
        ----------
        topology : Topology or int
            The tree that Flux built, or only the number of ranks for a strategy that follows none.
        members : None, array_like of bool of shape (n,), or iterable of int, optional
            The ranks that want the data; all of them if None. Rank 0 takes part anyhow.

        Returns
        -------
        Plan

        Raises
        ------
        PlanError
            If there is no such plan.
        """
        raise NotImplementedError(f"{type(self).__name__} has no plan method")


class Builtin(Strategy):
    """A strategy that the native core lays out.

    Parameters
    ----------
    argument : int or str, optional
        What stands behind the colon in ``NAME:ARGUMENT``.

    Attributes
    ----------
    spec : str
        Name and argument.

    Raises
    ------
    PlanError
        If the strategy does not take the argument.
    """

    def __init__(self, argument: int | str | None = None) -> None:
        self.spec = self.name if argument is None else f"{self.name}:{argument}"
        fault = ffi.new("struct fault *")
        check(lib.shape_check(_text(self.spec), fault), fault, PlanError)

    def plan(self, topology: Topology | int, members: Ranks = None) -> Plan:
        """Return who sends what to whom; see `Strategy.plan`."""
        n = rank_count(topology)
        flags = member_flags(members, n)
        parents = topology.parents if isinstance(topology, Topology) else None
        out = ffi.new("struct plan **")
        fault = ffi.new("struct fault *")
        rc = lib.shape_plan(
            _text(self.spec),
            pointer("int32_t *", parents),
            n,
            pointer("uint8_t *", flags),
            out,
            fault,
        )
        check(rc, fault, PlanError)
        return take_plan(out[0], self.spec)

    def __repr__(self) -> str:
        return f"<strategy {self.spec}>"


def rank_count(topology: Topology | int) -> int:
    """Return the number of ranks of a topology, or of the number that stands for it.

    Parameters
    ----------
    topology : Topology or int
        As for `Strategy.plan`.

    Returns
    -------
    int
        1 or more.

    Raises
    ------
    PlanError
        If it is neither, or less than 1.
    """
    if isinstance(topology, Topology):
        return topology.size
    try:
        n = operator.index(topology)
    except TypeError:
        raise PlanError(
            f"plan: {type(topology).__name__} is not a topology, give a Topology or a size"
        ) from None
    if not 0 < n < 2**31:
        raise PlanError(f"plan: size {n} makes no sense, give 1 or more ranks")
    return n


def member_flags(members: Ranks, n: int) -> NDArray[np.bool_] | None:
    """Return a flag for each rank that wants the data.

    Parameters
    ----------
    members : None, array_like of bool of shape (n,), or iterable of int
        As for `Strategy.plan`.
    n : int
        Number of ranks.

    Returns
    -------
    ndarray of bool, shape (n,), or None
        None for all ranks.

    Raises
    ------
    PlanError
        If there is another number of flags, or a rank that is not of 0..n-1.
    """
    if members is None:
        return None
    array = np.asarray(members if isinstance(members, np.ndarray) else list(members))
    if array.dtype == np.bool_:
        if array.shape != (n,):
            raise PlanError(f"members: {array.size} flags for {n} ranks, give one each")
        return np.ascontiguousarray(array)
    flags = np.zeros(n, np.bool_)
    if array.size == 0:
        return flags
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise PlanError("members: give the ranks that want the data, or a boolean for each rank")
    bad = array[(array < 0) | (array >= n)]
    if bad.size:
        raise PlanError(f"members: no rank {bad[0]}, give ranks of 0-{n - 1}", rank=int(bad[0]))
    flags[array] = True
    return flags


def take_plan(native: Any, strategy: str) -> Plan:
    """Return a `struct plan` of the native core as a Plan, and free it.

    Parameters
    ----------
    native : cffi ``struct plan *``
        Not used any more afterwards.
    strategy : str
        The name for the plan.

    Returns
    -------
    Plan
    """
    try:
        n, stripes = native.n, native.stripes
        return Plan(
            np.frombuffer(ffi.buffer(native.parents, 4 * stripes * n), np.int32).reshape(-1, n),
            np.frombuffer(ffi.buffer(native.deliver, n), np.bool_),
            np.frombuffer(ffi.buffer(native.phase, 4 * n), np.int32),
            strategy,
        )
    finally:
        lib.plan_destroy(native)


def _text(spec: str) -> bytes:
    if "\0" in spec:
        raise PlanError(f"strategy {spec!r}: it has a null character, take it out")
    return spec.encode()
