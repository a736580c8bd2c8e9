"""Topologies: the trees that Flux builds over its ranks, exactly."""

from __future__ import annotations

import difflib
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from ._native import check, ffi, int32_array, lib, pointer
from .errors import TopologyError, UsageError

__all__ = ["Labels", "Topology"]

#: What stands for each rank in a drawing: one text per rank, or a function of the rank.
Labels = Union[Sequence[str], Callable[[int], str], None]

# More than anybody reads or a terminal shows: a chain of n ranks takes 3/2 n^2 characters.
MAX_TEXT = 100_000_000

# `flux overlay status`: three columns per level, then "RANK HOST: STATUS". A rank that the user
# asked to highlight is in <<...>>, or in escape sequences, which are taken out before.
STATUS_LINE = re.compile(r"(?P<bars>(?:│  |   )*)(?P<branch>[├└]─ )?(?:<<)?(?P<rank>\d+) .*: ?.*")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


_SCHEMES = ("kary", "binomial", "mincrit", "custom")


class Topology:
    """One rooted tree over the ranks 0..size-1, with rank 0 as the root.

    Parameters
    ----------
    parents : array_like of int, shape (size,)
        The parent of each rank; -1 for rank 0.
    spec : str, default "custom"
        What the topology is called, as in ``tbon.topo``. Only a name: the parents count.

    Attributes
    ----------
    parents : ndarray of int32, shape (size,)
        Read-only.
    spec : str
        The name that was given.
    depth : ndarray of int32, shape (size,)
        How many hops each rank is from rank 0.

    Raises
    ------
    TopologyError
        If the parents are not one tree under rank 0; it names the rank.
    """

    def __init__(self, parents: Any, spec: str = "custom") -> None:
        self.parents = int32_array(parents, "topology", TopologyError)
        if self.parents.ndim != 1:
            raise TopologyError(
                f"topology: the parents have {self.parents.ndim} dimensions, give one per rank"
            )
        self.spec = spec
        depth = np.empty(len(self.parents), np.int32)
        fault = ffi.new("struct fault *")
        rc = lib.tree_check(
            pointer("int32_t *", self.parents),
            len(self.parents),
            pointer("int32_t *", depth),
            fault,
        )
        check(rc, fault, TopologyError)
        self.depth = _frozen(depth)

    # ---- where topologies come from

    @classmethod
    def from_spec(cls, spec: str, size: int, parents: Any = None) -> Topology:
        """Return what Flux builds over `size` ranks for ``tbon.topo=SPEC``.

        Parameters
        ----------
        spec : str
            ``kary:K``, ``binomial``, ``mincrit``, ``mincrit:K`` or ``custom``. As in Flux, K is
            read as an unsigned number in decimal, and 0 and ``-1`` give a flat tree.
        size : int
            Number of ranks, 1 or more.
        parents : array_like of int, shape (size,), optional
            Only for ``custom``, where Flux takes the parents from its bootstrap configuration;
            without them it is flat, as it is in Flux.

        Returns
        -------
        Topology

        Raises
        ------
        TopologyError
            If Flux refuses the spec, or the parents do not fit.
        """
        size = _size(size)
        if parents is not None:
            if spec.partition(":")[0] != "custom":
                raise TopologyError(
                    f"topology '{spec}': it has its own parents, give parents to 'custom' only"
                )
            topology = cls(parents, spec)
            if topology.size != size:
                raise TopologyError(
                    f"topology '{spec}': {topology.size} parents for {size} ranks, give one each"
                )
            return topology
        if "\0" in spec:
            raise TopologyError(f"topology {spec!r}: it has a null character, take it out")
        result = np.empty(max(size, 1), np.int32)
        fault = ffi.new("struct fault *")
        rc = lib.tree_spec(spec.encode(), size, pointer("int32_t *", result), fault)
        try:
            check(rc, fault, TopologyError)
        except TopologyError as exc:
            raise TopologyError(f"{exc}{_nearest(spec)}", exc.rank) from None
        return cls(result, spec)

    @classmethod
    def from_parents(cls, parents: Any, spec: str = "custom") -> Topology:
        """Return the topology with these parents; the same as ``Topology(parents, spec)``.

        Parameters
        ----------
        parents : array_like of int, shape (size,)
            The parent of each rank; -1 for rank 0.
        spec : str, default "custom"
            What the topology is called.

        Returns
        -------
        Topology

        Raises
        ------
        TopologyError
            If the parents are not one tree under rank 0.
        """
        return cls(parents, spec)

    @classmethod
    def from_overlay(cls, tree: Mapping[str, Any] | str, spec: str = "custom") -> Topology:
        """Return the topology that a running Flux instance reports.

        Parameters
        ----------
        tree : mapping or str
            The answer of ``flux.Flux().rpc("overlay.topology", {"rank": 0}).get()``, or its JSON:
            ``{"rank", "size", "children": [...]}``, with the same for each child.
        spec : str, default "custom"
            What the topology is called.

        Returns
        -------
        Topology

        Raises
        ------
        TopologyError
            If it is not such an answer, or not that of rank 0.
        """
        if isinstance(tree, str):
            try:
                tree = json.loads(tree)
            except (ValueError, RecursionError) as exc:
                raise TopologyError(
                    f"overlay topology: not readable as JSON ({exc}), pass the parents instead"
                ) from None
        pairs: list[tuple[int, int]] = []
        todo: list[tuple[Any, int]] = [(tree, -1)]
        while todo:
            node, parent = todo.pop()
            try:
                rank, children = operator.index(node["rank"]), list(node["children"])
            except (KeyError, TypeError):
                raise TopologyError(
                    'overlay topology: each node needs "rank" and "children",'
                    ' pass what the RPC "overlay.topology" returned'
                ) from None
            pairs.append((rank, parent))
            todo.extend((child, rank) for child in children)
        topology = cls(_parents(pairs, "overlay topology"), spec)
        if isinstance(tree, Mapping) and tree.get("size", topology.size) != topology.size:
            raise TopologyError(
                f"overlay topology: it says size {tree['size']} but has {topology.size} ranks"
            )
        return topology

    @classmethod
    def from_instance(cls, handle: Any = None) -> Topology:
        """Return the tree of a running Flux instance, over its broker ranks.

        Parameters
        ----------
        handle : flux.Flux, optional
            The instance; the one around, if not given.

        Returns
        -------
        Topology
            Its ``spec`` is the instance's ``tbon.topo``.

        Raises
        ------
        UsageError
            If Flux's Python bindings are not there, or no instance can be reached, or it does not
            answer.
        """
        from ._flux import connect

        handle = connect(handle)
        try:
            tree = handle.rpc("overlay.topology", {"rank": 0}).get()
            spec = handle.attr_get("tbon.topo")
        except OSError as exc:
            raise UsageError(
                f"the topology of the instance cannot be had ({exc.strerror or exc})"
            ) from None
        return cls.from_overlay(tree, spec)

    @classmethod
    def from_status(cls, text: str, spec: str = "custom") -> Topology:
        """Return the topology that ``flux overlay status`` drew.

        Parameters
        ----------
        text : str
            What the command printed, with or without ``-v``, ``-vv``, ``--color`` and
            ``--highlight``. What leaves out ranks or lines (``--rank``, ``--down``, ``--summary``,
            ``--no-ghost`` with brokers lost, ``--no-pretty``) does not tell the whole tree.
        spec : str, default "custom"
            What the topology is called.

        Returns
        -------
        Topology

        Raises
        ------
        TopologyError
            If a line does not belong, or a rank or the tree is missing.
        """
        pairs: list[tuple[int, int]] = []
        path: list[int] = []
        for number, line in enumerate(ESCAPE.sub("", text).splitlines(), 1):
            if not line.strip():
                continue
            match = STATUS_LINE.fullmatch(line)
            if match is None:
                raise TopologyError(
                    f"overlay status, line {number}: '{line[:60]}' is not a rank and its status,"
                    " pass what 'flux overlay status' printed and nothing else"
                )
            level = len(match["bars"]) // 3 + (match["branch"] is not None)
            if level > len(path) or (level == 0 and path):
                raise TopologyError(
                    f"overlay status, line {number}: rank {match['rank']} hangs under no other,"
                    " pass the whole output, made without --no-pretty"
                )
            del path[level:]
            pairs.append((int(match["rank"]), path[-1] if path else -1))
            path.append(pairs[-1][0])
        if not pairs:
            raise TopologyError("overlay status: no rank in it, pass what the command printed")
        return cls(_parents(pairs, "overlay status"), spec)

    # ---- what a topology tells

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.parents)

    @cached_property
    def max_depth(self) -> int:
        """Hops from rank 0 to the lowest level; 0 for one rank."""
        return int(self.depth.max())

    @cached_property
    def levels(self) -> list[NDArray[np.int32]]:
        """The ranks of each level, ascending, from the root down."""
        order = np.argsort(self.depth, kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(self.depth))
        return [_frozen(level) for level in np.split(order, ends[:-1])]

    @cached_property
    def degrees(self) -> NDArray[np.int32]:
        """Out-degree of each rank: how many children it has; shape (size,)."""
        return _frozen(np.bincount(self.parents[1:], minlength=self.size).astype(np.int32))

    @cached_property
    def fanout(self) -> int:
        """The largest out-degree."""
        return int(self.degrees.max())

    def children(self, rank: int) -> NDArray[np.int32]:
        """Return the children of `rank`, ascending.

        Parameters
        ----------
        rank : int
            One of 0..size-1.

        Returns
        -------
        ndarray of int32

        Raises
        ------
        TopologyError
            If there is no such rank.
        """
        if not 0 <= rank < self.size:
            raise TopologyError(f"topology: no rank {rank}, give one of 0-{self.size - 1}")
        order, starts = self._by_parent
        return order[starts[rank] : starts[rank + 1]]

    @cached_property
    def leaves(self) -> NDArray[np.int32]:
        """The ranks without children, on whichever level, ascending."""
        return _frozen(np.flatnonzero(self.degrees == 0).astype(np.int32))

    @property
    def deepest(self) -> NDArray[np.int32]:
        """The ranks of the lowest level, ascending: what the original study called the leaves."""
        return self.levels[-1]

    @property
    def middle(self) -> NDArray[np.int32]:
        """The ranks of level ``len(levels) // 2``, ascending, as the original study chose it."""
        return self.levels[len(self.levels) // 2]

    @cached_property
    def preorder(self) -> NDArray[np.int32]:
        """The ranks in the order of a drawing: each before its children; shape (size,)."""
        order = np.empty(self.size, np.int32)
        rc = lib.tree_preorder(
            pointer("int32_t *", self.parents), self.size, pointer("int32_t *", order)
        )
        if rc < 0:
            raise MemoryError(f"topology: out of memory for {self.size} ranks")
        return _frozen(order)

    @cached_property
    def subtree_sizes(self) -> NDArray[np.int32]:
        """Number of ranks in the subtree of each rank, itself included; shape (size,)."""
        sizes = np.empty(self.size, np.int32)
        lib.tree_sizes(
            pointer("int32_t *", self.parents),
            self.size,
            pointer("int32_t *", self.preorder),
            self.size,
            pointer("int32_t *", sizes),
        )
        return _frozen(sizes)

    # ---- drawings

    def text(self, labels: Labels = None) -> str:
        """Draw the tree as ``flux overlay status`` does.

        Parameters
        ----------
        labels : sequence of str or callable, optional
            What to write for each rank, ``labels[rank]`` or ``labels(rank)``; the rank if not
            given.

        Returns
        -------
        str
            One line per rank, each with its end.

        Raises
        ------
        UsageError
            If the text would have more than 100 million characters, as for a chain of 10,000.
        """
        room = 3 * int(self.depth.sum(dtype=np.int64))
        if room > MAX_TEXT:
            raise UsageError(
                f"topology '{self.spec}': its text would have {room:.1e} characters,"
                " draw a smaller or a flatter one"
            )
        label = _label(labels)
        last = np.zeros(self.size, np.int32)
        np.maximum.at(last, self.parents[1:], np.arange(1, self.size, dtype=np.int32))
        lines = [f"{label(0)}\n"]
        bars = [""]  # what stands before the branches below each level of the current path
        for rank in self.preorder[1:].tolist():
            level = int(self.depth[rank])
            is_last = last[self.parents[rank]] == rank
            del bars[level:]
            before = bars[-1]
            lines.append(f"{before}{'└─ ' if is_last else '├─ '}{label(rank)}\n")
            bars.append(before + ("   " if is_last else "│  "))
        return "".join(lines)

    def draw(self, path: str | PathLike[str], *, colors: Any = None, labels: Labels = None) -> None:
        """Draw the tree as a picture, of the kind that the file name says.

        Parameters
        ----------
        path : path-like
            File to write, such as ``tree.svg`` or ``tree.png``.
        colors : array_like, shape (size,), optional
            One colour per rank as matplotlib knows them, or numbers for its colour map.
        labels : sequence of str or callable, optional
            What to write at each rank; the rank if not given and there is room.

        Raises
        ------
        UsageError
            If matplotlib is missing, or does not write such files.
        DestinationError
            If the file cannot be written.
        """
        from .draw import save_tree

        title = f"{self.spec}, {self.size} rank{'s' if self.size > 1 else ''}"
        save_tree(path, self.parents, colors=colors, labels=labels, title=title)

    # ---- the rest

    @cached_property
    def _by_parent(self) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        order = _frozen((np.argsort(self.parents[1:], kind="stable") + 1).astype(np.int32))
        return order, np.concatenate(([0], np.cumsum(self.degrees)))

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return bool(np.array_equal(self.parents, other.parents))

    def __hash__(self) -> int:
        return hash(self.parents.tobytes())

    def __repr__(self) -> str:
        return f"<Topology {self.spec}, size {self.size}, depth {self.max_depth}>"


def _frozen(array: NDArray[np.int32]) -> NDArray[np.int32]:
    array.flags.writeable = False
    return array


def _label(labels: Labels) -> Callable[[int], str]:
    if labels is None:
        return str
    return labels if callable(labels) else labels.__getitem__


def _size(size: Any) -> int:
    try:
        size = operator.index(size)
    except TypeError:
        raise TopologyError(f"topology: size {size!r} is not a whole number") from None
    if size >= 2**31:
        raise TopologyError(f"topology: size {size} is more ranks than Flux counts")
    return int(size)


def _parents(pairs: list[tuple[int, int]], what: str) -> list[int]:
    """Return the parents by rank of (rank, parent) pairs in any order, the root's first."""
    if pairs[0][0] != 0:
        raise TopologyError(f"{what}: it starts at rank {pairs[0][0]}, ask for that of rank 0")
    parents: dict[int, int] = {}
    for rank, parent in pairs:
        if parents.setdefault(rank, parent) != parent:
            raise TopologyError(
                f"{what}: rank {rank} stands under {parents[rank]} and under {parent},"
                " each rank has one parent",
                rank=rank,
            )
    for rank in range(len(parents)):
        if rank not in parents:
            raise TopologyError(
                f"{what}: rank {rank} is missing though there are higher ones,"
                " pass the whole output",
                rank=rank,
            )
    return [parents[rank] for rank in range(len(parents))]


def _nearest(spec: str) -> str:
    """Return a hint at the scheme that was likely meant, if `spec` names none."""
    name, colon, argument = spec.partition(":")
    if name in _SCHEMES:
        return ""
    near = difflib.get_close_matches(name.lower(), _SCHEMES, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}{colon}{argument}'?" if near else ""
