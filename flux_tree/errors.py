"""The exceptions of flux-tree: one small tree, each with an exit code for the command line."""

from __future__ import annotations

__all__ = [
    "BroadcastError",
    "Cancelled",
    "DestinationError",
    "FluxTreeError",
    "LabError",
    "PlanError",
    "SourceError",
    "TopologyError",
    "UsageError",
]


class FluxTreeError(Exception):
    """Base class of every error that flux-tree raises on purpose.

    Attributes
    ----------
    exit_code : int
        What a command that ends with this error exits with.
    rank : int or None
        The rank that the error is about, where it is about one.
    failures : dict of int to str
        Of a broadcast that failed, every rank that did, in order, and why.
    """

    exit_code = 1

    def __init__(
        self, message: str, rank: int | None = None, failures: dict[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.rank = rank
        self.failures = failures or {}


class UsageError(FluxTreeError):
    """A parameter or an option that makes no sense: a bad size, an unknown name."""

    exit_code = 2


class TopologyError(UsageError):
    """A topology that Flux would refuse, or parents that are not one tree."""


class PlanError(UsageError):
    """A strategy that does not exist, or a plan that would not deliver."""


class SourceError(FluxTreeError):
    """The source is missing, unreadable, of a kind that does not travel, or changed meanwhile."""

    exit_code = 3


class DestinationError(FluxTreeError):
    """The destination exists already, or cannot be written."""

    exit_code = 4


class BroadcastError(FluxTreeError):
    """The transfer itself failed: a rank died, a connection broke, data did not verify."""

    exit_code = 5


class LabError(FluxTreeError):
    """The laboratory cannot be made on this machine, or what runs in it cannot be started."""

    exit_code = 6


class Cancelled(FluxTreeError):
    """The broadcast was interrupted before its end."""

    exit_code = 130
