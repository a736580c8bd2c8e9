"""How data is to move, whatever moves it: the parameters that all engines share, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError

if TYPE_CHECKING:
    from ._payload import Payload
    from .plan import Plan

__all__ = ["Transfer", "check_bandwidth"]

SECURITY = ("tls", "none")
ON_FAILURE = ("abort", "continue")
SWITCHES = ("overwrite", "resume", "fsync")


@dataclass(frozen=True)
class Transfer:
    """How data is to move.

    Attributes
    ----------
    security, overwrite, timeout, workers, on_failure, min_ranks, resume, fsync, digest
        As of `flux_tree.broadcast`.

    Raises
    ------
    UsageError
        If a parameter makes no sense, whatever the plan and the payload are.
    """

    security: str = "tls"
    overwrite: bool = False
    timeout: float = 60.0
    workers: int | None = None
    on_failure: str = "abort"
    min_ranks: int | None = None
    resume: bool = False
    fsync: bool = False
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.security not in SECURITY:
            raise UsageError(f"security {self.security!r}: must be one of {', '.join(SECURITY)}")
        if not isinstance(self.timeout, Real) or not self.timeout > 0:
            raise UsageError(f"timeout {self.timeout!r}: must be above 0 seconds")
        for name in SWITCHES:
            if getattr(self, name) not in (False, True):
                raise UsageError(f"{name} {getattr(self, name)!r}: must be True or False")
        if self.workers is not None and not _is_count(self.workers):
            raise UsageError(f"workers {self.workers!r}: must be a whole number of at least 1")
        if self.on_failure not in ON_FAILURE:
            raise UsageError(
                f"on_failure {self.on_failure!r}: must be one of {', '.join(ON_FAILURE)}"
            )
        if self.min_ranks is not None and not _is_count(self.min_ranks):
            raise UsageError(f"min_ranks {self.min_ranks!r}: must be a whole number of at least 1")
        if self.min_ranks is not None and self.on_failure == "abort":
            raise UsageError(
                f"min_ranks {self.min_ranks}: only with on_failure continue, otherwise all"
                " ranks get the data or none does"
            )
        if self.digest is not None and not (
            isinstance(self.digest, str) and re.fullmatch("sha256:[0-9a-fA-F]{64}", self.digest)
        ):
            raise UsageError(
                f"digest {self.digest!r}: give sha256: and 64 hexadecimal digits, as sha256sum"
                " prints them"
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Transfer:
        """Return those of some options that are about this.

        Parameters
        ----------
        options : mapping
            By name; others are left.
        """
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in options.items() if name in names})

    @property
    def sha256(self) -> bytes | None:
        """The 32 bytes of `digest`."""
        return None if self.digest is None else bytes.fromhex(self.digest.partition(":")[2])

    def options(self) -> dict[str, Any]:
        """Return the parameters as the shell plugin takes them, in types that JSON has.

        Returns
        -------
        dict
            By the names of ``-o tree-bcast``; those that were not given are left out.
        """
        options = {
            "security": self.security,
            "overwrite": bool(self.overwrite),
            "timeout": float(self.timeout),
            "workers": self.workers and int(self.workers),
            "on-failure": None if self.on_failure == ON_FAILURE[0] else self.on_failure,
            "min-ranks": self.min_ranks and int(self.min_ranks),
            "resume": bool(self.resume) or None,
            "fsync": bool(self.fsync) or None,
            "digest": self.digest,
        }
        return {name: value for name, value in options.items() if value is not None}

    def check_pulled(self, reference: str) -> None:
        """Refuse what does not go with a source in a registry.

        Parameters
        ----------
        reference : str
            What is pulled.

        Raises
        ------
        UsageError
            If there is `resume` or a `digest`.
        """
        if self.resume:
            raise UsageError(
                f"resume: {reference} is pulled from a registry, and always comes anew: leave it"
                " out"
            )
        if self.digest is not None:
            raise UsageError(
                f"digest: {reference} is pulled from a registry: name it by its own digest"
                " instead, as in oci://HOST/NAME@sha256:HEX"
            )

    def check(self, plan: Plan, payload: Payload) -> None:
        """Refuse what does not go with a plan or a payload.

        Parameters
        ----------
        plan : Plan
            What moves where.
        payload : Payload
            What is broadcast.

        Raises
        ------
        UsageError
            If `min_ranks` is more ranks than keep the data, or there is a digest of what is not
            one file.
        """
        keep = int(plan.deliver.sum())
        if self.min_ranks is not None and self.min_ranks > keep:
            raise UsageError(
                f"min_ranks {self.min_ranks}: only {keep} rank{'' if keep == 1 else 's'}"
                f" keep{'s' if keep == 1 else ''} the data, give {keep} or less"
            )
        if self.digest is not None and (payload.files, payload.entries) != (1, 1):
            raise UsageError(
                f"digest: {payload.source} is no single file, which alone can have one: leave it"
                " out"
            )


def check_bandwidth(bandwidth: float | None) -> None:
    """Refuse a bandwidth that there is not.

    Parameters
    ----------
    bandwidth : float or None
        Bytes per second.

    Raises
    ------
    UsageError
        If it is not above 0.
    """
    if bandwidth is not None and not bandwidth > 0:
        raise UsageError(f"bandwidth {bandwidth!r}: must be above 0 bytes per second")


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer)) and bool(value >= 1 and value % 1 == 0)
