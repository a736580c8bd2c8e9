"""A laboratory: many hosts on one machine, with a network that is slow enough to decide.

>>> from flux_tree.lab import Lab
>>> with Lab(hosts=32, rate=12.5e6) as lab:
...     result = lab.broadcast("model", "/tmp/copy-{rank}", "two-tree")
...     instance = lab.flux(["flux", "run", "-N32", "hostname"], topo="kary:2")
...     instance.wait()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._folder import clean

if TYPE_CHECKING:
    from ._lab import Lab

__all__ = ["Lab", "clean"]


def __getattr__(name: str) -> Any:
    if name != "Lab":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # when it is used: the process that runs an instance of Flux has no need of numpy
    from ._lab import Lab

    return Lab
