"""Ranks that were slower than they could have been, and not because of another one."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._records import Result
from ..units import format_rate, format_seconds
from .links import LOST_S, SLOW, Links
from .network import Network

__all__ = ["SlowRank", "slow_ranks"]

#: More than this part of a rank's own work has one reason, if it has one.
MOST = 0.8
#: Of more ranks than this, a reason names the first.
MAX_NAMED = 4


@dataclass(frozen=True)
class SlowRank:
    """A rank that was slower than it could have been.

    Attributes
    ----------
    rank : int
        Which.
    host : str or None
        Where it ran, if that is known.
    rate : float
        At which it received while it did, or sent, or did its own work; bytes per second.
    expected : float
        What was possible at the same time, bytes per second.
    reason : str
        What was seen, and what is likely.
    """

    rank: int
    host: str | None
    rate: float
    expected: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def slow_ranks(
    result: Result, parts: dict[str, NDArray[np.float64]], network: Network | None
) -> tuple[SlowRank, ...]:
    """Return the ranks that were slower than the network allows, and not because of another one.

    Every slow link (`Links`) has two ends. An end is in order if another link of it in the same
    direction is; then the other end is the slow one. Where both may be, it is the one that has
    more slow links; if they have as many, the one that has no link in order in any direction, and
    else the receiver. What is slow below it is so because of it.

    A rank is slow, too, if its own work (all that was neither a wait for its parent nor for the
    network) took more than half of the time of the whole broadcast, and a quarter of a second more
    than twice as long as usual: as the rank in the middle has it for as many bytes, received and
    sent. The disk is the likely reason if nearly all of it was spent in file system calls, else
    the processor, for which nobody is named in a lab, whose hosts share them.

    Parameters
    ----------
    result : Result
        Of a broadcast.
    parts : dict of str to ndarray of float64, shape (n,)
        Where the time of each rank went, from `time_parts`.
    network : Network or None
        The interfaces. If not given, the one that did most is what they can do.

    Returns
    -------
    tuple of SlowRank
        By rank. None for processes of one machine, or where ranks share hosts.
    """
    if not _have_own_hosts(result):
        return ()
    found = _of_work(result, parts)
    found.update(_of_links(result, network, set(found)))
    return tuple(found[rank] for rank in sorted(found))


def _have_own_hosts(result: Result) -> bool:
    """Return whether no two ranks were on one host."""
    hosts = result.hosts
    there = np.flatnonzero(result.plan.present)
    return hosts is not None and len({hosts[r] for r in there}) == len(there)


# ---- the network


def _of_links(result: Result, network: Network | None, busy: set[int]) -> dict[int, SlowRank]:
    """Return the ranks that slow links are due to; those of `busy` ranks need no other reason."""
    if result.transport != "direct":
        return {}
    links = Links(result, network)
    n = result.plan.size
    sends = np.bincount(links.senders[links.good], minlength=n) > 0
    receives = np.bincount(links.receivers[links.good], minlength=n) > 0
    in_order = sends | receives
    named: dict[int, list[int]] = {}
    unsure = []
    for link in np.flatnonzero(links.slow).tolist():
        sender, receiver = links.ends(link)
        if sender in busy or receiver in busy:
            continue
        if sends[sender] and not receives[receiver]:
            named.setdefault(receiver, []).append(link)
        elif receives[receiver] and not sends[sender]:
            named.setdefault(sender, []).append(link)
        elif not receives[receiver]:
            unsure.append(link)
    while unsure := [k for k in unsure if named.keys().isdisjoint(links.ends(k))]:
        counts = Counter(rank for k in unsure for rank in links.ends(k))
        receivers = {links.ends(k)[1] for k in unsure}
        worst = max(counts, key=lambda r: (counts[r], not in_order[r], r in receivers))
        named[worst] = [k for k in unsure if worst in links.ends(k)]
    return {rank: _describe(result, links, rank, found) for rank, found in named.items()}


def _describe(result: Result, links: Links, rank: int, found: list[int]) -> SlowRank:
    """Return a rank as what is to be said of it and its slow links."""
    incoming = [k for k in found if links.receivers[k] == rank]
    seen = incoming or found
    rate = float(links.rates[seen].sum())
    possible = float((links.possible[seen] / links.seconds[seen]).sum())
    if incoming:
        text = f"received at {format_rate(rate)} while {_meanwhile(result, links, rank, incoming)}"
    else:
        to = sorted({links.ends(k)[1] for k in found})
        names = ", ".join(map(str, to[:MAX_NAMED])) + (", ..." if len(to) > MAX_NAMED else "")
        text = f"sent at {format_rate(rate)} to {names}, which can do more; likely its NIC"
    expected = min(possible, float(links.limits[rank]))
    return SlowRank(rank, _host(result, rank), rate, expected, text)


def _meanwhile(result: Result, links: Links, rank: int, incoming: list[int]) -> str:
    """Return what shows that the parents of a rank, or one of them, are in order."""
    parents = {links.ends(k)[0] for k in incoming}
    others = np.isin(links.senders, list(parents)) & (links.receivers != rank) & links.good
    if others.any():
        rates = np.minimum(links.rates, links.limits[links.senders])
        best = int(np.flatnonzero(others)[np.argmax(rates[others])])
        sender, receiver = links.ends(best)
        return f"its parent {sender} sent {format_rate(rates[best])} to {receiver}; likely its NIC"
    parent = max(parents, key=lambda p: np.nan_to_num(result.rates[p]))
    rate = float(np.nan_to_num(result.rates[parent]))
    if rate >= SLOW * links.rates[incoming].sum():
        return f"its parent {parent} received at {format_rate(rate)}; likely its NIC"
    return f"its parent {parent} sent to nobody else; likely its NIC, or that of {parent}"


# ---- its own work


def _of_work(result: Result, parts: dict[str, NDArray[np.float64]]) -> dict[int, SlowRank]:
    """Return the ranks that were slow by themselves."""
    work = parts["processor"] + parts["disk"] + parts["other"]
    spent = result.records["verified"] - parts["starting"]
    moved = np.asarray(result.records["bytes_in"] + result.records["bytes_out"], np.float64)
    known = np.isfinite(work) & (moved > 0)
    each = np.quantile(work[known] / moved[known], 0.5, method="lower") if known.any() else 0.0
    usual = each * moved
    whole = float(np.max(spent, initial=0.0, where=known))
    of_disk = parts["disk"] > MOST * work
    slow = known & (work > SLOW * usual + LOST_S) & (work > whole / SLOW)
    if result.engine == "lab":  # whose hosts share their processors
        slow &= of_disk
    found = {}
    for rank in np.flatnonzero(slow).tolist():
        what, cause = "its own work", "processor"
        if of_disk[rank]:
            what, cause = f"{'reading' if rank == 0 else 'writing'} its files", "disk"
        took, of = float(work[rank]), float(spent[rank])
        found[rank] = SlowRank(
            rank,
            _host(result, rank),
            result.bytes / took,
            result.bytes / (of - took + max(float(usual[rank]), LOST_S)),
            f"{what} took {format_seconds(took)} of {format_seconds(of)}; likely its {cause}",
        )
    return found


def _host(result: Result, rank: int) -> str | None:
    return None if result.hosts is None else result.hosts[rank]
