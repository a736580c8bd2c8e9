"""``flux-tree experiment analyze``: tables, pictures and a report of what was measured."""

from __future__ import annotations

import click

from ._output import say
from ._params import RATE, json_option

__all__ = ["command"]


@click.command("analyze", short_help="Tables, pictures and a report of what was measured.")
@click.argument("source", metavar="FOLDER|CSV|LOG", type=click.Path())
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(),
    help="Where to write.  [default: FOLDER/analysis, or NAME-analysis beside a file]",
)
@click.option(
    "--bandwidth",
    metavar="RATE",
    type=RATE,
    help="Of one NIC, for the line time where it was not measured: 10Gbit/s.",
)
@json_option
def command(source: str, output: str | None, bandwidth: float | None, as_json: bool) -> None:
    """Make a tidy table, pictures and a report of an experiment.

    The source is the folder of an experiment, or what the flux-distribute study left: its table
    topologies-events.csv, a log topology-experiment.out, or a folder with
    NODES/TOPOLOGY/ITERATION/topology-experiment.out. The tables that this command writes can be
    read again too.

    Written are report.html, which has everything in it and needs no network; events.csv in the
    columns of the study's table, followed by more; pings.csv and ranks.csv where there are such;
    and pictures/*.svg.

    \b
    Examples:
      flux-tree experiment analyze results/
      flux-tree experiment analyze topologies-events.csv --output study --bandwidth 10Gbit/s
      flux-tree experiment analyze data/raw-exact-30 --json | jq -r .findings[].text
    """
    import json

    from ..experiment import analyze

    found = analyze(source, output, bandwidth=bandwidth)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    for finding in found.findings:
        say(str(finding))
    if found.notes:
        say()
    for note in found.notes:
        say(note)
    say()
    say(f"report in {found.report}")
    tables = [path for path in (found.events, found.pings, found.ranks) if path is not None]
    say(f"tables in {', '.join(map(str, tables))}")
    if found.pictures:
        say(f"{len(found.pictures)} pictures in {found.pictures[0].parent}")
