"""``flux-tree plan``: who sends what to whom, and what it costs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from ._output import say, say_figures, tree_text
from ._params import BYTES, RATE, SECONDS, STRATEGY, json_option, members_option, topology_option

if TYPE_CHECKING:
    from ..model import Network
    from ..plan import Plan

__all__ = ["command"]

#: Lines of trees that are printed without being asked for.
MAX_LINES = 256


@click.command("plan", short_help="Show who sends what to whom, and what it costs.")
@click.argument("strategy", type=STRATEGY)
@click.option("--size", metavar="N", type=int, required=True, help="Number of ranks.")
@topology_option
@members_option
@click.option("--bytes", "size_bytes", metavar="SIZE", type=BYTES, help="Of the data: 20GiB.")
@click.option("--bandwidth", metavar="RATE", type=RATE, help="Of one NIC: 10Gbit/s, 1.2GB/s.")
@click.option("--latency", metavar="TIME", type=SECONDS, default=0.0, help="Of one hop: 50us.")
@click.option("--chunk-size", metavar="SIZE", type=BYTES, help="What moves at once: 256KiB.")
@click.option(
    "--tree/--no-tree",
    default=None,
    help=f"Print the trees.  [default: up to {MAX_LINES} lines of them]",
)
@json_option
def command(
    strategy: str,
    size: int,
    spec: str,
    members: str | None,
    size_bytes: int | None,
    bandwidth: float | None,
    latency: float,
    chunk_size: int | None,
    tree: bool | None,
    as_json: bool,
) -> None:
    """Show who sends what to whom under STRATEGY, over N ranks.

    A plan is S trees over the same ranks: chunk c of the data travels down tree c modulo S.
    With --bytes and --bandwidth also how long it takes at least. STRATEGY may be auto: what is
    predicted to be fastest for --bytes (1GiB) on the network that flux-tree calibrate has measured.

    \b
    Words:
      depth     most hops from rank 0 to a rank, over all trees
      load      how often a rank sends the whole data: its children in all trees / S
      relay     a rank that passes data on and keeps none
      cost      max load x bytes / bandwidth + depth x (latency + chunk / bandwidth)
      limit     bytes / bandwidth: every rank must take all of it in, whatever the plan

    \b
    Examples:
      flux-tree plan two-tree --size 8
      flux-tree plan leaves --size 16 --topology kary:2
      flux-tree plan chain --size 64 --members 0-15,32-47
      flux-tree plan multi-tree:4 --size 1024 --bytes 20GiB --bandwidth 25Gbit/s --latency 20us
      flux-tree plan auto --size 1024 --bytes 20GiB
    """
    from .. import strategies
    from ..errors import UsageError
    from ..topology import Topology
    from ..units import parse_idset

    chooser = strategies.get(strategy)
    if isinstance(chooser, strategies.Auto):
        network = _network(size, bandwidth, latency)
        bandwidth, latency = network.bandwidth, network.latency
        size_bytes = strategies.BYTES if size_bytes is None else size_bytes
        chooser = strategies.Auto(network, size_bytes, chunk_size=chunk_size)
    if (size_bytes is None) != (bandwidth is None):
        given, lacks = (
            ("--bytes", "--bandwidth") if bandwidth is None else ("--bandwidth", "--bytes")
        )
        raise UsageError(f"plan: {given} without {lacks}, give both to see the cost")
    topology = Topology.from_spec(spec, size)
    ranks = None if members is None else parse_idset(members, size, "--members")
    plan = strategies.plan(chooser, topology, ranks)
    if isinstance(plan, strategies.Choice):
        chunk_size = plan.chunk_size
    cost = None
    if size_bytes is not None and bandwidth is not None:
        cost = _cost(plan, size_bytes, bandwidth, latency, chunk_size)
    if as_json:
        why = {"why": plan.why} if isinstance(plan, strategies.Choice) else {}
        click.echo(
            json.dumps({**plan.to_dict(), **({} if cost is None else {"cost": cost}), **why})
        )
        return
    lines = plan.stripes * int(plan.present.sum())
    if tree or (tree is None and lines <= MAX_LINES):
        _say_trees(plan)
    elif tree is None:
        say(
            f"{plan.stripes} x {plan.present.sum()} lines of trees are left out: --tree prints them"
        )
        say()
    say_figures(_figures(plan, cost))


def _network(size: int, bandwidth: float | None, latency: float) -> Network:
    """Return what the strategy auto reckons with, and the cost after it."""
    from .. import strategies

    network = strategies.known_network(size, bandwidth)
    return dataclasses.replace(network, latency=latency) if latency > 0 else network


def _say_trees(plan: Plan) -> None:
    def label(rank: int) -> str:
        return str(rank) if plan.deliver[rank] or rank == 0 else f"{rank} (relay)"

    for number, parents in enumerate(plan.parents, 1):
        if plan.stripes > 1:
            say(f"tree {number} of {plan.stripes}")
        say(tree_text(parents, label))
        say()


def _cost(
    plan: Plan, size: int, bandwidth: float, latency: float, chunk: int | None
) -> dict[str, Any]:
    from .. import model

    if chunk is None:
        chunk = model.chunk_size(size, plan.depth, plan.stripes, bandwidth)
    seconds = plan.cost(size, bandwidth, latency, chunk)
    limit = model.limit(size, bandwidth)
    return {
        "seconds": seconds,
        "limit_s": limit,
        "limit_percent": 100 * limit / seconds if seconds > 0 else None,
        "max_load": plan.max_load,
        "depth": plan.depth,
        "bytes": size,
        "bandwidth": bandwidth,
        "latency": latency,
        "chunk_size": chunk,
    }


def _figures(plan: Plan, cost: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    import numpy as np

    from ..strategies import Choice
    from ..units import format_bytes, format_rate, format_seconds

    phases = np.unique(plan.phase[plan.present])
    busiest = int(np.argmax(plan.load))
    mean = plan.load[plan.present].mean()
    figures = [
        ("strategy", plan.strategy, ""),
        *([("chosen", "by auto", plan.why)] if isinstance(plan, Choice) else []),
        ("ranks", str(plan.size), f"the data goes to {plan.audience}"),
        ("trees", str(plan.stripes), "each carries one stripe" if plan.stripes > 1 else ""),
        ("depth", str(plan.depth), "hops to the last rank"),
        ("load", f"{plan.max_load:.4g}", f"most, at rank {busiest}; {mean:.3g} on average"),
    ]
    if len(phases) > 1:
        text = "; ".join(
            f"{p}: {np.count_nonzero(plan.present & (plan.phase == p))} ranks" for p in phases
        )
        figures.append(("phases", str(len(phases)), text))
    if cost is not None:
        what = f"{format_bytes(cost['bytes'])} at {format_rate(cost['bandwidth'], bits=True)}"
        percent = cost["limit_percent"]
        figures += [
            ("limit", format_seconds(cost["limit_s"]), f"{what}, whatever the plan"),
            (
                "cost",
                format_seconds(cost["seconds"]),
                f"in chunks of {format_bytes(cost['chunk_size'])}, "
                f"{format_seconds(cost['latency'])} a hop"
                + ("" if percent is None else f": {percent:.3g}% of the limit"),
            ),
        ]
    return figures
