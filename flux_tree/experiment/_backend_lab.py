"""The backends "lab" and "lab-flux": hosts with NICs of their own on this machine."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from ..errors import UsageError
from ._backends import Backend, driver_command, need_flux, start_driver

if TYPE_CHECKING:
    from ..lab import Lab
    from .design import Design

__all__ = ["LabBackend", "LabFluxBackend"]


class LabBackend(Backend):
    """Ranks are hosts of a lab, with the embedded engine; no Flux is needed."""

    name = "lab"
    summary = "hosts with NICs of their own on this machine, without Flux (needs root)"
    transports: ClassVar[tuple[str, ...]] = ("direct",)

    def check(self) -> None:
        """Refuse to run where no lab can be made."""
        if os.geteuid() != 0:
            raise UsageError(
                f"backend '{self.name}': it makes network namespaces, which only root may:"
                " use sudo, or another backend"
            )
        if find_spec("pyroute2") is None:
            raise UsageError(
                f"backend '{self.name}': it needs pyroute2, which is not installed:"
                " pip install 'flux-tree[lab]'"
            )

    def start(
        self, nodes: int, topology: str, folder: Path, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a driver that makes a lab for itself; see `Backend.start`."""
        setup = {"place": "lab", "nodes": nodes, "topology": topology, "rate": self.design.rate}
        return start_driver(driver_command(**setup), log)

    @classmethod
    def line_seconds(cls, design: Design, nodes: int, load: float, size: int) -> float:
        """Return about how long the data of a cell is on its way through the NICs."""
        return max(load * size / (0.94 * design.rate), super().line_seconds(design, nodes, 1, size))

    @classmethod
    def start_seconds(cls, nodes: int) -> float:
        """Return about how long it takes to make a lab and to measure its goodput."""
        return 2.5 + 0.05 * nodes


class LabFluxBackend(LabBackend):
    """Ranks are brokers, each on a host of a lab."""

    name = "lab-flux"
    summary = "real brokers, one a host with a NIC of its own, on this machine (needs root)"
    transports: ClassVar[tuple[str, ...]] = ("content", "direct", "ping")

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self._labs: dict[int, Lab] = {}

    def check(self) -> None:
        """Refuse to run where there is no Flux, or no lab can be made."""
        need_flux(self.name)
        super().check()

    def start(self, nodes: int, topology: str, folder: Path, log: IO[bytes]) -> Any:
        """Start an instance with a driver as its initial program; see `Backend.start`."""
        from ..lab import Lab

        if nodes not in self._labs:
            self._labs[nodes] = Lab(nodes, self.design.rate)
        return self._labs[nodes].flux(
            driver_command(place="lab-flux", nodes=nodes, topology=topology),
            topo=topology,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )

    def goodput(self, nodes: int) -> float | None:
        """Return what one stream between two hosts moves, which the lab measures once."""
        return self._labs[nodes].goodput()

    def discard(self, nodes: int) -> None:
        """End a lab with all that is in it; the next driver gets another one."""
        lab = self._labs.pop(nodes, None)
        if lab is not None:
            lab.close()

    def close(self) -> None:
        """End all labs."""
        for nodes in list(self._labs):
            self.discard(nodes)

    @classmethod
    def start_seconds(cls, nodes: int) -> float:
        """Return about how long it takes to start and to end an instance."""
        return 3.0 + 0.15 * nodes
