"""``flux-tree bcast``: broadcast, time every rank, and say how good that was."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

import click

from ._output import progress_bar, say
from ._params import (
    BANDWIDTH_VAR,
    RATE,
    SPEC,
    members_option,
    output_options,
    strategy_option,
    transfer_options,
)

if TYPE_CHECKING:
    from .._job import BroadcastFuture
    from .._payload import Payload
    from .._records import Result
    from ..plan import Plan

__all__ = ["command"]

#: Options that need Flux, and ask for it where there is no FLUX_URI.
FLUX_ONLY = ("nodes", "transport", "racks", "archive", "interface", "window")


@click.command("bcast", short_help="Broadcast a file or a directory, and time every rank.")
@click.argument("source", type=click.Path())
@click.argument("dest", type=click.Path(), required=False)
@click.option("-N", "--nodes", metavar="N", type=int, help="Flux: how many nodes.  [default: all]")
@click.option("--ranks", metavar="N", type=int, help="This machine: how many ranks.  [default: 8]")
@click.option("--local", is_flag=True, help="On this machine, even inside Flux.")
@strategy_option
@click.option(
    "--topology",
    "spec",
    metavar="SPEC",
    type=SPEC,
    help="The tree that strategies such as tbon and leaves follow.  [default: the instance's own;"
    " on this machine kary:32]",
)
@members_option
@click.option(
    "--racks",
    metavar="SPEC",
    help="Flux, strategies auto and rack: a file with the racks of hosts, or a pattern that finds"
    " them in their names: '^(r[0-9]+)'.",
)
@click.option(
    "--transport",
    type=click.Choice(("direct", "content")),
    help="Flux: directly, or through the brokers' content cache.  [default: direct]",
)
@click.option(
    "--archive", metavar="NAME", help="Flux: an archive of 'flux archive create', no SOURCE."
)
@click.option("--interface", metavar="NAME", help="Flux: the network interface to use.")
@click.option(
    "--window", metavar="N", type=click.IntRange(min=1), help="Flux, content: requests at a time."
)
@transfer_options
@click.option(
    "--bandwidth",
    metavar="RATE",
    type=RATE,
    envvar=BANDWIDTH_VAR,
    help="Of one NIC, for the limit: 10Gbit/s.  [default: measured; in Flux, unknown]",
)
@output_options
def command(
    source: str,
    dest: str | None,
    local: bool,
    plot: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Broadcast SOURCE, a file or a directory, to DEST on every rank, and time each.

    Inside an instance of Flux (FLUX_URI is set) the ranks are its nodes: a job does it. Elsewhere
    they are processes on this machine, so DEST needs {rank} in it, which stands for the number of
    the rank. As in cp, a DEST that is a directory receives SOURCE under its own name, anything
    else is the new name. Either every rank has all of it at the end, or none has; with
    --on-failure continue, all those that did not fail, and standard error says who did, and why.

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
    through its one network interface: bytes / bandwidth. With --resume, all that it lacks.

    \b
    Examples:
      flux-tree bcast model /tmp/copy-{rank}
      flux-tree bcast model.bin /tmp/copy-{rank} --ranks 16 --strategy chain --plot times.png
      flux-tree bcast data /tmp/copy-{rank} --strategy kary:2 --members 4-7 --security none
      flux-tree bcast model /tmp/copy-{rank} --on-failure continue --min-ranks 6
      flux-tree bcast model.bin /tmp/copy-{rank} --resume --fsync
      flux-tree bcast model /tmp/copy-{rank} --json | jq .summary.slowest_s
      flux alloc -N16 flux-tree bcast model /tmp/model --bandwidth 25Gbit/s
      flux alloc -N64 flux-tree bcast model /tmp/model --strategy auto --racks '^(r[0-9]+)'
      flux-tree bcast -N8 --archive main --transport content /tmp/data
    """
    from ._result import say_failures, say_result

    if options["archive"] is not None and dest is None:
        source, dest = "", source
    if dest is None:
        raise click.UsageError("Missing argument 'DEST'.", click.get_current_context())
    if plot is not None:
        from ..plot import check_picture

        check_picture(plot)
    run = _in_flux if _wants_flux(local, options) else _here
    result = run(source, dest, quiet, as_json, **options)
    if as_json:
        click.echo(result.to_json())
    elif not quiet:
        say()
        say_result(result)
    say_failures(result)
    if plot is not None:
        _plot(result, plot, quiet, as_json)


