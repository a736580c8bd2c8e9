"""The values of a design's keys: read from what a file has, or refused with the mend."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

from .. import strategies
from ..errors import FluxTreeError, UsageError
from ..strategies import Strategy
from ..topology import Topology
from ..units import parse_bytes, parse_idset, parse_rate, parse_seconds

__all__ = ["READERS", "check_strategy", "known"]

#: More ranks than this are no experiment on one machine.
MAX_NODES = 1024
MAX_ITERATIONS = 10_000


def known(key: str, values: Iterable[str], names: Iterable[str]) -> None:
    """Refuse values that are none of some names.

    Parameters
    ----------
    key : str
        Whose values they are.
    values, names : iterables of str

    Raises
    ------
    UsageError
        If one is not, with the nearest name.
    """
    names = list(names)
    for value in values:
        if value not in names:
            near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(names)}"
            raise UsageError(f"{key}: there is no '{value}', {hint}")


def check_strategy(spec: str, topology: Topology) -> None:
    """Refuse a strategy that there is not, or that has no plan over a topology.

    Parameters
    ----------
    spec : str
        Its name.
    topology : Topology
        The tree.

    Raises
    ------
    PlanError
    """
    try:
        strategy = strategies.get(spec)
        if is_builtin(strategy):  # another one plans where it runs, under its time limit
            strategies.plan(strategy, topology)
    except FluxTreeError as exc:
        raise type(exc)(f"strategies: {exc}") from None


def is_builtin(strategy: Any) -> bool:
    """Return whether a strategy is one of flux-tree's own.

    Parameters
    ----------
    strategy : Strategy or object
        From `flux_tree.strategies.get`.

    Returns
    -------
    bool
    """
    return (
        isinstance(strategy, Strategy)
        and type(strategy).__module__ == "flux_tree.strategies._builtin"
    )


def _list(key: str, value: Any) -> list[Any]:
    if value is None:
        raise UsageError(f"{key}: there is nothing behind it, give a list such as {_EXAMPLES[key]}")
    if isinstance(value, (str, int, float)):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{key}: not a list, write it as {_EXAMPLES[key]}")
    return list(value)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    found = []
    for item in _list(key, value):
        if not isinstance(item, str) or not item.strip() or not item.isprintable():
            raise UsageError(f"{key}: {item!r} is no name, write it as {_EXAMPLES[key]}")
        found.append(item.strip())
    return _once(key, found, empty=False)


def _nodes(key: str, value: Any) -> tuple[int, ...]:
    found: list[int] = []
    for item in _list(key, value):
        if isinstance(item, str):
            found += parse_idset(item, MAX_NODES + 1, key)
        else:
            found.append(_whole(key, item, 0, MAX_NODES))
    for nodes in found:
        if nodes < 2:
            raise UsageError(f"{key}: {nodes} has nobody to send to, give 2 or more")
    return _once(key, found, empty=False)


def _sizes(key: str, value: Any) -> tuple[int, ...]:
    found = [_size(key, item) for item in _list(key, value)]
    for size in found:
        if size < 1:
            raise UsageError(f"{key}: {size} is no payload, give 1 byte or more")
    return _once(key, found, empty=True)


def _ping_sizes(key: str, value: Any) -> tuple[int, ...]:
    found = [_size(key, item) for item in _list(key, value)]
    for size in found:
        if size >= 1 << 31:
            raise UsageError(f"{key}: {size}: flux ping takes less than 2GiB")
    return _once(key, found, empty=False)


def _size(key: str, item: Any) -> int:
    if isinstance(item, str):
        try:
            return parse_bytes(item)
        except UsageError as exc:
            raise UsageError(f"{key}: {exc}") from None
    return _whole(key, item, 0, (1 << 63) - 1)


def _whole(key: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{key}: {value!r} is no whole number of {least} to {most}")
    return value


def _iterations(key: str, value: Any) -> int:
    return _whole(key, value, 1, MAX_ITERATIONS)


def _seed(key: str, value: Any) -> int:
    return _whole(key, value, 0, (1 << 53) - 1)


def _number(parse: Callable[[str], float]) -> Callable[[str, Any], float]:
    """Return a reader of numbers above 0, with their units if they are text."""

    def read(key: str, value: Any) -> float:
        if isinstance(value, str):
            try:
                value = parse(value)
            except UsageError as exc:
                raise UsageError(f"{key}: {exc}") from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"{key}: {value!r} makes no sense, write it as {_EXAMPLES[key]}")
        if not 0 < value < math.inf:
            raise UsageError(f"{key}: {value} must be above 0, write it as {_EXAMPLES[key]}")
        return float(value)

    return read


def _workdir(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UsageError(f"{key}: {value!r} is no path, write it as {_EXAMPLES[key]}")
    return str(Path(value).expanduser().absolute())


def _once(key: str, values: list[Any], empty: bool) -> tuple[Any, ...]:
    if not values and not empty:
        raise UsageError(f"{key}: the list is empty, write it as {_EXAMPLES[key]}")
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{key}: {value} is there twice, take one out")
    return tuple(values)


_EXAMPLES = {
    "backends": "[flux-start]",
    "nodes": "[8, 16]",
    "topologies": "[kary:1, kary:2, binomial], or study",
    "strategies": "[all, leaves]",
    "transports": "[content, direct]",
    "sizes": "[1MiB, 8MiB]",
    "data": "[random, zeros]",
    "ping_sizes": "[0, 64KiB]",
    "rate": "100mbit",
    "cell_limit": "5m",
    "instance_limit": "2m",
    "workdir": "/scratch",
}

#: How the value of each key is read.
READERS: dict[str, Callable[[str, Any], Any]] = {
    "backends": _texts,
    "nodes": _nodes,
    "topologies": _texts,
    "strategies": _texts,
    "transports": _texts,
    "sizes": _sizes,
    "data": _texts,
    "ping_sizes": _ping_sizes,
    "iterations": _iterations,
    "seed": _seed,
    "rate": _number(parse_rate),
    "cell_limit": _number(parse_seconds),
    "instance_limit": _number(parse_seconds),
    "workdir": _workdir,
}
