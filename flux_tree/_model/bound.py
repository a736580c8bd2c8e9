"""The least time that any broadcast in chunks could take, and the chunk size that takes least."""

from __future__ import annotations

import math

from ..errors import UsageError
from ..plan import Plan
from .limit import CHUNK_SIZE_MIN, chunk_size
from .network import Native, Network
from .quick import direct_time

__all__ = ["best_chunk_size", "lower_bound"]

#: Part of a step by which times that should be equal may differ.
ROUNDING = 1e-9


def lower_bound(n: int, size: int, network: Network, chunk_size: int | None = None) -> float:
    """Return a time that no broadcast to `n` ranks can beat, whatever its plan.

    *Any broadcast.* Every byte leaves the NIC of rank 0, and goes into the NIC (and onto the disk)
    of every other rank, at least once; the last one has still to travel. Where groups of ranks
    share an uplink, all bytes pass that of rank 0's group, and those of all others. So no time is
    below bytes / least of these rates + latency.

    *In chunks*, each passed on when all of it is there, as here, it is the postal model of Bar-Noy
    and Kipnis (1994): a rank sends a chunk in one step of tau = chunk / bandwidth, and it is there
    lambda = 1 + latency / tau steps after its sending began. One chunk reaches

        F(t) = 1 for t < lambda, F(t) = F(t - 1) + F(t - lambda) from there on

    ranks in t steps: the sum over j >= 0 of C(floor(t - j lambda) + j, j), as a rank j hops from
    rank 0 has it after j lambda steps and those that the senders above it have spent on others
    before. With f(n) the least t of F(t) >= n, k chunks take at least (k - 1 + f(n)) tau, since the
    last of them to leave rank 0 does so after k - 1 others. Without latency that is
    (k - 1 + ceil(log2 n)) tau, which the edge-disjoint trees of Johnsson and Ho (1989), "edst",
    come close to where n is a power of two; the two trees of Sanders, Speck and Träff (2009) need
    about log2 n steps more.

    A shorter last chunk is reckoned with as such, chunks spread at the rate of the fastest NIC, and
    what token buckets let pass at once (``network.burst``) takes no time. Work of processors is
    left out, so the bound holds whatever they cost.

    Parameters
    ----------
    n : int
        Ranks, rank 0 included.
    size : int
        Of the payload, bytes.
    network : Network
        Between which machines.
    chunk_size : int, optional
        Bytes. Without, the bound is that of any broadcast.

    Returns
    -------
    float
        Seconds; 0 for one rank.

    Raises
    ------
    UsageError
        If a number makes no sense, or the network is one of other ranks.

    References
    ----------
    A. Bar-Noy, S. Kipnis: Designing broadcasting algorithms in the postal model for
    message-passing systems. Mathematical Systems Theory 27 (1994) 431-452.

    S. L. Johnsson, C.-T. Ho: Optimum broadcasting and personalized communication in hypercubes.
    IEEE Transactions on Computers 38 (1989) 1249-1268.

    P. Sanders, J. Speck, J. L. Träff: Two-tree algorithms for full bandwidth broadcast, reduction
    and scan. Parallel Computing 35 (2009) 581-594.
    """
    if n < 1:
        raise UsageError(f"{n} ranks: give 1 or more")
    if size < 0:
        raise UsageError(f"size {size}: give bytes, not below 0")
    if chunk_size is not None and chunk_size < 1:
        raise UsageError(f"chunk size {chunk_size}: give 1 or more bytes")
    if n == 1:
        return 0.0
    root, least, fastest = _rates(n, network)
    least = min(least, network.disk or math.inf)
    if network.groups is not None and network.uplink is not None:
        if len(network.groups) != n:
            raise UsageError(f"network: groups of {len(network.groups)} ranks, and there are {n}")
        if max(network.groups) > 0:
            least = min(least, network.uplink)
    bound = max(size - network.burst, 0) / least + network.latency
    if chunk_size is None or size == 0:
        return bound
    before = (size - 1) // chunk_size * chunk_size  # the last chunk
    for sent, last in ((size, size - before), (before, chunk_size)):
        step = (last - network.burst) / fastest
        if sent > 0 and step > 0:
            after = (_steps(n, 1 + network.latency / step) - 1) * step
            bound = max(bound, (sent - network.burst) / root + after)
    return bound


def best_chunk_size(plan: Plan, size: int, network: Network, *, security: str = "tls") -> int:
    """Return the chunk size that takes least in closed form.

    `chunk_size` knows the depth and the bandwidth, this one all of the network.

    Parameters
    ----------
    plan : Plan
        Who sends what to whom.
    size : int
        Of the payload, bytes.
    network : Network
        Between which machines.
    security : {"tls", "none"}, default "tls"
        Whether the data is encrypted.

    Returns
    -------
    int
        Bytes, one of the powers of two that `chunk_size` gives; the largest of several.
    """
    native = Native(network, plan.size, encrypt=security == "tls")
    chunk = chunk_size(1 << 62, 1, plan.stripes, 1e18)  # the largest
    best, least = chunk, math.inf
    while chunk >= CHUNK_SIZE_MIN:
        seconds = direct_time(plan, size, chunk, native)
        if seconds < least:
            best, least = chunk, seconds
        chunk //= 2
    return best


def _rates(n: int, network: Network) -> tuple[float, float, float]:
    """Return the rate of the NIC of rank 0, the least of all, and the highest."""
    for rank in network.rates:
        if not 0 <= rank < n:
            raise UsageError(f"network: a rate of rank {rank}, and the ranks are 0-{n - 1}")
    rates = list(network.rates.values())
    if len(rates) < n:
        rates.append(network.bandwidth)
    return network.rates.get(0, network.bandwidth), min(rates), max(rates)


def _steps(n: int, hop: float) -> float:
    """Return f(n) of `lower_bound` for lambda = `hop`: a sum of whole steps and of hops."""
    best = math.inf
    hops = 1
    while hops * hop < best:  # t doubles what F(t - hop) is, so that there are at most log2 n
        low, high = 0, n - 2  # by then rank 0 alone has sent it to all
        while low < high:
            middle = (low + high) // 2
            if _reached(middle, hops, hop, n):
                high = middle
            else:
                low = middle + 1
        best = min(best, low + hops * hop)
        hops += 1
    return best


def _reached(steps: int, hops: int, hop: float, n: int) -> bool:
    """Return whether F(steps + hops x hop) is `n` or more."""
    reached, j = 1, 1
    while reached < n:
        left = steps + (hops - j) * hop + ROUNDING
        if left < 0:
            return False
        reached += math.comb(int(left) + j, j)
        j += 1
    return True