def _wants_flux(local: bool, options: dict[str, Any]) -> bool:
    """Return whether Flux does it; refuse options of the one for the other."""
    from ..errors import UsageError

    asked = [name for name in FLUX_ONLY if options[name] is not None]
    if local and asked:
        raise UsageError(f"--{asked[0]}: only inside Flux, leave out it or --local")
    inside = not local and (bool(os.environ.get("FLUX_URI")) or bool(asked))
    if inside and options["ranks"] is not None:
        raise UsageError("--ranks: of this machine; give --nodes, or --local to stay outside Flux")
    return inside


def _here(source: str, dest: str, quiet: bool, as_json: bool, **options: Any) -> Result:
    """Broadcast between processes of this machine."""
    from .. import broadcast
    from .._between import local_plan, opened
    from .._payload import Payload
    from .._transfer import Transfer
    from ..errors import UsageError
    from ..topology import Topology
    from ..units import parse_idset

    for name in FLUX_ONLY:
        del options[name]
    ranks = options.pop("ranks")
    ranks = 8 if ranks is None else ranks
    if ranks < 1:
        raise UsageError(f"--ranks {ranks}: give 1 or more")
    begin = time.monotonic()
    members = options.pop("members")
    with opened(source, Transfer.of(options)) as found:
        plan, scanned = local_plan(
            found,
            options.pop("strategy"),
            topology=Topology.from_spec(options.pop("spec") or "kary:32", ranks),
            ranks=None,
            members=None if members is None else parse_idset(members, ranks, "--members"),
            racks=None,
            chunk_size=options["chunk_size"],
            security=options["security"],
            bandwidth=options["bandwidth"],
        )
        payload = scanned if isinstance(scanned, Payload) else Payload.scan(scanned)
        if not quiet:
            say(_header(payload, plan, options["security"]), err=as_json)
        with progress_bar(payload.bytes, _receivers(plan), quiet) as progress:
            result = broadcast(payload, dest, plan, progress=progress, **options)
    return dataclasses.replace(result, elapsed=time.monotonic() - begin)


def _in_flux(source: str, dest: str, quiet: bool, as_json: bool, **options: Any) -> Result:
    """Broadcast between the nodes of the instance, as a job."""
    from .. import broadcast_async
    from .._flux import connect
    from ..errors import UsageError
    from ..units import parse_idset

    try:
        handle = connect()
    except UsageError as exc:
        raise UsageError(f"{exc}; or stay on this machine with --local") from None
    from .._job import run

    del options["ranks"]
    members, archive = options.pop("members"), options["archive"]
    if members is not None:
        members = parse_idset(members, int(handle.attr_get("size")), "--members")
    options["topology"] = options.pop("spec")
    options["transport"] = options["transport"] or "direct"
    started: list[BroadcastFuture] = []

    def start() -> BroadcastFuture:
        future = broadcast_async(
            None if archive is not None and not source else source,
            dest,
            handle=handle,
            members=members,
            progress=progress,
            notify=None if quiet else lambda line: say(f"flux-tree: {line}", err=True),
            **options,
        )
        started.append(future)
        if not quiet:
            what = source or f"archive {archive}"
            try:
                say(_flux_header(future, what, dest, options), err=as_json)
            except OSError:  # who read our output has gone
                future.cancel()
                raise
        return future

    with progress_bar(lambda: started[0].bytes, None, quiet) as progress:
        return run(handle, start)


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


def _flux_header(future: Any, what: str, dest: str, options: dict[str, Any]) -> str:
    content = options["transport"] == "content"
    strategy = options["strategy"] or ("all" if content else "two-tree")
    how = "directly, TLS 1.3" if options["security"] == "tls" else "directly, not encrypted"
    n = future.job.size
    return (
        f"{strategy}: {what} to {dest}\n"
        f"engine: flux, job {future.job.name} on {n} node{'' if n == 1 else 's'},"
        f" {'through the content cache' if content else how}"
    )


def _plot(result: Result, path: str, quiet: bool, as_json: bool) -> None:
    result.plot(path)
    if not quiet:
        say(f"picture in {path}", err=as_json)
