"""The backend "local": the embedded engine between processes of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO, ClassVar

from ._backends import Backend, driver_command, start_driver

__all__ = ["LocalBackend"]


class LocalBackend(Backend):
    """Ranks are processes of this machine, joined by the loopback interface; no Flux is needed."""

    name = "local"
    summary = "processes of this machine, without Flux"
    transports: ClassVar[tuple[str, ...]] = ("direct",)

    _goodput: float | None = None

    def start(
        self, nodes: int, topology: str, folder: Path, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a driver; see `Backend.start`."""
        return start_driver(driver_command(place="local", nodes=nodes, topology=topology), log)

    def goodput(self, nodes: int) -> float | None:
        """Return what one stream through the loopback interface moves."""
        from .._local import loopback_bandwidth

        if self._goodput is None:
            self._goodput = loopback_bandwidth()
        return self._goodput

    @classmethod
    def start_seconds(cls, nodes: int) -> float:
        """Return about how long it takes to start and to end a driver."""
        return 0.5
