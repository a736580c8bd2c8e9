"""What moves the payloads of a calibration: processes of this machine or a lab, jobs of Flux."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from . import _broadcast
from ._between import between_processes
from ._calibrate_direct import COARSE, COSTS_MOST, MAX_RANKS, MIB
from ._transfer import Transfer

if TYPE_CHECKING:
    from ._records import Result
    from .lab import Lab
    from .plan import Plan

__all__ = ["Jobs", "Processes", "payload_folder"]

#: Random bytes that payloads repeat: nothing on their way looks for that.
BLOCK = MIB


class Processes:
    """Broadcasts between processes of this machine, each on a host if there is a lab.

    Parameters
    ----------
    folder : Path
        For the payload and the copies.
    lab : Lab, optional
        Whose hosts.
    """

    def __init__(self, folder: Path, lab: Lab | None = None) -> None:
        self.folder = folder
        self.places = None if lab is None else lab._places

    def __call__(
        self, plan: Plan, size: int, chunk_size: int = COARSE, security: str = "tls"
    ) -> Result:
        """Broadcast `size` bytes."""
        source = self.folder / "source"
        _write(source, size)
        try:
            return between_processes(
                source,
                self.folder / "copy-{rank}",
                plan,
                topology=None,
                ranks=None,
                members=None,
                chunk_size=chunk_size,
                transfer=Transfer(security),
                bandwidth=1.0,  # of no use here, and known so that it is not measured each time
                measure_clock=True,
                progress=None,
                places=self.places and self.places[: plan.size],
            )
        finally:
            for copy in self.folder.glob("copy-*"):
                copy.unlink()


class Jobs:
    """Broadcasts as jobs of Flux, to the folder that each job has on a node.

    Parameters
    ----------
    folder : Path
        For the payload, on the first node.
    handle : flux.Flux
        The instance.
    notify : callable
        Called with a line when a job has to wait for nodes.
    """

    def __init__(self, folder: Path, handle: Any, notify: Callable[[str], None]) -> None:
        self.folder, self.handle, self.notify = folder, handle, notify

    def __call__(
        self, plan: Plan, size: int, chunk_size: int = COARSE, security: str = "tls"
    ) -> Result:
        """Broadcast `size` bytes."""
        source = self.folder / "source"
        _write(source, size)
        return _broadcast.broadcast(
            source,
            "{{tmpdir}}/copy",
            plan,
            handle=self.handle,
            chunk_size=chunk_size,
            security=security,
            notify=self.notify,
        )


@contextmanager
def payload_folder() -> Iterator[Path]:
    """Give a folder for payloads and copies: in memory, where there is room, to measure no disk.

    Yields
    ------
    Path
    """
    shared = Path("/dev/shm")
    room = (MAX_RANKS + 1) * COSTS_MOST
    fits = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > room
    where = shared if fits else None
    with tempfile.TemporaryDirectory(prefix="flux-tree-calibrate-", dir=where) as folder:
        yield Path(folder)


def _write(path: Path, size: int) -> None:
    block = os.urandom(min(size, BLOCK))
    with path.open("wb") as f:
        for start in range(0, size, BLOCK):
            f.write(block[: size - start])
