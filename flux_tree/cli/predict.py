"""``flux-tree predict``: what each strategy, and flux archive, would take; and what is possible."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

import click

from ._output import say
from ._params import BANDWIDTH_VAR, BYTES, RATE, SECONDS, SPEC, STRATEGY, json_option
from ._predictions import Answer, Source, answer_data, say_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import Network

__all__ = ["command"]

#: What Flux builds if nobody asks for another.
DEFAULT_TOPOLOGY = "kary:32"
#: More would need more memory than machines have.
MOST_NODES = 4_000_000
#: Options that are numbers of the network.
NUMBERS = ("latency", "disk", "uplink")
#: What a broadcast takes, bytes.
CHUNK_SIZES = (4096, 16 << 20)


@click.command("predict", short_help="Say how long each strategy, and flux archive, would take.")
@click.argument("strategies", metavar="[STRATEGY]...", nargs=-1, type=STRATEGY)
@click.option("-N", "--nodes", metavar="N", type=int, required=True, help="Number of ranks.")
@click.option("--size", metavar="SIZE", type=BYTES, required=True, help="Of the data: 20GiB.")
@click.option(
    "--bandwidth",
    metavar="RATE",
    type=RATE,
    envvar=BANDWIDTH_VAR,
    help="Of one NIC, in each direction: 25Gbit/s.",
)
@click.option("--latency", metavar="TIME", type=SECONDS, help="Of one hop: 50us.")
@click.option(
    "--network",
    "file",
    metavar="FILE",
    type=click.Path(),
    help="Numbers that 'flux-tree calibrate' has measured.  [default: those stored last]",
)
@click.option(
    "--topology",
    "spec",
    metavar="SPEC",
    type=SPEC,
    help=f"The tree that Flux built, for tbon and flux archive.  [default: {DEFAULT_TOPOLOGY},"
    " for flux archive]",
)
@click.option("--racks", metavar="N", type=int, help="Ranks stand in so many racks, in order.")
@click.option("--uplink", metavar="RATE", type=RATE, help="Of a rack, in each direction.")
@click.option("--slow", metavar="RANK=RATE", multiple=True, help="A rank whose NIC is another.")
@click.option("--disk", metavar="RATE", type=RATE, help="What a rank can write.")
@click.option(
    "--security",
    type=click.Choice(("tls", "none")),
    default="tls",
    show_default=True,
    help="none: not encrypted.",
)
@click.option(
    "--method",
    type=click.Choice(("simulation", "closed-form")),
    help="Chunk by chunk, or by a formula.  [default: the first, unless it takes long]",
)
@click.option(
    "--chunk-size",
    metavar="SIZE|best",
    help="What moves at once; best: that with the least time.  [default: as a broadcast has it]",
)
@click.option(
    "--plot", metavar="FILE", type=click.Path(), help="Draw times over ranks and sizes: times.png."
)
@json_option
def command(
    strategies: Sequence[str],
    nodes: int,
    size: int,
    file: str | None,
    bandwidth: float | None,
    spec: str | None,
    security: str,
    method: str | None,
    chunk_size: str | None,
    plot: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Say how long each STRATEGY would take to bring SIZE of data to N ranks, best first.

    All built-in strategies, if none is named; those that follow a topology need --topology. Below
    the table stands what flux archive would take on the topology that is best for it. The numbers
    of the network are those of --network, else those that 'flux-tree calibrate' has stored, else
    typical ones, and then --bandwidth is needed. Single options go before all of them.

    \b
    Words:
      limit        bytes / bandwidth: every rank must take all of it in, whatever the plan
      lower bound  no broadcast in such chunks is faster: the latency, the uplinks and the slowest
                   NIC are reckoned in
      load         how often a rank sends the whole data: its children in all trees / S
      simulation   every chunk, through every NIC, in the order in which they would go

    \b
    Examples:
      flux-tree predict --nodes 1000 --size 20GiB --bandwidth 25Gbit/s
      flux-tree predict two-tree --nodes 16 --size 1GiB --bandwidth 10Gbit/s --slow 7=1Gbit/s
      flux-tree predict -N 64 --size 4GiB --bandwidth 25Gbit/s --racks 4 --uplink 40Gbit/s
      flux-tree predict -N 64 --size 1GiB --bandwidth 10Gbit/s --topology kary:8
      flux-tree predict --nodes 4096 --size 20GiB --bandwidth 25Gbit/s --plot times.png
      flux-tree predict --nodes 64 --size 1GiB --bandwidth 10Gbit/s --json | jq '.predictions[0]'
    """
    from .. import model
    from ..plot_model import plot_predictions
    from ..topology import Topology

    _check(nodes, size, plot)
    network, source = _network(nodes, file, bandwidth, given)
    topology = None if spec is None else Topology.from_spec(spec, nodes)
    how: dict[str, Any] = {"chunk_size": _chunk_size(chunk_size), "security": security}
    built = spec or DEFAULT_TOPOLOGY

    def reckon() -> Answer:
        chosen = strategies or model.default_strategies(topology)
        found = model.compare(nodes, size, network, chosen, topology, method=method, **how)
        specs = list(dict.fromkeys((*model.TOPOLOGIES, built)))
        archives = model.compare_topologies(nodes, size, network, specs, found[0].method)
        bound = min(model.lower_bound(nodes, size, network, p.chunk_size) for p in found)
        if plot is not None:
            plot_predictions(plot, nodes, size, network, chosen, topology, **how)
        return Answer(found, archives, built, spec is not None, bound, network, source)

    answer = _interruptible(reckon)
    if as_json:
        click.echo(json.dumps(answer_data(answer)))
    else:
        say_answer(answer)
    if plot is not None:
        say(f"picture in {plot}", err=as_json)


