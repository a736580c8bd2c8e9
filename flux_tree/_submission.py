"""What a job's submission needs of Python: a user's own strategy as a plan, the option checked.

``python -m flux_tree._submission`` reads ``{"option": {...}, "nodes": N or null, "overlay": answer
of the RPC overlay.topology or null}`` as JSON and writes the option as it goes into the jobspec.
The CLI plugin runs it, as Flux's own interpreter need not have what flux_tree imports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from .errors import PlanError, UsageError
from .plan import Plan
from .strategies import Auto, Builtin, get, member_flags
from .strategies import plan as make_plan
from .topology import Topology
from .units import parse_idset

__all__ = ["check_option", "complete_option"]


def complete_option(option: Mapping[str, Any], nodes: int | None, overlay: Any) -> dict[str, Any]:
    """Return an option ``tree-bcast`` as the shell plugin takes it.

    Parameters
    ----------
    option : mapping
        The keys of the shell option, as they were given.
    nodes : int or None
        How many nodes the job asks for; None if it leaves that open.
    overlay : mapping or None
        The answer of the RPC ``overlay.topology``, if the job takes all nodes of the instance.

    Returns
    -------
    dict
        With ``plan`` instead of a strategy that is not built in.

    Raises
    ------
    PlanError, UsageError
        If there is no such strategy, it has no plan for this job, or a key or a value is bad.
    """
    result = dict(option)
    spec = result.get("strategy")
    if isinstance(spec, str) and "plan" not in result:
        strategy = get(spec)
        if not isinstance(strategy, (Auto, Builtin)):
            members = result.pop("members", "all")
            del result["strategy"]
            result["plan"] = _own_plan(spec, strategy, nodes, overlay, members).to_dict()
    check_option(result)
    return result


def check_option(option: Mapping[str, Any]) -> None:
    """Refuse an option that the shell plugin would refuse.

    Parameters
    ----------
    option : mapping
        The keys of the shell option. Nothing is checked where the plugin was not built.

    Raises
    ------
    UsageError
        It names the key and the mend.
    """
    from ._native import check

    try:
        from flux_tree._plugin import ffi, lib
    except ImportError:
        return
    fault = ffi.new("struct fault *")
    check(lib.options_check(json.dumps(option).encode(), fault), fault)


def _own_plan(spec: str, strategy: Any, nodes: int | None, overlay: Any, members: Any) -> Plan:
    if nodes is None:
        raise PlanError(
            f"strategy '{spec}': its plan is made at submission, so give the number of nodes: -N"
        )
    if members in ("leaves", "middle-leaves"):
        raise UsageError(
            f"members={members}: goes with built-in strategies, give ranks as in members=0-3,5"
        )
    ranks = None if members == "all" else parse_idset(str(members), nodes, "members")
    topology = nodes if overlay is None else Topology.from_overlay(overlay)
    try:
        return make_plan(strategy, topology, member_flags(ranks, nodes))
    except AttributeError as exc:
        if overlay is not None or "'int' object" not in str(exc):
            raise
        raise PlanError(
            f"strategy '{spec}': it follows the topology, which is known at submission only for"
            " a job on all nodes of the instance"
        ) from exc


def _main() -> int:
    from .cli import _fail

    try:
        request = json.load(sys.stdin)
        json.dump(complete_option(**request), sys.stdout)
        return 0
    except Exception as exc:
        return _fail(exc)


if __name__ == "__main__":
    sys.exit(_main())
