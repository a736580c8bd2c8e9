"""``flux-tree doctor``: what is in place, what is not, and the mend."""

from __future__ import annotations

import click

from ._output import Column, say, say_table
from ._params import json_option

__all__ = ["command"]

STYLES = {"ok": "green", "warn": "yellow", "missing": "red"}


@click.command("doctor", short_help="Say what is in place for Flux, and what is not.")
@click.option("--job/--no-job", default=True, help="Inside an instance, run a job on one node too.")
@json_option
@click.pass_context
def command(ctx: click.Context, job: bool, as_json: bool) -> None:
    """Look at all that a broadcast in a Flux job needs, and say how to mend what is not there.

    Inside an instance it also compares the plugin on all nodes, and runs a job on one of them.
    The exit code is 0 if -o tree-bcast and --tree-bcast work, else 1.

    \b
    States:
      ok        in place
      warn      works without it
      missing   needed, and not there

    \b
    Examples:
      flux-tree doctor
      flux start flux-tree doctor
      flux-tree doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    import json

    from .._doctor import checks

    found = list(checks(job))
    usable = all(check.state != "missing" for check in found)
    if as_json:
        say(json.dumps({"usable": usable, "checks": [c._asdict() for c in found]}, indent=2))
    else:
        columns = [Column("CHECK"), Column("STATE"), Column("FOUND", least=20)]
        rows = [(c.name, c.state, c.text) for c in found]
        say_table(columns, rows, [STYLES[c.state] for c in found])
        mends = [f"{c.name}: {c.mend}" for c in found if c.mend]
        if mends:
            say("\nTo mend it:\n" + "\n".join(f"  {mend}" for mend in mends))
    ctx.exit(0 if usable else 1)
