"""The strategy that looks for the fastest one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Callable

import numpy as np

from .._model.network import LOOPBACK, Native, Network
from .._native import check, ffi, lib, pointer
from .._setup import BANDWIDTH_VAR
from ..errors import PlanError, UsageError
from ..plan import Plan
from ..topology import Topology
from ..units import parse_rate
from ._base import Ranks, Strategy, member_flags, rank_count, take_plan

__all__ = ["BANDWIDTH", "BYTES", "LOOPBACK", "Auto", "Choice", "known_network"]

#: What is reckoned with where nobody knows how much is to be sent, bytes.
BYTES = 1 << 30
#: Of one NIC, where nobody knows, bytes per second: 1 Gbit/s.
BANDWIDTH = float(lib.CHOOSE_BANDWIDTH)


class Choice(Plan):
    """A plan that `Auto` has chosen, and why.

    Attributes
    ----------
    network : Network
        What it was reckoned with.
    chunk_size : int
        That goes with it, bytes.
    seconds : float
        Predicted until the slowest rank has all.
    limit : float
        bytes / bandwidth, seconds.
    why : str
        One line: "8.5 s predicted at 1 Gbit/s, 98% of the limit; next two-tree 8.9 s".
    """

    def __init__(
        self,
        plan: Plan,
        network: Network,
        *,
        chunk_size: int,
        seconds: float,
        limit: float,
        why: str,
    ) -> None:
        super().__init__(plan.parents, plan.deliver, plan.phase, plan.strategy)
        self.network = network
        self.chunk_size = chunk_size
        self.seconds = seconds
        self.limit = limit
        self.why = why


class Auto(Strategy):
    """The strategy that the model predicts to be fastest; the plan has its name.

    Candidates are flat (up to 64 ranks), chain, kary:2, binomial, two-tree, edst, multi-tree:4,
    multi-tree:8, and, if the ranks are in several groups, rack.

    Parameters
    ----------
    network : Network, optional
        Between which machines. `known_network`, if not given.
    bytes : int, optional
        Of the payload. 1 GiB, if not given; a broadcast knows better, and takes that of what it
        sends.
    groups : array_like, shape (n,), optional
        The group (rack) of each rank, as numbers or names. Those of the network, if not given.
    chunk_size : int, optional
        Bytes, the same for all candidates. The best for each, if not given.

    Raises
    ------
    PlanError
        If a parameter makes no sense.

    Examples
    --------
    >>> plan = Auto(Network(bandwidth=1.25e9), bytes=20 << 30).plan(64)
    >>> plan.strategy, plan.why
    """

    name = usage = spec = "auto"
    stripes = depth = load = "as chosen"
    when = "what is predicted to be fastest for the size of the data, the ranks and the network"

    def __init__(
        self,
        network: Network | None = None,
        bytes: int | None = None,
        groups: Any = None,
        *,
        chunk_size: int | None = None,
    ) -> None:
        if isinstance(network, str):  # what stands behind the colon of a name
            raise PlanError(f"strategy 'auto:{network}': it takes no argument, write 'auto'")
        if bytes is not None and not 0 <= bytes < 2**63:
            raise PlanError(
                f"strategy 'auto': {bytes} bytes make no sense, give 0 or more, below 2^63"
            )
        if chunk_size is not None and not 0 < chunk_size < 2**32:
            raise PlanError(f"strategy 'auto': chunks of {chunk_size} bytes, give 1 or more")
        self.network = network
        self.bytes = bytes
        try:
            self.groups = None if groups is None else np.asarray(groups)
        except ValueError:
            raise PlanError(
                "strategy 'auto': groups: give a number or a name for each rank"
            ) from None
        self.chunk_size = chunk_size

    def plan(self, topology: Topology | int, members: Ranks = None) -> Choice:
        """Return who sends what to whom; see `Strategy.plan`.

        Returns
        -------
        Choice
        """
        n = rank_count(topology)
        flags = member_flags(members, n)
        network = known_network(n) if self.network is None else self.network
        if self.groups is not None:
            if self.groups.shape != (n,):
                raise PlanError(
                    f"strategy 'auto': {self.groups.size} groups for {n} ranks, give one each"
                )
            network = network.with_groups(self.groups.tolist())
        native = Native(network, n)
        out = ffi.new("struct choice *")
        fault = ffi.new("struct fault *")
        rc = lib.choose_plan(
            native.struct,
            n,
            pointer("uint8_t *", flags),
            BYTES if self.bytes is None else self.bytes,
            self.chunk_size or 0,
            out,
            fault,
        )
        check(rc, fault, PlanError)
        return Choice(
            take_plan(out.plan, _text(out.spec)),
            network,
            chunk_size=int(out.chunk_size),
            seconds=float(out.seconds),
            limit=float(out.limit),
            why=_text(out.why),
        )

    def __repr__(self) -> str:
        return "<strategy auto>"


def known_network(
    n: int,
    bandwidth: float | None = None,
    measure: Callable[[], float] | None = None,
    *,
    here: bool = False,
) -> Network:
    """Return what is known of the network, for `n` ranks.

    That is what `Network.load` finds, with the bandwidth that was given, or the environment's
    FLUX_TREE_BANDWIDTH. Where there is no such file, the rest are typical numbers.

    Parameters
    ----------
    n : int
        Ranks. Numbers of single ranks, and groups, that are those of other ranks are left out.
    bandwidth : float, optional
        Of one NIC, bytes per second.
    measure : callable, optional
        Returns that of the loopback interface, where nothing else says it. 1 Gbit/s, if not given.
    here : bool, default False
        The ranks share this machine. Else what was measured on one machine, and holds for one only,
        is left out: `Network.between_nodes`.

    Returns
    -------
    Network

    Raises
    ------
    UsageError
        If the file or the variable cannot be read.
    """
    text = os.environ.get(BANDWIDTH_VAR)
    if bandwidth is None and text:
        try:
            bandwidth = parse_rate(text)
        except UsageError as exc:
            raise UsageError(f"{BANDWIDTH_VAR}: {exc}") from None
    network = Network.load()
    if network is not None and not here:
        network = network.between_nodes()
    if network is None and bandwidth is None and measure is not None:
        return Network(measure(), origin=LOOPBACK)
    if network is None:
        return Network(bandwidth or BANDWIDTH)
    return replace(
        network,
        bandwidth=network.bandwidth if bandwidth is None else bandwidth,
        rates={rank: rate for rank, rate in network.rates.items() if rank < n},
        groups=_of(n, network.groups),
    )


def _of(n: int, groups: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if groups is None or len(groups) != n else tuple(groups)


def _text(text: Any) -> str:
    return bytes(ffi.string(text)).decode()
