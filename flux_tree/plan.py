"""Plans: who sends what to whom, as some trees over the same ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import check, ffi, int32_array, lib, pointer
from .errors import PlanError

__all__ = ["ABSENT", "MAX_STRIPES", "ROOT", "Plan"]

#: The parent of rank 0 in every tree.
ROOT: int = lib.TREE_ROOT
#: The parent, in every tree, of a rank that takes no part.
ABSENT: int = lib.TREE_ABSENT
#: The most trees that a plan can have.
MAX_STRIPES: int = lib.PLAN_MAX_STRIPES

KEYS = {"strategy", "parents", "deliver", "phase"}


class Plan:
    """What moves where: S trees over the ranks 0..n-1, all under rank 0.

    Chunk c of the data travels down tree ``c % S``, so that each tree carries one stripe of it.

    Parameters
    ----------
    parents : array_like of int, shape (S, n) or (n,)
        The parent of each rank in each tree; -1 for rank 0, -2 (`ABSENT`) in every tree for a rank
        that takes no part. One dimension is one tree.
    deliver : array_like of bool, shape (n,), optional
        Who keeps the data; who takes part without keeping it is a relay. All that take part, if
        not given.
    phase : array_like of int, shape (n,), optional
        A rank starts only when every rank of all earlier phases is complete. All 0 if not given.
    strategy : str, default "custom"
        Name of what laid the plan out.

    Attributes
    ----------
    parents : ndarray of int32, shape (S, n)
        Read-only.
    deliver : ndarray of bool, shape (n,)
        Read-only.
    phase : ndarray of int32, shape (n,)
        Read-only.
    strategy : str
        The name.
    depths : ndarray of int32, shape (S, n)
        Hops from rank 0 in each tree; -1 for a rank that takes no part.

    Raises
    ------
    PlanError
        If the plan would not deliver: a cycle, a rank that is cut off, a parent that is absent, out
        of range or of a later phase, a second root, no tree or more than 64. It names the rank.
    """

    def __init__(
        self, parents: Any, deliver: Any = None, phase: Any = None, strategy: str = "custom"
    ) -> None:
        self.strategy = strategy
        self.parents = int32_array(parents, "plan: parents", PlanError)
        if self.parents.ndim == 1:
            self.parents = self.parents[np.newaxis]
        if self.parents.ndim != 2:
            raise PlanError(
                f"plan: parents have {self.parents.ndim} dimensions, give trees by ranks"
            )
        n = self.size
        if deliver is None:
            self.deliver = np.array((self.parents != ABSENT).all(axis=0))
        else:
            self.deliver = _flags(deliver)
        self.deliver.flags.writeable = False
        if phase is None:
            phase = np.zeros(n, np.int32)
        self.phase = int32_array(phase, "plan: phase", PlanError)
        for name, array in (("deliver", self.deliver), ("phase", self.phase)):
            if array.shape != (n,):
                raise PlanError(
                    f"plan: {name} has shape {array.shape}, give one for each of {n} ranks"
                )
        self.depths = np.empty(self.parents.shape, np.int32)
        fault = ffi.new("struct fault *")
        with_pointers = self._native()
        check(
            lib.plan_depths(with_pointers, pointer("int32_t *", self.depths), fault),
            fault,
            PlanError,
        )
        self.depths.flags.writeable = False

    # ---- what a plan tells

    @property
    def stripes(self) -> int:
        """S, the number of trees."""
        return self.parents.shape[0]

    @property
    def size(self) -> int:
        """n, the number of ranks, those that take no part included."""
        return self.parents.shape[1]

    @cached_property
    def depth(self) -> int:
        """The most hops from rank 0 to any rank, over all trees."""
        return int(self.depths.max())

    @cached_property
    def load(self) -> NDArray[np.float64]:
        """How often each rank sends the whole data: children over all trees / S; shape (n,)."""
        children = np.empty(self.size, np.int32)
        lib.plan_children(self._native(), pointer("int32_t *", children))
        load = children / self.stripes
        load.flags.writeable = False
        return load

    @cached_property
    def max_load(self) -> float:
        """The load of the rank that sends most: what decides how long much data takes."""
        return float(self.load.max())

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Who takes part, relays included; shape (n,)."""
        return self.parents[0] != ABSENT

    def cost(self, bytes: float, bandwidth: float, latency: float, chunk: float) -> float:
        """Return how long the plan should take at least, by the first model of all plans.

        ``max_load * bytes / bandwidth + depth * (latency + chunk / bandwidth)``: the busiest rank
        must push its share through its NIC, and the first chunk must go down the deepest tree.

        Parameters
        ----------
        bytes : float
            Size of the data, in bytes.
        bandwidth : float
            What the NIC of one rank carries in one direction, in bytes per second.
        latency : float
            From one rank to the next, in seconds.
        chunk : float
            The unit of transfer, in bytes.

        Returns
        -------
        float
            Seconds.

        Raises
        ------
        PlanError
            If the bandwidth is not above 0, or another parameter is below 0.
        """
        if not bandwidth > 0 or not min(bytes, latency, chunk) >= 0:
            raise PlanError(
                f"cost: bytes {bytes}, bandwidth {bandwidth}, latency {latency}, chunk {chunk}:"
                " give a bandwidth above 0 and nothing below 0"
            )
        hop = latency + min(chunk, bytes) / bandwidth
        return float(self.max_load * bytes / bandwidth + self.depth * hop)

    @property
    def summary(self) -> str:
        """The plan in one line."""
        relays = int(np.count_nonzero(self.present & ~self.deliver))
        phases = len(np.unique(self.phase[self.present]))
        return (
            f"{self.strategy}: {self.size} rank{_s(self.size)},"
            f" {self.stripes} tree{_s(self.stripes)}, depth {self.depth},"
            f" max load {self.max_load:.4g}, {int(np.count_nonzero(self.deliver))} keep the data"
            + (f", {relays} relay{_s(relays)}" if relays else "")
            + (f", {phases} phases" if phases > 1 else "")
        )

    @property
    def audience(self) -> str:
        """Who keeps the data, and through whom it comes, as "4 ranks through 2 relays"."""
        keep = int(np.count_nonzero(self.deliver))
        relays = int(np.count_nonzero((self.present & ~self.deliver)[1:]))
        text = f"{keep} rank{_s(keep)}"
        return text + (f" through {relays} relay{_s(relays)}" if relays else "")

    # ---- as JSON

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, such as a jobspec can carry.

        Returns
        -------
        dict
            ``strategy``, ``parents`` (list of lists), ``deliver`` (list of bool) and, only if a
            rank is of another phase than 0, ``phase`` (list).
        """
        data: dict[str, Any] = {
            "strategy": self.strategy,
            "parents": self.parents.tolist(),
            "deliver": self.deliver.tolist(),
        }
        if self.phase.any():
            data["phase"] = self.phase.tolist()
        return data

    def to_json(self) -> str:
        """Return `to_dict` as JSON in one line.

        Returns
        -------
        str
        """
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, data: str | Mapping[str, Any]) -> Plan:
        """Return the plan that `to_json` or `to_dict` returned.

        Parameters
        ----------
        data : str or mapping
            The JSON, or what is in it.

        Returns
        -------
        Plan

        Raises
        ------
        PlanError
            If it is not a plan, or a plan that would not deliver.
        """
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except (ValueError, RecursionError) as exc:
                raise PlanError(f"plan: not readable as JSON ({exc})") from None
        if not isinstance(data, Mapping):
            raise PlanError('plan: not an object, give {"strategy", "parents", "deliver"}')
        for key in data:
            if key not in KEYS:
                raise PlanError(f"plan: unknown key '{key}', use {', '.join(sorted(KEYS))}")
        for key in ("parents", "deliver"):
            if key not in data:
                raise PlanError(f"plan: '{key}' is missing")
        strategy = data.get("strategy", "custom")
        if not isinstance(strategy, str):
            raise PlanError(f"plan: 'strategy' is {strategy!r}, give a name")
        return cls(data["parents"], data["deliver"], data.get("phase"), strategy)

    # ---- the rest

    def _native(self) -> Any:
        plan = ffi.new("struct plan *")
        plan.n = self.size
        plan.stripes = self.stripes
        plan.parents = pointer("int32_t *", self.parents)
        plan.phase = pointer("int32_t *", self.phase)
        plan.deliver = pointer("uint8_t *", self.deliver)
        return plan

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return (
            self.strategy == other.strategy
            and np.array_equal(self.parents, other.parents)
            and np.array_equal(self.deliver, other.deliver)
            and np.array_equal(self.phase, other.phase)
        )

    def __hash__(self) -> int:
        return hash((self.strategy, self.parents.tobytes(), self.deliver.tobytes()))

    def __repr__(self) -> str:
        return f"<Plan {self.summary}>"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _flags(values: Any) -> NDArray[np.bool_]:
    try:
        array = np.asarray(values)
        numbers = array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()
    except (TypeError, ValueError) as exc:
        raise PlanError(f"plan: deliver is not an array of booleans ({exc})") from None
    if not numbers and array.dtype.kind != "b":
        raise PlanError("plan: deliver is not an array of booleans, give one for each rank")
    return np.array(array, dtype=np.bool_, order="C")
