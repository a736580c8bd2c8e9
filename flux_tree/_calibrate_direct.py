"""What a transfer costs the direct transport, from small broadcasts and what their ranks measured.

Costs are processor time, the ranks' field ``cpu``. Each is the difference of two broadcasts that
differ in one thing alone, so that whatever else a rank does cancels out.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ._model.network import Network
from ._model.predict import predict
from ._records import Result
from .plan import Plan

__all__ = [
    "COARSE",
    "COSTS_MOST",
    "MAX_RANKS",
    "MIB",
    "REPEAT",
    "DirectCosts",
    "Send",
    "chain",
    "clamp",
    "direct_costs",
    "edge_latency",
    "payload_rate",
    "start_time",
]

MIB = 1 << 20
#: How often each thing is measured, and each cost, which is a small difference: medians are taken.
REPEAT, COSTS_REPEAT = 3, 5
#: Ranks that costs are measured with, at most: more would only take longer.
MAX_RANKS = 4
#: Chunks of the two sizes whose cost is compared, bytes.
FINE, COARSE = 64 << 10, MIB
#: Trees of the plan whose connections are counted.
TREES = 16
#: Seconds on the NIC, and bytes, of the payload that the costs are taken from.
COSTS_S, COSTS_LEAST, COSTS_MOST = 0.8, 2 * MIB, 64 * MIB
#: The first and the largest payload of `payload_rate`, bytes; and the seconds that it aims at.
RATE_FIRST, RATE_MOST, RATE_S = 2 * MIB, 256 * MIB, 0.5


class Send(Protocol):
    """Broadcasts new data, by whatever engine."""

    def __call__(
        self, plan: Plan, size: int, chunk_size: int = COARSE, security: str = "tls"
    ) -> Result:
        """Broadcast `size` bytes."""


class DirectCosts(NamedTuple):
    """Costs of the direct transport, as the fields of `Network` of these names."""

    per_connection: float
    per_chunk: float
    encryption: float | None


def chain(ranks: int, trees: int = 1) -> Plan:
    """Return a plan in which each rank passes on to the next, in every tree; rank 0 keeps none.

    Parameters
    ----------
    ranks : int
        How many.
    trees : int, default 1
        Equal ones.

    Returns
    -------
    Plan
    """
    parents = np.arange(-1, ranks - 1)
    return Plan(np.tile(parents, (trees, 1)), np.arange(ranks) > 0, strategy="chain")


def direct_costs(send: Send, ranks: int, bandwidth: float) -> DirectCosts:
    """Measure what connections, chunks and bytes cost.

    With C the processor time of all ranks of a chain with L links, each of which has two ends:
    per_connection = (C of 16 trees - C of one) / (2 L 15), with a payload of one byte;
    per_chunk = (C in chunks of 64 KiB - C in chunks of 1 MiB) / (2 L x the chunks more);
    1 / encryption = (C of a payload - C of one byte) / (2 L x bytes) - per_chunk / 1 MiB, in TLS.

    Parameters
    ----------
    send : Send
        Broadcasts.
    ranks : int
        Of the chain, 2 or more.
    bandwidth : float
        Of one NIC, bytes per second: how much data is worth its time.

    Returns
    -------
    DirectCosts
    """
    size = int(clamp(bandwidth * COSTS_S, COSTS_LEAST, COSTS_MOST)) // COARSE * COARSE
    plan, wide = chain(ranks), chain(ranks, TREES)
    rows = []
    for _ in range(COSTS_REPEAT):
        one, many = _cpu(send(plan, 1)), _cpu(send(wide, 1))
        coarse, fine = _cpu(send(plan, size, COARSE)), _cpu(send(plan, size, FINE))
        rows.append((many - one, fine - coarse, coarse - one))
    connections, chunks, data = map(statistics.median, zip(*rows))
    ends = 2 * (ranks - 1)
    per_chunk = max(0.0, chunks / (ends * (size // FINE - size // COARSE)))
    per_byte = data / (ends * size) - per_chunk / COARSE
    return DirectCosts(
        per_connection=max(0.0, connections / (ends * (TREES - 1))),
        per_chunk=per_chunk,
        encryption=1 / per_byte if per_byte > 0 else None,
    )


def payload_rate(send: Send) -> float:
    """Measure what one rank gets from another, not encrypted, once the stream is up to speed.

    A first, small payload tells how large the next must be to take about half a second. What that
    has more, divided by the time that it takes longer, is the rate: how the stream began cancels
    out.

    Parameters
    ----------
    send : Send
        Broadcasts between two ranks.

    Returns
    -------
    float
        Bytes per second.
    """
    size, before, short = RATE_FIRST, 0, 0.0
    while True:
        # what else happens on the way only makes it longer
        long = min(_span(send(chain(2), size, COARSE, "none")) for _ in range(REPEAT))
        if long >= RATE_S / 2 or size >= RATE_MOST:
            break
        before, short = size, long
        size = int(clamp(size * RATE_S / max(long, 1e-9), 2 * size, RATE_MOST))
    return (size - before) / (long - short) if long > short else size / long


def edge_latency(results: Sequence[Result]) -> float | None:
    """Return half of the shortest round trip between two ranks that compared their clocks.

    Parameters
    ----------
    results : sequence of Result
        Of chains.

    Returns
    -------
    float or None
        Seconds; None if all ranks have the same clock, and so are on one machine.
    """
    found: list[float] = []
    for result in results:
        # errors add up from the root down, and ranks of one machine add none: the first one that
        # is not 0 is that of a single edge
        errors = result.records["clock_error"]
        found.extend(errors[errors > 0][:1])
    return float(min(found)) if found else None


def start_time(results: Sequence[Result], network: Network) -> float:
    """Return `Network.start`: when ranks had connected, less what the model knows the reason of.

    Parameters
    ----------
    results : sequence of Result
        Of broadcasts of few bytes by the same plan.
    network : Network
        All other numbers.

    Returns
    -------
    float
        Seconds.
    """
    plan = results[0].plan
    known = predict(plan, 1, network, method="simulation").records["connected"]
    lag = [float(np.nanmedian((r.records["connected"] - known)[1:])) for r in results]
    return max(0.0, network.start + statistics.median(lag))


def clamp(value: float, least: float, most: float) -> float:
    """Return the nearest number to `value` from `least` to `most`."""
    return min(max(value, least), most)


def _cpu(result: Result) -> float:
    return float(result.records["cpu"].sum())


def _span(result: Result) -> float:
    record = result.records[1]
    return float(record["last_byte"] - record["first_byte"])
