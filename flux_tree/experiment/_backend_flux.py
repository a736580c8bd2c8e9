"""The backend "flux-start": real brokers on this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, ClassVar

from .._flux import outside_flux
from ..errors import UsageError
from ._backend_local import LocalBackend
from ._backends import driver_command, need_flux, start_driver

__all__ = ["FluxStartBackend"]

#: The path of a socket, WORKDIR/flux-tree-run-12345678/123/flux-123456/local-12, may have 107
#: characters.
MAX_WORKDIR = 56


class FluxStartBackend(LocalBackend):
    """Ranks are the brokers of ``flux start --test-size``, joined by the loopback interface."""

    name = "flux-start"
    summary = "real brokers on this machine, all on its loopback interface"
    transports: ClassVar[tuple[str, ...]] = ("content", "direct", "ping")

    def check(self) -> None:
        """Refuse to run where there is no Flux, or brokers cannot have their sockets."""
        need_flux(self.name)
        folder = self.design.workdir or tempfile.gettempdir()
        if len(os.fsencode(folder)) > MAX_WORKDIR:
            raise UsageError(
                f"workdir '{folder}': too long a name for the sockets of brokers in it, give one of"
                f" at most {MAX_WORKDIR} characters"
            )

    def start(
        self, nodes: int, topology: str, folder: Path, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start an instance with a driver as its initial program; see `Backend.start`."""
        command = [need_flux(self.name), "start", f"--test-size={nodes}", f"-Stbon.topo={topology}"]
        command += driver_command(place="flux", nodes=nodes, topology=topology)
        # the brokers keep their content store there
        environment = {**outside_flux(os.environ), "TMPDIR": str(folder)}
        return start_driver(command, log, environment)

    @classmethod
    def start_seconds(cls, nodes: int) -> float:
        """Return about how long it takes to start and to end an instance."""
        return 2.0 + 0.1 * nodes
