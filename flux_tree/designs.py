"""Design sets: the distinct, interesting topologies for a range of sizes.

The rules are those of the converged-computing flux-distribute study [1]_: for each size first
``binomial``, then ``kary:K`` for ascending K, leaving out

- a tree in which more than half of the ranks are children of the root, being mostly flat;
- a tree that the size has already; the first such K ends the size, as the study's script did.

.. [1] https://github.com/converged-computing/flux-distribute, ``topology/*/kary-designs.json``
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import UsageError
from .topology import Labels, Topology

__all__ = ["Design", "design_set", "designs_json", "designs_text", "read_designs"]

#: What the study asked for: sizes 4 to 31, K of 1 to 31.
STUDY_SIZES = range(4, 32)
STUDY_KS = range(1, 32)


@dataclass(frozen=True)
class Design:
    """One topology of a design set.

    Attributes
    ----------
    nodes : int
        Number of ranks.
    topo : str
        The spec, as for ``tbon.topo``.
    topology : Topology
        The tree.
    """

    nodes: int
    topo: str
    topology: Topology

    @property
    def uid(self) -> str:
        """The study's name for it, such as ``nodes-8-topo-kary:2``."""
        return f"nodes-{self.nodes}-topo-{self.topo}"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the study's JSON: nodes, topo, and the ranks of each level as text.

        Returns
        -------
        dict
        """
        levels = {
            str(level): [str(rank) for rank in ranks.tolist()]
            for level, ranks in enumerate(self.topology.levels)
        }
        return {"nodes": self.nodes, "topo": self.topo, "levels": levels}


def design_set(sizes: Iterable[int] = STUDY_SIZES, ks: Iterable[int] = STUDY_KS) -> list[Design]:
    """Return the distinct, interesting topologies for a range of sizes, by the study's rules.

    Parameters
    ----------
    sizes : iterable of int, default 4 to 31
        Numbers of ranks.
    ks : iterable of int, default 1 to 31
        Values of K for ``kary:K``, in the order in which they are tried.

    Returns
    -------
    list of Design

    Raises
    ------
    TopologyError
        If a size is less than 1.
    UsageError
        If a K is less than 0.
    """
    ks = list(ks)
    for k in ks:
        if k < 0:
            raise UsageError(f"design set: K {k} makes no sense, give 0 or more")
    designs: list[Design] = []
    for size in sizes:
        seen: set[Topology] = set()
        for spec in ["binomial", *(f"kary:{k}" for k in ks)]:
            topology = Topology.from_spec(spec, size)
            if topology.degrees[0] > size // 2:
                continue
            if topology in seen:
                break
            seen.add(topology)
            designs.append(Design(size, spec, topology))
    return designs


def designs_json(designs: Sequence[Design]) -> str:
    """Return a design set in the JSON of the study's ``kary-designs.json``.

    Parameters
    ----------
    designs : sequence of Design
        The set.

    Returns
    -------
    str
        A list of ``{"nodes", "topo", "levels"}``, indented by 4, without a newline at its end.
    """
    return json.dumps([design.to_dict() for design in designs], indent=4)


def designs_text(designs: Sequence[Design], labels: Labels = None) -> str:
    """Return a design set as text: name, drawing and an empty line for each, as the study did.

    Parameters
    ----------
    designs : sequence of Design
        The set.
    labels : sequence of str or callable, optional
        What to write for each rank, as in `Topology.text`.

    Returns
    -------
    str
    """
    return "".join(f"{design.uid}\n{design.topology.text(labels)}\n" for design in designs)


def read_designs(text: str) -> list[Design]:
    """Return the design set in JSON of the study's form, with the trees that Flux builds.

    Parameters
    ----------
    text : str
        What `designs_json` returns, or the study's file.

    Returns
    -------
    list of Design

    Raises
    ------
    UsageError
        If it is not such JSON, or its levels are not those that Flux builds.
    """
    try:
        entries = [(entry, int(entry["nodes"]), str(entry["topo"])) for entry in json.loads(text)]
    except (KeyError, TypeError, ValueError) as exc:
        raise UsageError(
            f"design set: not a JSON list of nodes, topo and levels ({exc}),"
            " write it with designs_json"
        ) from None
    designs = []
    for entry, nodes, topo in entries:
        design = Design(nodes, topo, Topology.from_spec(topo, nodes))
        if "levels" in entry and entry["levels"] != design.to_dict()["levels"]:
            raise UsageError(f"design set: {design.uid} has levels that Flux does not build")
        designs.append(design)
    return designs
