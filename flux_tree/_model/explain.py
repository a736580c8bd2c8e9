"""A broadcast that is over, beside what the model predicts of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._records import Result
from ..errors import UsageError
from ..units import format_rate
from .network import Network
from .parts import PARTS, time_parts
from .predict import BLOB_SIZE, METHODS, Prediction, predict
from .slow import SlowRank, slow_ranks

__all__ = ["Explanation", "explain"]

#: More chunks times ranks than this are not simulated: a table has to be there at once.
SIMULATE_MOST = 1_000_000
#: Blobs that a rank of the content transport asks for at a time, as fetch.h has it.
CONTENT_WINDOW = 16


@dataclass(frozen=True)
class Explanation:
    """Why a broadcast took as long as it did.

    Attributes
    ----------
    result : Result
        The broadcast.
    prediction : Prediction or None
        The same plan, data, chunks and security as the model has them; None if there is no
        bandwidth to reckon with, or the network is one of other ranks.
    note : str
        What is wrong with the network that was found, so that there is no prediction; "" if
        nothing is.
    parts : dict of str to ndarray of float64, shape (n,)
        Where the time of each rank went, in seconds, by the names in `PARTS`:
        `flux_tree._model.parts.time_parts` has what they are.
    slow : tuple of SlowRank
        The ranks that were slower than the network allows, and not because of another one.
    """

    result: Result
    prediction: Prediction | None
    note: str
    parts: dict[str, NDArray[np.float64]]
    slow: tuple[SlowRank, ...]

    @property
    def predicted(self) -> NDArray[np.float64]:
        """Seconds until each rank has verified all, as predicted; NaN where nothing is, as of
        the root, which has all of it.
        """
        times = np.full(self.result.plan.size, np.nan)
        if self.prediction is not None:
            times[1:] = self.prediction.records["verified"][1:]
        return times

    @property
    def time(self) -> float | None:
        """Seconds until the slowest rank has all, as predicted; None if nothing is."""
        return None if self.prediction is None else self.prediction.time

    @property
    def measured(self) -> NDArray[np.float64]:
        """Seconds until each rank had verified all; NaN if it never had."""
        return np.array(self.result.records["verified"])

    @property
    def ratio(self) -> NDArray[np.float64]:
        """Measured over predicted, of each rank; NaN where there is none of the two."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.predicted > 0, self.measured / self.predicted, np.nan)

    @property
    def origin(self) -> str:
        """What the prediction was reckoned with, in words; "" if there is none."""
        if self.prediction is None or self.prediction.network is None:
            return ""
        network = self.prediction.network
        return f"{format_rate(network.bandwidth)} a NIC, {network.origin}"

    def of(self, rank: int) -> dict[str, float]:
        """Return where the time of one rank went.

        Parameters
        ----------
        rank : int
            Which.

        Returns
        -------
        dict of str to float
            Seconds, by the names in `PARTS`.
        """
        return {name: float(self.parts[name][rank]) for name in PARTS}


def explain(result: Result, network: Network | None = None) -> Explanation:
    """Set beside each other what was predicted and what was measured, and say where the time went.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over, by whatever engine, or from `Result.load`.
    network : Network, optional
        What to predict with. If not given: `Result.network`; else what `Network.load` finds, with
        the bandwidth that the result knows of, if it does; else the bandwidth of the result and
        typical costs. Ranks that share this machine (engines "local" and "lab") share its
        processors.

    Returns
    -------
    Explanation

    Raises
    ------
    UsageError
        If `result` is itself a prediction, or the network that was given is one of other ranks.

    Examples
    --------
    >>> result = flux_tree.broadcast("model", "/tmp/copy-{rank}", ranks=8)
    >>> why = flux_tree.model.explain(result)
    >>> why.of(result.summary()["slowest_rank"])
    >>> [slow.reason for slow in why.slow]
    """
    if result.engine == "model":
        raise UsageError("explain: this is a prediction, give what was measured")
    prediction, note = None, ""
    network = network or result.network
    if network is not None:
        prediction = _predict(result, network)
    else:
        try:
            network = _network(result)
            prediction = None if network is None else _predict(result, network)
        except UsageError as exc:  # of what nobody has asked for: the rest is of use without it
            network, note = None, str(exc)
    if result.records["bytes_kept"].any():
        prediction, note = None, "part of the data was there before"
    parts = time_parts(result)
    return Explanation(result, prediction, note, parts, slow_ranks(result, parts, network))


def _network(result: Result) -> Network | None:
    """Return what is known of the machines of a broadcast, if nobody says more."""
    network, n = Network.load(), result.plan.size
    if network is not None and result.engine == "flux":
        network = network.between_nodes()
    if network is not None:  # numbers of other ranks are of no use
        rates = {rank: rate for rank, rate in network.rates.items() if rank < n}
        groups = network.groups if len(network.groups or ()) == n else None
        network = replace(network, rates=rates, groups=groups)
    if result.bandwidth is not None:
        changes: dict[str, Any] = {"bandwidth": result.bandwidth}
        bandwidth = "measured" if result.measured else "as given"
        if network is None:
            network = Network(result.bandwidth, origin=f"{bandwidth}, with typical costs")
        elif network.bandwidth != result.bandwidth:
            changes["origin"] = f"{bandwidth}, with the costs of {network.origin}"
        network = replace(network, **changes)
    if network is None or result.engine == "flux":
        return network
    return replace(network, processors=os.cpu_count(), rates={}, groups=None, uplink=None)


def _predict(result: Result, network: Network) -> Prediction:
    content = result.transport == "content"
    size = BLOB_SIZE if content else max(result.chunk_size, 1)
    small = result.bytes / size * result.plan.size <= SIMULATE_MOST
    return predict(
        result.plan,
        result.bytes,
        network,
        method=METHODS[0] if small else METHODS[1],
        chunk_size=None if content else size,
        transport=result.transport,
        security=result.security,
        window=CONTENT_WINDOW if content else 1,
    )
