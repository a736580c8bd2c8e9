"""``flux-tree strategies``: which there are, and when to use which."""

from __future__ import annotations

import json

import click

from ._output import Column, say_table
from ._params import json_option

__all__ = ["command"]


@click.command("strategies")
@json_option
def command(as_json: bool) -> None:
    """List the strategies: who passes the data on to whom.

    \b
    Columns, for n ranks:
      S         number of trees. The data is cut into S stripes, one for each tree, so that ranks
                that only receive in one tree send in another
      DEPTH     hops from rank 0 to the last rank: what little data waits for
      LOAD      how often the busiest rank sends the whole data: much data takes that many times
                as long as the limit, so 1 is best
      ORIGIN    built-in, or the class of an installed package (entry points of the group
                flux_tree.strategies)

    A class of your own needs no installation: --strategy path/to/file.py:Class, or module:Class,
    followed by :ARGUMENT if it takes one.

    \b
    Examples:
      flux-tree strategies
      flux-tree plan multi-tree:4 --size 32
      flux-tree bcast model /tmp/copy-{rank} --strategy my_tree.py:MyTree
    """
    from .. import strategies

    rows = strategies.describe()
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows]))
        return
    columns = [
        Column("STRATEGY"),
        Column("S", least=8),
        Column("DEPTH", drop=2, least=11),
        Column("LOAD", least=11),
        Column("ORIGIN", drop=1 if any(r.origin != "built-in" for r in rows) else 3),
        Column("WHEN TO USE IT", least=28),
    ]
    say_table(columns, [(r.usage, r.stripes, r.depth, r.load, r.origin, r.when) for r in rows])
