"""``flux-tree topology``: the tree that Flux builds for a spec."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from ._output import say, say_figures
from ._params import SPEC, json_option

if TYPE_CHECKING:
    from ..topology import Topology

__all__ = ["command"]


@click.command("topology")
@click.argument("spec", type=SPEC)
@click.option("--size", metavar="N", type=int, help="Number of ranks (brokers).")
@click.option(
    "--parents",
    metavar="LIST",
    help="For 'custom': the parent of each rank, -1 for rank 0, such as -1,0,0,1.",
)
@click.option("--draw", metavar="FILE", type=click.Path(), help="Draw it: tree.svg, .png, .pdf.")
@click.option("--tree/--no-tree", default=True, help="Print the tree itself. [default: tree]")
@json_option
def command(
    spec: str,
    size: int | None,
    parents: str | None,
    draw: str | None,
    tree: bool,
    as_json: bool,
) -> None:
    """Show the tree that Flux builds over N ranks for tbon.topo=SPEC.

    SPEC is kary:K (each rank has up to K children; kary:1 is a chain, kary:0 flat), binomial,
    mincrit, mincrit:K (three levels, K routers), or custom with --parents.

    \b
    Words:
      level     the ranks equally many hops from rank 0, the root
      fan-out   most children that a rank has: how often it sends what it passes on
      leaves    the ranks without children, on whichever level
      deepest   the ranks of the lowest level, called "leaves" by the strategy of that name
      middle    the ranks of the level at half the number of levels

    \b
    Examples:
      flux-tree topology kary:2 --size 8
      flux-tree topology binomial --size 1024 --no-tree
      flux-tree topology custom --parents -1,0,0,1,1
      flux-tree topology kary:3 --size 30 --draw tree.svg
    """
    from ..errors import UsageError
    from ..topology import Topology

    numbers = _numbers(parents)
    if size is None:
        if numbers is None:
            raise UsageError(f"topology '{spec}': how many ranks? give --size N")
        size = len(numbers)
    topology = Topology.from_spec(spec, size, numbers)
    if draw is not None:
        topology.draw(draw)
        say(f"picture in {draw}", err=as_json)
    if as_json:
        click.echo(json.dumps(_to_dict(topology)))
        return
    if tree:
        say(topology.text().rstrip("\n"))
        say()
    say_figures(_figures(topology))


def _numbers(text: str | None) -> list[int] | None:
    from ..errors import UsageError

    if text is None:
        return None
    parts = text.replace(",", " ").split()
    for part in parts:
        if not re.fullmatch(r"-?\d{1,18}", part, re.ASCII):
            raise UsageError(f"--parents '{text}': '{part}' is no rank, write them as -1,0,0,1")
    return [int(part) for part in parts]


def _to_dict(topology: Topology) -> dict[str, Any]:
    return {
        "topo": topology.spec,
        "size": topology.size,
        "parents": topology.parents.tolist(),
        "depth": topology.max_depth,
        "fanout": topology.fanout,
        "levels": [level.tolist() for level in topology.levels],
        "leaves": topology.leaves.tolist(),
        "middle": topology.middle.tolist(),
        "deepest": topology.deepest.tolist(),
    }


def _figures(topology: Topology) -> list[tuple[str, str, str]]:
    sizes = [len(level) for level in topology.levels]
    shown = [str(size) for size in sizes[:12]] + (["..."] if len(sizes) > 12 else [])
    degrees = topology.degrees
    inner = int((degrees > 0).sum())
    mean = f"{degrees.sum() / inner:.3g} on average" if inner else "nobody sends"
    return [
        ("topology", topology.spec, ""),
        ("ranks", str(topology.size), ""),
        ("levels", str(len(sizes)), f"with {' '.join(shown)} ranks"),
        ("fan-out", str(topology.fanout), mean),
        ("leaves", str(len(topology.leaves)), f"ranks {_ranks(topology.leaves)}"),
        ("middle", str(len(topology.middle)), f"ranks {_ranks(topology.middle)}"),
        ("deepest", str(len(topology.deepest)), f"ranks {_ranks(topology.deepest)}"),
    ]


def _ranks(ranks: Any) -> str:
    """Return ranks as an idset, or the beginning of a long one."""
    from ..units import format_idset

    text = format_idset(ranks.tolist())
    return text if len(text) <= 60 else f"{text[:60].rpartition(',')[0]},..."
