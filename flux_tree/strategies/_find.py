"""Finding strategies by name: the built-in ones, installed ones, and those in a user's file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PlanError
from ..plan import Plan
from ..topology import Topology
from ._auto import Auto
from ._base import Ranks, rank_count
from ._builtin import BUILTIN

__all__ = ["GROUP", "Description", "describe", "get", "names", "plan"]

#: The entry-point group in which installed packages offer strategies.
GROUP = "flux_tree.strategies"

BY_NAME: dict[str, Any] = {**{cls.name: cls for cls in BUILTIN}, Auto.name: Auto}


class Description(NamedTuple):
    """One row of a table of strategies.

    Attributes
    ----------
    name, usage, stripes, depth, load, when : str
        As the attributes of `Strategy`.
    origin : str
        ``built-in``, or ``module:Class`` of an installed one.
    """

    name: str
    usage: str
    stripes: str
    depth: str
    load: str
    when: str
    origin: str


def names() -> list[str]:
    """Return the names of all strategies: the built-in ones, then installed ones by name.

    Returns
    -------
    list of str
    """
    return [*BY_NAME, *_installed()]


def describe() -> list[Description]:
    """Return a row for each strategy, in the order of `names`.

    Returns
    -------
    list of Description
        An installed strategy that cannot be loaded says so in ``when``.
    """
    rows = [_row(name, cls, "built-in") for name, cls in BY_NAME.items()]
    for name, entry in _installed().items():
        try:
            rows.append(_row(name, _load(entry), entry.value))
        except PlanError as exc:
            rows.append(Description(name, name, "", "", "", str(exc), entry.value))
    return rows


def get(spec: str) -> Any:
    """Return a strategy by its name.

    Parameters
    ----------
    spec : str
        ``NAME`` or ``NAME:ARGUMENT`` of a built-in or an installed strategy, or a class of one's
        own as ``module:Class`` or ``path/to/file.py:Class``, with ``:ARGUMENT`` if it takes one.

    Returns
    -------
    Strategy
        Or any object that has ``plan(topology, members=None)``.

    Raises
    ------
    PlanError
        If there is none of that name, with the nearest one, or it does not load, or does not take
        the argument.
    """
    head, colon, rest = spec.partition(":")
    argument = rest if colon else None
    if head in BY_NAME:
        return BY_NAME[head](argument)
    installed = _installed()
    if head in installed:
        return _make(spec, _load(installed[head]), argument)
    name, colon, rest = rest.partition(":")
    if head and name.isidentifier():
        module = _module(spec, head)
        if not hasattr(module, name):
            raise PlanError(f"strategy '{spec}': '{head}' has no class '{name}'")
        return _make(spec, getattr(module, name), rest if colon else None)
    raise PlanError(f"strategy '{spec}': there is no '{head}'{_hint(head)}")


def plan(strategy: str | Plan | Any, topology: Topology | int, members: Ranks = None) -> Plan:
    """Return the plan of a strategy, checked to be one for that topology and those members.

    Parameters
    ----------
    strategy : str, Strategy or Plan
        A name for `get`, an object with a ``plan`` method, or a plan that is there already.
    topology : Topology or int
        The tree that Flux built, or only the number of ranks.
    members : None, array_like of bool of shape (n,), or iterable of int, optional
        The ranks that want the data; all of them if None. Not used for a plan that is there.

    Returns
    -------
    Plan

    Raises
    ------
    PlanError
        If there is no such strategy or plan, or the result is not a plan over as many ranks.
    """
    size = rank_count(topology)
    if isinstance(strategy, str):
        strategy = get(strategy)
    result = strategy if isinstance(strategy, Plan) else strategy.plan(topology, members)
    name = getattr(strategy, "spec", None) or type(strategy).__name__
    if not isinstance(result, Plan):
        raise PlanError(
            f"strategy '{name}': its plan method returned {type(result).__name__}, return a Plan"
        )
    if result.size != size:
        raise PlanError(f"strategy '{name}': its plan is over {result.size} ranks, not {size}")
    return result


def _installed() -> dict[str, Any]:
    """Return the entry points of other packages by name; built-in names cannot be taken."""
    entries: Any = metadata.entry_points()
    found = entries.select(group=GROUP) if hasattr(entries, "select") else entries.get(GROUP, ())
    return {e.name: e for e in sorted(found, key=lambda e: e.name) if e.name not in BY_NAME}


def _load(entry: Any) -> Any:
    try:
        return entry.load()
    except Exception as exc:  # whatever a foreign module raises
        raise PlanError(
            f"strategy '{entry.name}': '{entry.value}' does not load ({_short(exc)})"
        ) from exc


def _make(spec: str, cls: Any, argument: str | None) -> Any:
    if not callable(cls) or not hasattr(cls, "plan"):
        raise PlanError(f"strategy '{spec}': no class with a method plan(topology, members=None)")
    try:
        return cls() if argument is None else cls(argument)
    except PlanError:
        raise
    except Exception as exc:  # whatever a foreign class raises
        given = "without an argument" if argument is None else f"with '{argument}'"
        raise PlanError(
            f"strategy '{spec}': {cls.__name__} cannot be made {given} ({_short(exc)})"
        ) from exc


def _module(spec: str, head: str) -> Any:
    path = Path(head)
    try:
        if path.suffix == ".py":
            return _module_of_file(path)
        return importlib.import_module(head)
    except FileNotFoundError:
        raise PlanError(f"strategy '{spec}': there is no file '{head}'") from None
    except ModuleNotFoundError as exc:
        if exc.name is not None and (head == exc.name or head.startswith(f"{exc.name}.")):
            raise PlanError(
                f"strategy '{spec}': there is no strategy or module '{head}'{_hint(head)}"
            ) from None
        raise PlanError(f"strategy '{spec}': '{head}' does not load ({_short(exc)})") from exc
    except Exception as exc:  # whatever a foreign module raises
        raise PlanError(f"strategy '{spec}': '{head}' does not load ({_short(exc)})") from exc


def _module_of_file(path: Path) -> Any:
    path = path.expanduser().resolve()
    # not its bare name, which might hide an installed module
    name = f"flux_tree_user_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _row(name: str, cls: Any, origin: str) -> Description:
    first_line = (getattr(cls, "__doc__", None) or "").strip().partition("\n")[0]
    return Description(
        name,
        getattr(cls, "usage", "") or name,
        getattr(cls, "stripes", ""),
        getattr(cls, "depth", ""),
        getattr(cls, "load", ""),
        getattr(cls, "when", "") or first_line,
        origin,
    )


def _hint(name: str) -> str:
    known = names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean '{near[0]}'?" if near else f", use one of: {', '.join(known)}"


def _short(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".partition("\n")[0]
