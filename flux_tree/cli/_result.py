"""A result on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._table import failure_lines, result_figures, result_table
from ._output import say, say_figures, say_table

if TYPE_CHECKING:
    from .._records import Result

__all__ = ["say_failures", "say_result"]


def say_result(result: Result, more: Iterable[tuple[str, str, str]] = ()) -> None:
    """Print the table of the ranks and the summary.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.
    more : iterable of (str, str, str), optional
        Figures that are printed below its own, as of `say_figures`.
    """
    table = result_table(result)
    say_table(table.columns, table.cells, table.styles)
    if table.remark:
        say(table.remark)
    say()
    say_figures([*result_figures(result), *more])


def say_failures(result: Result) -> None:
    """Print on standard error why ranks failed, a line each.

    Parameters
    ----------
    result : Result
        Of a broadcast that is over.
    """
    for line in failure_lines(result.failures, result.hosts):
        say(f"flux-tree: {line}", err=True)
