"""``flux-tree report``: what an earlier broadcast inside Flux measured."""

from __future__ import annotations

import os

import click

from ._output import say
from ._params import BANDWIDTH_VAR, RATE, json_option

__all__ = ["command"]


@click.command("report", short_help="What an earlier broadcast inside Flux measured.")
@click.argument("job", metavar="JOBID|FILE")
@click.option(
    "--bandwidth",
    metavar="RATE",
    type=RATE,
    envvar=BANDWIDTH_VAR,
    help="Of one NIC, for the limit and the prediction: 10Gbit/s.",
)
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw it: times.png, .svg, .pdf.")
@json_option
def command(job: str, bandwidth: float | None, plot: str | None, as_json: bool) -> None:
    """Print what every rank of an earlier broadcast measured, as 'flux-tree bcast' prints it.

    JOBID is that of a job in this instance of Flux, which made a broadcast with 'flux-tree bcast',
    flux_tree.broadcast in Python or 'flux run -o tree-bcast'; it may have ended. FILE is what
    'flux run -o tree-bcast.report=FILE' wrote, and needs no Flux. Of a broadcast that failed,
    there is what was measured until then, and why it failed.

    With a bandwidth, or after 'flux-tree calibrate', there is also when each rank should have had
    all of it (MODEL/s). "time went" says what the slowest rank spent its time on, and "slow rank"
    which ranks were slower than the network allows, and the likely reason.

    \b
    Examples:
      flux-tree report ƒ26ZPmnkR5
      flux-tree report $(flux job last) --bandwidth 25Gbit/s --plot times.png
      flux-tree report report.json --json | jq .summary
    """
    from .. import Result, records
    from .._table import result_header
    from ._result import say_failures, say_result

    if plot is not None:
        from ..plot import check_picture

        check_picture(plot)
    if os.sep in job or os.path.exists(job):
        result = Result.load(job, bandwidth)
    else:
        result = records(job, bandwidth=bandwidth)
    if as_json:
        click.echo(result.to_json())
    else:
        say(f"{result_header(result)}\n")
        say_result(result)
    say_failures(result)
    if plot is not None:
        result.plot(plot)
        say(f"picture in {plot}", err=as_json)
