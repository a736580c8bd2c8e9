"""``flux-tree designs``: the distinct topologies for a range of sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._output import Column, say, say_table
from ._params import json_option

if TYPE_CHECKING:
    from ..designs import Design

__all__ = ["command"]

#: Beyond this a list of sizes or K is a mistake.
MAX_NUMBER = 1_000_000
FORMATS = ("table", "json", "text")


@click.command("designs")
@click.option("--sizes", metavar="LIST", default="4-31", show_default=True, help="Ranks, 4-31,64.")
@click.option("--ks", metavar="LIST", default="1-31", show_default=True, help="K of kary:K.")
@click.option(
    "--output", metavar="FILE", type=click.Path(), help="Write to designs.json or designs.txt."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="table, json, or text (each name with its tree).  [default: as FILE ends, or table]",
)
@json_option
def command(sizes: str, ks: str, output: str | None, form: str | None, as_json: bool) -> None:
    """List the distinct, interesting topologies for some sizes.

    For each size: binomial, then kary:K for growing K. Left out are trees in which more than half
    of the ranks are children of the root, being nearly flat, and from the first tree that the size
    has already, the rest of the K. These are the rules of the flux-distribute study, and json and
    text are the forms of its files.

    \b
    Examples:
      flux-tree designs --sizes 8,16,32
      flux-tree designs --output kary-designs.json
      flux-tree designs --sizes 8 --format text
    """
    from ..designs import design_set, designs_json, designs_text
    from ..errors import DestinationError, UsageError
    from ..units import parse_idset

    if as_json:
        form = "json"
    if form is None:
        form = "table" if output is None else _format_of(output)
    designs = design_set(
        [n for n in parse_idset(sizes, MAX_NUMBER, "--sizes") if n > 0],
        parse_idset(ks, MAX_NUMBER, "--ks"),
    )
    if form == "table":
        if output is not None:
            raise UsageError(f"--output '{output}': a table is for the eye, use json or text")
        _say(designs)
        return
    text = f"{designs_json(designs)}\n" if form == "json" else designs_text(designs)
    if output is None:
        say(text[:-1])
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise DestinationError(f"--output '{output}': {exc.strerror}, give another file") from exc
    if not as_json:
        say(f"{len(designs)} designs in {output}")


def _format_of(output: str) -> str:
    from ..errors import UsageError

    forms = {".json": "json", ".txt": "text"}
    ending = Path(output).suffix.lower()
    if ending not in forms:
        raise UsageError(
            f"--output '{output}': json or text? end it in .json or .txt, or give --format"
        )
    return forms[ending]


def _say(designs: list[Design]) -> None:
    columns = [
        Column("RANKS", right=True),
        Column("TOPOLOGY"),
        Column("LEVELS", right=True),
        Column("FANOUT", right=True),
        Column("LEAVES", right=True),
        Column("RANKS OF EACH LEVEL", least=24),
    ]
    say_table(
        columns,
        [
            (
                str(d.nodes),
                d.topo,
                str(len(d.topology.levels)),
                str(d.topology.fanout),
                str(len(d.topology.leaves)),
                " ".join(str(len(level)) for level in d.topology.levels),
            )
            for d in designs
        ],
    )
