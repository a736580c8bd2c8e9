"""The links of a plan, as a broadcast used them: which were slower than they could have been."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._records import Result
from .network import Network

__all__ = ["LOST_S", "SLOW", "Links"]

#: How many times slower than possible a link is to be, and how many times slower at most one is
#: that is in order.
SLOW, GOOD = 2.0, 1.5
#: Seconds that must have been lost. One packet that is lost costs TCP at least 0.2 s.
LOST_S = 0.25
#: A rank was busy with the network if it waited for it for more than this part of the time in which
#: data came.
BUSY = 0.5
#: A rate has been seen if it was held for so many seconds: bursts are something else.
SEEN_S = 0.1
#: Less time than this is no time to divide by.
LEAST_S = 1e-6


def _stripe_bytes(result: Result) -> NDArray[np.float64]:
    """Return what travels down each tree, bytes."""
    stripes, size = result.plan.stripes, max(result.chunk_size, 1)
    chunks = -(-result.bytes // size)
    counts = np.array([len(range(s, chunks, stripes)) for s in range(stripes)], np.float64)
    sizes = counts * size
    if chunks:
        sizes[(chunks - 1) % stripes] -= chunks * size - result.bytes
    return sizes


def _rest(
    keys: NDArray[Any],
    limits: NDArray[np.float64],
    sizes: NDArray[np.float64],
    seconds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what links could have had of something that they share.

    Parameters
    ----------
    keys : ndarray of int, shape (m,)
        What each link shares with those of the same key.
    limits : ndarray of float64
        Of each key, bytes per second.
    sizes, seconds : ndarray of float64, shape (m,)
        Bytes that each link moved, and how long it took it.

    Returns
    -------
    ndarray of float64, shape (m,)
        Bytes: what the limit allows in the time of each link, less what the others of its key
        moved of theirs in that time at most.
    """
    order = np.lexsort((seconds, keys))
    key, size, took = keys[order], sizes[order], seconds[order]
    place = np.arange(len(order))
    first, end = np.searchsorted(key, key), np.searchsorted(key, key, "right")
    moved = np.concatenate(([0.0], np.cumsum(size)))
    rates = np.concatenate(([0.0], np.cumsum(size / took)))
    rest = np.empty(len(order))
    faster = moved[place] - moved[first]  # they may have moved all of it
    slower = (rates[end] - rates[place + 1]) * took
    rest[order] = limits[key] * took - faster - slower
    return rest


class Links:
    """The links of a plan, and what is known of each.

    A rank has a chunk as a whole before it sends any of it. So the seconds in which a child waits
    for the rest of a chunk (the field ``links``) are those of the link between the two, and say
    nothing of what stands above it. In these seconds the link could have had what the interface of
    the sender did not send to its other children, and that of the receiver did not get from its
    other parents (of what they moved, the most that can have been in the same time).

    A link is slow if it had less than half of that, if that cost more than `LOST_S`, and if the
    network was what its receiver waited for for most of the time. Where no interface was seen to
    do what it should, the machine may be the limit, or the network as a whole; then a link has to
    be twice as slow as the one in the middle, too.

    Parameters
    ----------
    result : Result
        Of a broadcast by the direct transport, every rank of which has a host of its own.
    network : Network or None
        The interfaces. If not given, the one that did most is what they can do.

    Attributes
    ----------
    senders, receivers : ndarray of int, shape (m,)
        Of each link.
    bytes, seconds : ndarray of float64, shape (m,)
        What it moved, and how long chunks of it were waited for.
    limits : ndarray of float64, shape (n,)
        What the interface of each rank can do, bytes per second.
    possible : ndarray of float64, shape (m,)
        What each link could have moved in its time, bytes.
    slow, good : ndarray of bool, shape (m,)
        It was slow; it was in order.
    """

    def __init__(self, result: Result, network: Network | None) -> None:
        plan, records = result.plan, result.records
        done = np.isfinite(records["verified"])
        sizes = _stripe_bytes(result)
        # where a parent was lost and replaced, who sent what is not known
        kept = (plan.parents >= 0) & (plan.parents == records["parents"][:, : plan.stripes].T)
        kept &= done & done[plan.parents] & (sizes > 0)[:, np.newaxis]
        tree, self.receivers = np.nonzero(kept)
        self.senders = plan.parents[tree, self.receivers]
        self.bytes = sizes[tree]
        self.seconds = np.maximum(records["links"][self.receivers, tree], LEAST_S)
        spans = records["last_byte"] - records["first_byte"]
        self._busy = (records["wait_link"] > BUSY * spans)[self.receivers]
        if network is None:
            self.limits = np.full(plan.size, self._best(result))
        else:
            self.limits = network.rate_array(plan.size)
        self.possible = self._possible(network)
        times = self.possible / self.bytes
        loads, limit = self._loads(plan.size), float(np.median(self.limits))
        seen = (self.seconds > SEEN_S) & (loads > limit / GOOD) & (loads < limit * GOOD)
        usual = 1.0
        if len(times) and not seen.any():
            usual = max(1.0, float(np.quantile(times, 0.5, method="lower")))
        lost = self.seconds * (1 - 1 / np.maximum(times, 1.0))
        self.slow = self._busy & (times > SLOW * usual) & (lost > LOST_S)
        self.good = times <= GOOD * usual

    @property
    def rates(self) -> NDArray[np.float64]:
        """Bytes per second of each link, while chunks of it were on their way."""
        return self.bytes / self.seconds

    def ends(self, link: int) -> tuple[int, int]:
        """Return the sender and the receiver of a link."""
        return int(self.senders[link]), int(self.receivers[link])

    def _loads(self, n: int) -> NDArray[np.float64]:
        """Return what the busier interface of each link moved in its time, bytes per second."""
        others = [
            -_rest(ends, np.zeros(n), self.bytes, self.seconds)
            for ends in (self.senders, self.receivers)
        ]
        return np.asarray((np.max(others, axis=0) + self.bytes) / self.seconds)

    def _best(self, result: Result) -> float:
        """Return the most that an interface did from its first byte to its last, bytes/s."""
        n = result.plan.size
        first, last = np.full(n, np.inf), np.zeros(n)
        np.minimum.at(first, self.senders, result.records["first_byte"][self.receivers])
        np.maximum.at(last, self.senders, result.records["last_byte"][self.receivers])
        sent = np.bincount(self.senders, self.bytes, n)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.concatenate((sent / (last - first), result.rates))
        return float(np.max(rates, initial=0.0, where=np.isfinite(rates)))

    def _possible(self, network: Network | None) -> NDArray[np.float64]:
        """Return what each link could have moved in its time, bytes."""
        shared: list[tuple[NDArray[Any], NDArray[np.float64]]]
        shared = [(self.senders, self.limits), (self.receivers, self.limits)]
        if network is not None and network.groups is not None and network.uplink is not None:
            groups = np.array(network.groups)
            crosses = groups[self.senders] != groups[self.receivers]
            uplinks = np.append(np.full(groups.max() + 1, network.uplink), np.inf)
            for ends in (self.senders, self.receivers):
                shared.append((np.where(crosses, groups[ends], len(uplinks) - 1), uplinks))
        rests = [_rest(keys, limits, self.bytes, self.seconds) for keys, limits in shared]
        return np.asarray(np.min(rests, axis=0))
