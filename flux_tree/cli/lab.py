"""``flux-tree lab``: many hosts on this machine, with NICs of a given rate."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ._output import progress_bar, say
from ._params import (
    RATE,
    SPEC,
    members_option,
    output_options,
    strategy_option,
    transfer_options,
)

if TYPE_CHECKING:
    from ..lab import Lab

__all__ = ["command"]


@dataclass(frozen=True)
class _Wanted:
    """The lab that the options of the group describe."""

    hosts: int
    rate: float
    racks: int
    uplink: float | None
    slow: tuple[str, ...]
    topo: str | None

    def make(self) -> Lab:
        """Make it."""
        from ..errors import UsageError
        from ..lab import Lab
        from ..units import parse_rate

        slow = {}
        for text in self.slow:
            host, equals, rate = text.partition("=")
            if not equals or not host.isdecimal():
                raise UsageError(f"--slow {text}: give a host and its rate, as in 3=10mbit")
            slow[int(host)] = parse_rate(rate)
        return Lab(self.hosts, self.rate, racks=self.racks, uplink=self.uplink, slow=slow)


@click.group("lab", short_help="Many hosts on this machine, with NICs of a given rate.")
@click.option(
    "--hosts", metavar="N", type=int, default=8, show_default=True, help="How many, 2 to 1000."
)
@click.option(
    "--rate",
    metavar="RATE",
    type=RATE,
    default="100mbit",
    show_default=True,
    help="Of each NIC, in each direction.",
)
@click.option(
    "--racks",
    metavar="N",
    type=int,
    default=1,
    show_default=True,
    help="The hosts stand in so many racks, neighbours together.",
)
@click.option("--uplink", metavar="RATE", type=RATE, help="Of the cable from a rack to the others.")
@click.option(
    "--slow",
    metavar="HOST=RATE",
    multiple=True,
    help="A single NIC of another rate: 3=10mbit. May be given again.",
)
@click.option(
    "--topo",
    metavar="SPEC",
    type=SPEC,
    help="The TBON of Flux; what strategies such as tbon follow.  [default: kary:32]",
)
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Run something on many hosts, all of them on this machine. Needs root.

    Each host is a network namespace with a name (lab0, lab1, ...), an address and a NIC of the
    given rate in each direction, which a switch joins to the others. They share the processors,
    the memory and the files of this machine. The network is the limit as long as the processors
    are not. Everything is gone at the end, however that comes about.

    \b
    Examples:
      sudo flux-tree lab --hosts 32 bcast model '/tmp/copy-{rank}' --strategy chain
      sudo flux-tree lab --hosts 32 --topo kary:2 flux -- flux overlay status
      sudo flux-tree lab --hosts 16 --racks 4 --uplink 100mbit --rate 1gbit bcast ...
      sudo flux-tree lab --hosts 8 --slow 3=10mbit flux
      sudo flux-tree lab clean
    """
    options["slow"] = tuple(options["slow"])
    ctx.obj = _Wanted(**options)


@command.command("bcast")
@click.argument("source", type=click.Path())
@click.argument("dest", type=click.Path())
@strategy_option
@members_option
@transfer_options
@output_options
@click.pass_obj
def bcast(
    wanted: _Wanted,
    source: str,
    dest: str,
    members: str | None,
    plot: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Broadcast SOURCE to DEST on every host, without Flux, and time each.

    As 'flux-tree bcast', with a rank on each host. DEST needs {rank} in it, as the hosts share the
    files of this machine. The limit is reckoned with what one stream moves between two hosts,
    which is measured first.

    \b
    Examples:
      sudo flux-tree lab --hosts 32 bcast model '/tmp/copy-{rank}'
      sudo flux-tree lab --hosts 32 bcast model '/tmp/copy-{rank}' --strategy kary:2 --json
    """
    from .._between import opened
    from .._payload import Payload
    from .._table import result_header
    from .._transfer import Transfer
    from ..units import parse_idset
    from ._result import say_failures, say_result

    if plot is not None:
        from ..plot import check_picture

        check_picture(plot)
    ranks = None if members is None else parse_idset(members, wanted.hosts, "--members")
    with ExitStack() as stack:
        found = stack.enter_context(opened(source, Transfer.of(options)))
        payload = found if isinstance(found, Payload) else Payload.scan(found)
        lab = stack.enter_context(wanted.make())
        with progress_bar(payload.bytes, None, quiet) as progress:
            result = lab.broadcast(
                payload, dest, topology=wanted.topo, members=ranks, progress=progress, **options
            )
        usage = lab.usage()
    if as_json:
        click.echo(json.dumps({**json.loads(result.to_json()), "lab": usage}))
    elif not quiet:
        say(f"{result_header(result)}\n")
        say_result(result, [("machine", *_used(usage))])
    say_failures(result)
    if plot is not None:
        result.plot(plot)
        if not quiet:
            say(f"picture in {plot}", err=as_json)


@command.command("flux", context_settings={"ignore_unknown_options": True})
@click.argument("argv", metavar="[--] [COMMAND]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--usage", is_flag=True, help="At the end, what it took of this machine.")
@click.pass_obj
@click.pass_context
def flux(ctx: click.Context, wanted: _Wanted, argv: tuple[str, ...], usage: bool) -> None:
    """Start Flux with a broker on each host, and run COMMAND on the first, or a shell.

    It is an instance as 'flux start' makes it, with the TBON that 'flux-tree lab --topo' says, and
    ends with COMMAND and its exit code. Each host has one processor core for jobs. flux-tree is
    set up in it as by 'flux-tree env', and FLUX_TREE_BANDWIDTH says what one stream moves between
    two hosts, for the limit. The hosts share the files of this machine, so give destinations
    {rank}.

    \b
    Examples:
      sudo flux-tree lab --hosts 32 --topo kary:2 flux -- flux overlay status
      sudo flux-tree lab --hosts 32 flux -- flux-tree bcast model '/tmp/copy-{rank}'
      sudo flux-tree lab --hosts 8 --topo binomial flux
    """
    with wanted.make() as lab:
        process = lab.flux(argv, topo=wanted.topo)
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # the program has it as well, and decides what to do
                continue
        if usage:
            say("machine  {}  {}".format(*_used(lab.usage())), err=True)
    ctx.exit(code if code >= 0 else 128 - code)


@command.command("clean")
def clean() -> None:
    """Remove what labs have left whose processes were all killed at once.

    Their networks are gone by themselves. What can be left is a folder flux-tree-lab-* in the
    temporary directory. Those of labs that are running are left alone.
    """
    from ..lab import clean as clean_labs

    for path in clean_labs():
        say(f"removed {path}")


def _used(usage: dict[str, float]) -> tuple[str, str]:
    """Return what a lab has taken of the machine, as a value and a remark."""
    from ..units import format_bytes

    busy = f"{100 * usage['machine_busy']:.0f}% busy"
    return busy, (
        f"its processors, {usage['elapsed_s']:.1f} s with making the lab;"
        f" {format_bytes(usage['memory'])} of its memory at most, with the copies in it"
    )