def _interruptible(call: Callable[[], Answer]) -> Answer:
    """Return what `call` does; Ctrl-C need not wait for a long simulation, which is all in C."""
    import threading

    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


# ---- what is asked


def _check(nodes: int, size: int, plot: str | None) -> None:
    from ..errors import UsageError

    if not 1 <= nodes <= MOST_NODES:
        raise UsageError(f"--nodes {nodes}: give 1 to {MOST_NODES}")
    if plot is not None:
        from ..plot import check_picture

        if nodes < 2 or size < 1:
            raise UsageError("--plot: with 1 rank or 0 bytes nothing moves, leave it out")
        check_picture(plot)


def _network(
    nodes: int, file: str | None, bandwidth: float | None, given: dict[str, Any]
) -> tuple[Network, Source]:
    """Return the numbers, with single ones that were given instead, and where they come from."""
    from ..errors import UsageError
    from ..model import Network, network_path

    network = Network.load(file)
    path = network_path() if file is None else file
    loopback = file is None and network is not None and network.between_nodes() is None
    if network is not None and file is None and bandwidth is not None:
        network = network.between_nodes()  # other NICs are meant than those of this machine
    changed = {name: given[name] for name in NUMBERS if given[name] is not None}
    if bandwidth is not None:
        changed["bandwidth"] = bandwidth
    if loopback and bandwidth is None:
        raise UsageError(
            f"predict: {path}: measured on the loopback interface of one machine: give --bandwidth"
            " 10Gbit/s, measure in an instance of Flux, or name the file with --network"
        )
    if network is not None:
        but = ", ".join(f"--{name}" for name in changed)
        text = f"{network.origin}, {path}"
        source = Source(str(path), f"{text}; but {but}" if but else text)
        rates = {rank: rate for rank, rate in network.rates.items() if rank < nodes}
        network = replace(network, rates=rates, **changed)
    elif bandwidth is None:
        raise UsageError(
            "predict: how fast are the NICs? give --bandwidth 10Gbit/s, or measure it with"
            " 'flux-tree calibrate'"
        )
    else:
        source = Source("typical", "as given, the rest typical: 'flux-tree calibrate' measures it")
        network = Network(**changed)
    network = _racks(network, nodes, given["racks"], given["uplink"])
    slow = dict(_slow(text, nodes) for text in given["slow"])
    return replace(network, rates={**network.rates, **slow}), source


def _racks(network: Network, nodes: int, racks: int | None, uplink: float | None) -> Network:
    from ..errors import UsageError

    if racks is not None:
        if not 1 <= racks <= nodes:
            raise UsageError(f"--racks {racks}: give 1 to {nodes}, as there are {nodes} ranks")
        if network.uplink is None:
            raise UsageError(
                "--racks: how fast is the uplink of a rack? give --uplink 40Gbit/s as well"
            )
        return network.with_groups([rank * racks // nodes for rank in range(nodes)])
    if network.groups is None and uplink is not None:
        raise UsageError("--uplink: of which racks? give --racks 4 as well")
    if network.groups is not None and len(network.groups) != nodes:
        raise UsageError(
            f"--nodes {nodes}: the network has racks of {len(network.groups)} ranks,"
            " give --racks as well"
        )
    return network


def _slow(text: str, nodes: int) -> tuple[int, float]:
    from ..errors import UsageError
    from ..units import parse_rate

    rank, equals, rate = text.partition("=")
    if not equals or not rank.strip().isdecimal():
        raise UsageError(f"--slow '{text}': write it as RANK=RATE, such as 7=1Gbit/s")
    if int(rank) >= nodes:
        raise UsageError(f"--slow '{text}': no rank {int(rank)}, give one of 0-{nodes - 1}")
    return int(rank), parse_rate(rate)


def _chunk_size(text: str | None) -> int | str | None:
    from ..errors import UsageError
    from ..units import parse_bytes

    if text is None or text == "best":
        return text
    size = parse_bytes(text)
    low, high = CHUNK_SIZES
    if not low <= size <= high:
        raise UsageError(f"--chunk-size {text}: must be from {low} to {high} bytes, or 'best'")
    return size
