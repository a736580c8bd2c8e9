"""The backends, by name: where an experiment runs.

A backend starts *drivers*: processes (`flux_tree.experiment._inside`) that stand where the
broadcasts begin, take cells on standard input and answer on standard output, a line of JSON each.
Whatever can start such a process can be a backend; what is done inside is the same for all of them.
A new one is a class with the methods of `Backend` and a line in `BACKENDS`.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from ..errors import UsageError

if TYPE_CHECKING:
    from .design import Design

__all__ = ["BACKENDS", "Backend", "backend_class", "driver_command", "need_flux"]

#: The module of this package and the class of each backend, which is loaded when it is used.
BACKENDS = {
    "local": ("_backend_local", "LocalBackend"),
    "flux-start": ("_backend_flux", "FluxStartBackend"),
    "lab": ("_backend_lab", "LabBackend"),
    "lab-flux": ("_backend_lab", "LabFluxBackend"),
    "kubernetes": ("_backend_kubernetes", "KubernetesBackend"),
}

_START = (
    "import sys; sys.path += sys.argv[3:]; from importlib import import_module;"
    " import_module(sys.argv[1]).main(sys.argv[2])"
)
#: The driver of most backends.
_INSIDE = "flux_tree.experiment._inside"


class Backend:
    """Base class of backends: one object for a whole run, which starts drivers one after the other.

    Parameters
    ----------
    design : Design
        What is run.

    Attributes
    ----------
    name : str
        What it is called in a design.
    summary : str
        What it is, in a few words.
    transports : tuple of str
        Those that it can do.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    transports: ClassVar[tuple[str, ...]] = ()
    #: How long a driver has to end by itself, seconds.
    end_limit: ClassVar[float] = 15.0

    def __init__(self, design: Design) -> None:
        self.design = design

    def configure(self, results: Path, options: Any) -> None:
        """Take what is not in a design.

        Parameters
        ----------
        results : Path
            The folder of the run.
        options : object or None
            Of the run, for backends that have some.
        """

    def check(self) -> None:
        """Refuse to run where it cannot, before anything is started.

        Raises
        ------
        FluxTreeError
            With the mend.
        """

    def start(self, nodes: int, topology: str, folder: Path, log: IO[bytes]) -> Any:
        """Start a driver.

        Parameters
        ----------
        nodes : int
            Ranks.
        topology : str
            The TBON, as for ``tbon.topo``.
        folder : Path
            For temporary files.
        log : file
            For what is written to standard error.

        Returns
        -------
        subprocess.Popen
            With pipes as its standard input and output. It begins a session of its own. When its
            standard input ends it ends, and takes all that belongs to it along.

        Raises
        ------
        FluxTreeError, OSError
            If that cannot be done.
        """
        raise NotImplementedError

    def goodput(self, nodes: int) -> float | None:
        """Return what one TCP stream between two of the ranks moves; called while a driver runs.

        Parameters
        ----------
        nodes : int
            Ranks.

        Returns
        -------
        float or None
            Bytes per second; None if the driver says so itself, or nobody knows.
        """
        return None

    def cell_limit(self) -> float:
        """Return how long to wait for the answer to a cell.

        Returns
        -------
        float
            Seconds.
        """
        return float(self.design.cell_limit)

    def discard(self, nodes: int) -> None:
        """Give up whatever drivers of so many ranks were started in, as one of them did not end.

        Parameters
        ----------
        nodes : int
            Ranks.
        """

    def close(self) -> None:
        """End all that is left."""

    # ---- rough figures for an estimate

    @classmethod
    def line_seconds(cls, design: Design, nodes: int, load: float, size: int) -> float:
        """Return about how long the data of a cell is on its way.

        Parameters
        ----------
        design : Design
            What is run.
        nodes : int
            Ranks.
        load : float
            How often the busiest rank sends the data.
        size : int
            Bytes.

        Returns
        -------
        float
            Seconds.
        """
        # between processes of one machine it is the processors that are shared
        return nodes * size / 400e6

    @classmethod
    def start_seconds(cls, nodes: int) -> float:
        """Return about how long it takes to start and to end a driver.

        Parameters
        ----------
        nodes : int
            Ranks.

        Returns
        -------
        float
            Seconds.
        """
        return 1.0


def backend_class(name: str) -> type[Backend]:
    """Return a backend by its name.

    Parameters
    ----------
    name : str
        One of `BACKENDS`.

    Returns
    -------
    type
        A subclass of `Backend`.

    Raises
    ------
    UsageError
        If there is none of that name, with the nearest one.
    """
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(BACKENDS)}"
        raise UsageError(f"there is no backend '{name}', {hint}")
    module, attribute = BACKENDS[name]
    found: type[Backend] = getattr(import_module(f".{module}", __package__), attribute)
    return found


def driver_command(module: str = _INSIDE, **setup: Any) -> list[str]:
    """Return the command that is a driver.

    Parameters
    ----------
    module : str, optional
        Whose ``main`` it is.
    **setup
        What that wants to know.

    Returns
    -------
    list of str
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    # -I, and our paths after the interpreter's own: no file that happens to lie in the current
    # directory stands in for a module
    paths = [root, *filter(None, sys.path)]
    return [sys.executable, "-I", "-c", _START, module, json.dumps(setup), *paths]


def need_flux(backend: str) -> str:
    """Return the path of the command ``flux``.

    Parameters
    ----------
    backend : str
        Which needs it.

    Returns
    -------
    str

    Raises
    ------
    UsageError
        If it is not on PATH, or has no bindings for this Python.
    """
    command = shutil.which("flux")
    if command is None:
        raise UsageError(
            f"backend '{backend}': 'flux' is not on PATH; install flux-core, set PATH to where it"
            " is, or use backend 'local'"
        )
    from .._flux import import_flux

    import_flux()
    return command


def start_driver(
    command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a driver, or what starts one, on this machine.

    Parameters
    ----------
    command : sequence of str
        What is started.
    log : file
        For standard error.
    environment : mapping of str to str, optional
        This process's own, if not given.

    Returns
    -------
    subprocess.Popen
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=dict(os.environ if environment is None else environment),
        start_new_session=True,  # Ctrl-C is for us: the driver sees its standard input end
    )
