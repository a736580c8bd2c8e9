"""``flux-tree bcast``: broadcast, time every rank, and say how good that was."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import click

from ._output import progress_bar, say
from ._params import (
    BYTES,
    RATE,
    SECONDS,
    STRATEGY,
    json_option,
    members_option,
    topology_option,
)

if TYPE_CHECKING:
    from .._payload import Payload
    from .._records import Result
    from ..plan import Plan

__all__ = ["command"]


@click.command("bcast", short_help="Broadcast a file or a directory, and time every rank.")
@click.argument("source", type=click.Path())
@click.argument("dest", type=click.Path())
@click.option("--ranks", metavar="N", type=int, default=8, show_default=True, help="How many.")
@click.option(
    "--strategy",
    metavar="NAME",
    type=STRATEGY,
    default="two-tree",
    show_default=True,
    help="Who passes it on to whom: see 'flux-tree strategies'.",
)
@topology_option
@members_option
@click.option(
    "--chunk-size", metavar="SIZE", type=BYTES, help="What moves at once.  [default: fitting]"
)
@click.option(
    "--security",
    type=click.Choice(("tls", "none")),
    default="tls",
    show_default=True,
    help="none: not encrypted. Ranks prove who they are in either case.",
)
@click.option("--overwrite", is_flag=True, help="Replace destinations that exist.")
@click.option(
    "--timeout",
    metavar="TIME",
    type=SECONDS,
    default="60s",
    show_default=True,
    help="Give up after so long without progress.",
)
@click.option(
    "--workers", metavar="N", type=click.IntRange(min=1), help="Threads of a rank that move data."
)
@click.option(
    "--bandwidth",
    metavar="RATE",
    type=RATE,
    help="Of one NIC, for the limit: 10Gbit/s.  [default: measured]",
)
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw it: times.png, .svg, .pdf.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and --json).")
@json_option
def command(
    source: str,
    dest: str,
    ranks: int,
    strategy: str,
    spec: str,
    members: str | None,
    chunk_size: int | None,
    security: str,
    overwrite: bool,
    timeout: float,
    workers: int | None,
    bandwidth: float | None,
    plot: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Broadcast SOURCE, a file or a directory, to DEST on every rank, and time each.

    The ranks are processes on this machine, so DEST needs {rank} in it, which stands for the
    number of the rank. As in cp, a DEST that is a directory receives SOURCE under its own name,
    anything else is the new name. Either every rank has all of it at the end, or none has.

    \b
    Columns; times are seconds since the broadcast began:
      PARENTS    whom the rank receives from, in each tree of the plan
      CONN/s     when its first parent had greeted it
      FIRST/s    when the first byte of data came
      LAST/s     when the last one came
      CHECKED/s  when all of it was checked against the digest of rank 0
      MB/s       rate from the first byte to the last, in 10^6 bytes per second
      IN, OUT    data received and sent on, in MiB
      WAIT/s     how long there was nothing to receive: the parents were slower
      DISK/s     time in file system calls, all threads added up
    limit: the least time that any plan needs, as every rank has to take in all of the data
    through its one network interface: bytes / bandwidth.

    \b
    Examples:
      flux-tree bcast model /tmp/copy-{rank}
      flux-tree bcast model.bin /tmp/copy-{rank} --ranks 16 --strategy chain --plot times.png
      flux-tree bcast data /tmp/copy-{rank} --strategy kary:2 --members 4-7 --security none
      flux-tree bcast model /tmp/copy-{rank} --json | jq .summary.slowest_s
    """
    from .. import broadcast, strategies
    from .._payload import Payload
    from ..errors import UsageError
    from ..topology import Topology
    from ..units import parse_idset
    from ._result import say_result

    if ranks < 1:
        raise UsageError(f"--ranks {ranks}: give 1 or more")
    if plot is not None:
        from ..plot import check_picture

        check_picture(plot)
    begin = time.monotonic()
    topology = Topology.from_spec(spec, ranks)
    wanted = None if members is None else parse_idset(members, ranks, "--members")
    plan = strategies.plan(strategy, topology, wanted)
    payload = Payload.scan(source)
    if not quiet:
        say(_header(payload, plan, security), err=as_json)
    with progress_bar(0 if quiet else payload.bytes, _receivers(plan)) as progress:
        result = broadcast(
            payload,
            dest,
            plan,
            chunk_size=chunk_size,
            security=security,
            overwrite=overwrite,
            timeout=timeout,
            workers=workers,
            bandwidth=bandwidth,
            progress=progress,
        )
    result = dataclasses.replace(result, elapsed=time.monotonic() - begin)
    if as_json:
        click.echo(result.to_json())
    elif not quiet:
        say()
        say_result(result)
    if plot is not None:
        _plot(result, plot, quiet, as_json)


def _receivers(plan: Plan) -> int:
    return int(plan.present.sum()) - 1


def _header(payload: Payload, plan: Plan, security: str) -> str:
    from ..units import format_bytes

    count = _receivers(plan) + 1
    where = "1 process" if count == 1 else f"{count} processes"
    files = "1 file" if payload.files == 1 else f"{payload.files} files"
    return (
        f"{plan.strategy}: {format_bytes(payload.bytes)} in {files} to {plan.audience}\n"
        f"engine: local, {where} on this machine over the loopback interface,"
        f" {'TLS 1.3' if security == 'tls' else 'not encrypted'}"
    )


def _plot(result: Result, path: str, quiet: bool, as_json: bool) -> None:
    result.plot(path)
    if not quiet:
        say(f"picture in {path}", err=as_json)
