"""Racks: which ranks stand together behind one uplink."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._native import check, ffi, lib
from .errors import UsageError
from .strategies import Auto, Rack

__all__ = ["Racks", "rack_numbers", "with_racks"]

#: A pattern or a file for the names of hosts, or the rack of each rank as a number or a name.
Racks = Any


def rack_numbers(racks: Racks, n: int, hosts: Sequence[str] | None = None) -> list[int]:
    """Return the rack of each rank as a number from 0 on.

    Parameters
    ----------
    racks : str or sequence
        A POSIX extended regular expression: the rack of a host is what its first parenthesis
        matches in the name, or the whole match if it has none. Or a file, if there is a "/" in it
        or a file of that name: lines with a host, or hosts such as ``node[0-15,20]``, and their
        rack. Or the rack of each rank, shape (n,), as numbers or names.
    n : int
        Ranks.
    hosts : sequence of str, optional
        The host of each; without them, `racks` cannot be a text.

    Returns
    -------
    list of int, length n

    Raises
    ------
    UsageError
        If a host has no rack, the pattern or the file is bad, or there are not `n` racks.
    """
    if isinstance(racks, (str, os.PathLike)):
        return _of_hosts(os.fspath(racks), n, hosts)
    try:
        array = np.asarray(racks if isinstance(racks, np.ndarray) else list(racks))
        numbers = np.unique(array, return_inverse=True)[1]
    except (TypeError, ValueError) as exc:
        raise UsageError(f"racks: no number or name for each rank ({exc})") from None
    if array.shape != (n,):
        raise UsageError(f"racks: {array.size} for {n} ranks, give one each")
    return [int(number) for number in numbers]


def with_racks(strategy: Any, racks: Racks, n: int, hosts: Sequence[str] | None = None) -> Any:
    """Return a strategy that knows the racks.

    Parameters
    ----------
    strategy : Strategy or Plan
        One that takes racks, if there are any: "auto", or "rack" without an argument.
    racks : str, sequence or None
        As of `rack_numbers`; None leaves the strategy as it is.
    n : int
        Ranks.
    hosts : sequence of str, optional
        The host of each.

    Returns
    -------
    Strategy

    Raises
    ------
    UsageError
        If the strategy takes no racks, or has them already, and as of `rack_numbers`.
    """
    if racks is None:
        return strategy
    if not isinstance(strategy, (Auto, Rack)):
        raise UsageError("racks: the strategies 'auto' and 'rack' take them, no other does")
    if strategy.groups is not None or strategy.spec not in ("auto", "rack"):
        raise UsageError(
            f"racks: strategy '{strategy.spec}' has groups of its own, leave one of them out"
        )
    numbers = rack_numbers(racks, n, hosts)
    if isinstance(strategy, Rack):
        return Rack(groups=numbers)
    return Auto(strategy.network, strategy.bytes, numbers, chunk_size=strategy.chunk_size)


def _of_hosts(spec: str, n: int, hosts: Sequence[str] | None) -> list[int]:
    if hosts is None:
        raise UsageError(
            f"racks {spec!r}: the names of hosts are known in Flux and in a lab only, give the rack"
            " of each rank"
        )
    if not spec or "\0" in spec:
        raise UsageError(f"racks {spec!r}: give a pattern for the names of hosts, or a file")
    names = [ffi.new("char []", os.fsencode(host)) for host in hosts]
    pointers = ffi.new("char *[]", names)
    groups = ffi.new("int32_t []", n)
    fault = ffi.new("struct fault *")
    check(lib.groups_find(os.fsencode(spec), pointers, n, groups, fault), fault)
    return list(ffi.unpack(groups, n))
