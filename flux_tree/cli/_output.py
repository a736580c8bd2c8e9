"""What commands print: tables, trees, figures, a progress bar.

On a terminal, rich lays tables out for its width. Anywhere else they are plain text of a stable
form: a header, columns set apart by two spaces or more, nothing cut off, no colours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

import click

from .._table import GAP, Column, figure_lines, table_lines
from ._text import ASCII_TREE, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Column", "on_terminal", "progress_bar", "say", "say_figures", "say_table", "tree_text"]


def on_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal that can do more than lines of text."""
    if stream is None:  # closed from the start
        return False
    return bool(stream.isatty()) and os.environ.get("TERM", "") not in ("", "dumb")


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines, in characters that the stream has.

    Parameters
    ----------
    text : str
        One or more lines, without the newline at the end.
    err : bool, default False
        On standard error.
    """
    stream = sys.stderr if err else sys.stdout
    text = "\n".join(map(printable, text.split("\n")))
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = text.translate(ASCII_TREE)
    click.echo(text, err=err)


def say_table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    styles: Sequence[str] | None = None,
) -> None:
    """Print a table.

    Parameters
    ----------
    columns : sequence of Column
        The columns.
    rows : iterable of sequences of str
        A cell for each column.
    styles : sequence of str, optional
        The style of each row on a terminal, as rich names them; "" for none.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if on_terminal(sys.stdout):
        _rich_table(columns, cells, styles)
    else:
        say("\n".join(table_lines(columns, cells)))


def say_figures(figures: Iterable[tuple[str, str, str]]) -> None:
    """Print figures line by line: what it is, its value, and a few words on it.

    Parameters
    ----------
    figures : iterable of (str, str, str)
        Name, value, remark.
    """
    say("\n".join(figure_lines(figures)))


def tree_text(parents: NDArray[Any], label: Callable[[int], str] = str) -> str:
    """Draw one tree of a plan, as ``flux overlay status`` draws it.

    Parameters
    ----------
    parents : ndarray of int32, shape (n,)
        The tree; ranks with parent -2 take no part and are left out.
    label : callable, default str
        What to write for a rank.

    Returns
    -------
    str
        One line per rank, without the last newline.
    """
    import numpy as np

    from ..plan import ABSENT
    from ..topology import Topology

    there = np.flatnonzero(parents != ABSENT)
    place = np.full(len(parents) + 1, -1, np.int32)  # the last one stands for parent -1
    place[there] = np.arange(len(there), dtype=np.int32)
    packed = Topology.from_parents(place[parents[there]])
    return packed.text(lambda i: label(int(there[i]))).rstrip("\n")


@contextmanager
def progress_bar(
    total: int | Callable[[], int | None], receivers: int | None, quiet: bool = False
) -> Iterator[Callable[[NDArray[Any]], None] | None]:
    """Show on standard error, if that is a terminal, how far a broadcast is.

    Parameters
    ----------
    total : int or callable
        Bytes of the payload; or what returns them, or None as long as they are not known.
    receivers : int or None
        How many ranks get it from another; as many as have begun, if None.
    quiet : bool, default False
        Show nothing.

    Yields
    ------
    callable or None
        For `flux_tree.broadcast` to call with the records; None if there is nothing to show.
    """
    if quiet or not on_terminal(sys.stderr) or receivers == 0:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from .._records import STATES
    from ..units import format_bytes

    received = STATES.index("received")
    with Progress(
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    ) as bar:
        task = bar.add_task("", total=None, state="")

        def update(records: NDArray[Any]) -> None:
            others = records[1:]
            size = total() if callable(total) else total
            count = int((others["state"] > 0).sum()) if receivers is None else receivers
            if size is None or count == 0:
                return
            done = int((others["state"] >= received).sum())
            got = int((others["bytes_in"] + others["bytes_kept"]).sum())
            each = format_bytes(got / count)
            text = f"{each} of {format_bytes(size)} a rank, {done}/{count} done"
            bar.update(task, total=max(size, 1) * count, completed=got, state=text)

        yield update


def _rich_table(
    columns: Sequence[Column],
    cells: list[list[str]],
    styles: Sequence[str] | None,
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = [max([len(c.title), *(len(row[i]) for row in cells)]) for i, c in enumerate(columns)]
    console = Console(highlight=False)
    kept = list(range(len(columns)))
    least = [min(w, c.least or w) for c, w in zip(columns, widths)]
    while (room := console.width - sum(least[i] + GAP for i in kept) + GAP) < 0:
        first = max(kept, key=lambda i: columns[i].drop)
        if not columns[first].drop:
            break
        kept.remove(first)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    final = {}
    for i in reversed(kept):  # the last column is the one with the longest text
        more = min(max(room, 0), widths[i] - least[i])
        room -= more
        final[i] = least[i] + more
    for i in kept:
        c = columns[i]
        justify: Any = "right" if c.right else "left"
        table.add_column(c.title, justify=justify, width=final[i], overflow="fold")
    for number, row in enumerate(cells):
        style = styles[number] if styles else ""
        table.add_row(*(Text(row[i]) for i in kept), style=style)
    console.print(table)
