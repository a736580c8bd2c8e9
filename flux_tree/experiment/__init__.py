"""Experiments: a design that people read and change, run cell by cell, and analysed.

>>> from flux_tree.experiment import Design, run
>>> design = Design(["flux-start"], [8], "study", sizes=["8MiB"], transports=["content", "direct"])
>>> print(run(design, "results"))

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis import analyze
    from .design import Design
    from .runner import Progress, Summary, run

__all__ = ["Design", "Progress", "Summary", "analyze", "run"]

_WHERE = {
    "Design": "design",
    "Progress": "runner",
    "Summary": "runner",
    "analyze": "analysis",
    "run": "runner",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
