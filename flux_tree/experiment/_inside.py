"""A driver: stands where the broadcasts begin, and runs one cell after the other.

It is the initial program of an instance of Flux, or a process that has the embedded engine. It
reads requests from standard input, a line of JSON each, and answers on standard output in the same
way. First it says that it is ready. When its input ends it ends too, whatever is under way: so
nothing outlives the run that it belongs to.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from .._between import LOOPBACK_BANDWIDTH
from ..errors import BroadcastError, FluxTreeError
from ..topology import Topology
from ._cells import Cell

__all__ = ["Place", "main"]

#: How long what is under way gets to notice by itself that the input has ended.
NOTICE_S = 0.3


class Place:
    """Where cells are run.

    Parameters
    ----------
    topology : Topology
        The tree.
    broadcast : callable
        ``broadcast(source, destination, strategy)`` to all of the ranks, returning a `Result`.
    flux : bool
        Commands of Flux can be run.
    own_nic : bool, default False
        Rank 0 has a network of its own here, so that what it sends can be counted.

    Attributes
    ----------
    topology, broadcast, flux, own_nic
        As given.
    """

    def __init__(
        self,
        topology: Topology,
        broadcast: Callable[..., Any],
        flux: bool,
        own_nic: bool = False,
    ) -> None:
        self.topology = topology
        self.broadcast = broadcast
        self.flux = flux
        self.own_nic = own_nic
        self._process: subprocess.Popen[str] | None = None

    def command(self, argv: Sequence[str]) -> str:
        """Run a command, and return what it printed.

        Parameters
        ----------
        argv : sequence of str
            The command.

        Returns
        -------
        str

        Raises
        ------
        BroadcastError
            If it failed, with the last thing it said.
        """
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            self._process = process
            out, err = process.communicate()
            self._process = None
        if process.returncode != 0:
            said = (err.strip() or out.strip() or "it said nothing").splitlines()
            # flux exec ends with which rank had which exit code, and what went wrong is above
            what = next((x for x in said if ": Exit " not in x), said[-1])
            raise BroadcastError(f"{' '.join(argv[:3])}: exit code {process.returncode}: {what}")
        return out

    def stop(self) -> None:
        """End the command that is under way."""
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.terminate()


def main(text: str) -> None:
    """Run cells until standard input ends.

    Parameters
    ----------
    text : str
        JSON: ``place`` ("local", "lab", "flux" or "lab-flux"), ``nodes``, ``topology``, and for a
        lab ``rate``.
    """
    setup = json.loads(text)
    # whatever is started here gets neither our requests nor a way to answer
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    with ExitStack() as stack:
        try:
            place, hello = _open(setup, stack)
        except Exception as exc:
            _answer(answers, {"error": describe(exc)})
            return
        lines: queue.Queue[bytes | None] = queue.Queue()
        leaving = threading.Event()
        reader = partial(_read, requests, lines, leaving, place)
        threading.Thread(target=reader, daemon=True).start()
        _answer(answers, {"ready": True, **hello})
        while (line := lines.get()) is not None:
            _answer(answers, _run(json.loads(line), place))
        leaving.set()


def describe(exc: BaseException) -> str:
    """Return an exception in one line.

    Parameters
    ----------
    exc : BaseException

    Returns
    -------
    str
    """
    text = " ".join(str(exc).split())
    if isinstance(exc, FluxTreeError):
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _open(setup: dict[str, Any], stack: ExitStack) -> tuple[Place, dict[str, Any]]:
    """Return the place that `setup` describes, and what to say of it."""
    import flux_tree

    spec, nodes = setup["topology"], setup["nodes"]
    topology = Topology.from_spec(spec, nodes)
    if setup["place"] == "lab":
        from ..lab import Lab

        lab = stack.enter_context(Lab(nodes, setup["rate"]))
        return Place(topology, partial(lab.broadcast, topology=spec), False), {
            "goodput": lab.goodput()
        }
    if setup["place"] == "local":
        # who reckons the limit measures it once for all cells
        rate = LOOPBACK_BANDWIDTH
        local = partial(flux_tree.broadcast, ranks=nodes, topology=spec, bandwidth=rate)
        return Place(topology, local, False), {}
    from .._flux import connect

    handle = connect()
    found = Topology.from_instance(handle)
    if found != topology:
        raise BroadcastError(
            f"the instance has not the topology {spec} over {nodes} ranks, but the parents"
            f" {found.parents.tolist()}"
        )
    own_nic = setup["place"] == "lab-flux"
    return Place(topology, partial(flux_tree.broadcast, handle=handle), True, own_nic), {}


def _run(request: dict[str, Any], place: Place) -> dict[str, Any]:
    """Run a cell; whatever goes wrong is its failure."""
    from . import _events

    folder = Path(request["folder"])
    measured: dict[str, Any] = {"events": [], "records": [], "pings": []}
    try:
        _events.run(Cell(**request["cell"]), place, folder, request["seed"], measured)
    except Exception as exc:
        return {"status": "failed", "error": describe(exc), **measured}
    finally:
        _events.tidy(place, folder)
    return {"status": "ok", "error": None, **measured}


def _read(
    fd: int, lines: queue.Queue[bytes | None], leaving: threading.Event, place: Place
) -> None:
    """Read requests; at the end of the input, end."""
    with os.fdopen(fd, "rb") as f:
        for line in f:
            lines.put(line)
    lines.put(None)
    if not leaving.wait(NOTICE_S):
        place.stop()
        os._exit(1)


def _answer(fd: int, answer: dict[str, Any]) -> None:
    line = memoryview(json.dumps(answer, allow_nan=False).encode() + b"\n")
    try:
        while line:
            line = line[os.write(fd, line) :]
    except BrokenPipeError:
        sys.exit(1)
