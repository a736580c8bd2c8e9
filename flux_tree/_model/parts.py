"""Where the time of each rank went, from what it measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._records import Result

__all__ = ["PARTS", "time_parts"]

#: What the time of a rank is made up of, in the order in which it is taken away.
PARTS = ("starting", "waiting", "link", "processor", "disk", "other")


def time_parts(result: Result) -> dict[str, NDArray[np.float64]]:
    """Return where the time went until each rank had verified all.

    The parts of a rank add up to its ``verified``, and none is below 0. They are those of its
    threads that receive, on average. Each is what was measured, or what is left if that is less.
    In this order:

    ``starting``
        Until its first parent had greeted it; through the content cache, until it began to ask; of
        the root, until it was ready to serve. A rank of a later phase starts when its phase does.
    ``waiting``
        There was nothing to receive, and no chunk was on its way: the parents had none, or its
        phase had not come. ``wait_data`` less ``wait_link``.
    ``link``
        The rest of a chunk was waited for. Its parent has a chunk as a whole before it sends any
        of it, so what is between them was the limit, at either end: ``wait_link``. Where that was
        not measured (through the content cache), what is left of ``wait_data``, up to ``bytes_in``
        / bandwidth. Of the root, what is left of its time: its children take what it reads.
    ``processor``
        ``cpu``, processor time of the whole process, so it is the most that it can have been.
    ``disk``
        ``wait_disk``, file system calls of all threads, as far as they were no processor time.
    ``other``
        The rest: it was ready to run and had no processor, or waited for another thread.

    Parameters
    ----------
    result : Result
        Of a broadcast.

    Returns
    -------
    dict of str to ndarray of float64, shape (n,)
        Seconds, by the names in `PARTS`; NaN for ranks that never had all.
    """
    r = result.records
    content = result.transport == "content"
    root = (r["rank"] == 0) & (not content)  # through the content cache it gets it as all others
    begun = np.nan_to_num(r["started"])
    connected = np.where(np.isnan(r["connected"]) | root | content, begun, r["connected"])
    phase_begun = np.where(result.plan.phase > 0, begun, 0.0)
    left = np.array(r["verified"])

    def take(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        taken = np.clip(seconds, 0.0, left)
        left[:] -= taken
        return taken

    early = take(phase_begun)
    starting = take(connected - phase_begun)
    wait = take(np.where(root, 0.0, r["wait_data"]))
    link = np.minimum(wait, _link_seconds(result))
    waiting = early + wait - link
    processor = take(r["cpu"])
    disk = take(r["wait_disk"])
    has_children = bool((result.plan.parents == 0).any())
    link += take(np.where(root & has_children, np.inf, 0.0))
    return {
        "starting": starting,
        "waiting": waiting,
        "link": link,
        "processor": processor,
        "disk": disk,
        "other": left,
    }


def _link_seconds(result: Result) -> NDArray[np.float64]:
    """Return how long each rank waited for the network, as measured, or else at most."""
    r = result.records
    if r["wait_link"].any():
        return np.array(r["wait_link"])
    if result.bandwidth is None:
        return np.zeros(len(r))
    return np.array(r["bytes_in"] / result.bandwidth)
