"""Types of options: sizes, rates, times, strategies and topologies, with their completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, TypeVar

import click
from click.shell_completion import CompletionItem

from .. import units
from .._setup import BANDWIDTH_VAR

__all__ = [
    "BANDWIDTH_VAR",
    "BYTES",
    "RATE",
    "SECONDS",
    "SPEC",
    "STRATEGY",
    "json_option",
    "members_option",
    "output_options",
    "strategy_option",
    "topology_option",
    "transfer_options",
]


_F = TypeVar("_F", bound=Callable[..., Any])


class _Unit(click.ParamType):
    """What a function of `flux_tree.units` reads."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number; a text that is none raises the error that `units` has for it."""
        return self.parse(value) if isinstance(value, str) else value


class _Strategy(click.ParamType):
    """The name of a strategy; completes those that there are."""

    name = "strategy"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Return the strategies that begin with what was typed."""
        from .. import strategies

        found = []
        for row in strategies.describe():
            found.append(CompletionItem(row.name, help=row.when))
            found.extend(CompletionItem(f"{row.name}:{a}") for a in _ARGUMENTS.get(row.name, ()))
        return [item for item in found if item.value.startswith(incomplete)]


class _Spec(click.ParamType):
    """The spec of a topology; completes the forms that Flux knows."""

    name = "spec"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Return the specs that begin with what was typed."""
        return [CompletionItem(s, help=h) for s, h in _SPECS.items() if s.startswith(incomplete)]


_ARGUMENTS = {
    "kary": ("2", "4", "8"),
    "multi-tree": ("4", "8"),
    "middle-leaves": ("strict",),
}
_SPECS = {
    "kary:1": "a chain",
    "kary:2": "each rank has up to 2 children",
    "kary:4": "up to 4 children",
    "kary:32": "up to 32 children, the default of Flux",
    "kary:0": "flat: all under rank 0",
    "binomial": "the binomial tree",
    "mincrit": "three levels, few brokers that matter",
    "custom": "from the parents that you give",
}

BYTES = _Unit("size", units.parse_bytes)
RATE = _Unit("rate", units.parse_rate)
SECONDS = _Unit("time", units.parse_seconds)
STRATEGY = _Strategy()
SPEC = _Spec()

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
topology_option = click.option(
    "--topology",
    "spec",
    metavar="SPEC",
    type=SPEC,
    default="kary:32",
    show_default=True,
    help="The tree that Flux built, for strategies that follow it (tbon, all, leaves, ...).",
)
members_option = click.option(
    "--members",
    metavar="RANKS",
    help="The ranks that want the data, such as 0-3,5. All, if not given.",
)
strategy_option = click.option(
    "--strategy",
    metavar="NAME",
    type=STRATEGY,
    help="Who passes it on to whom: see 'flux-tree strategies'.  [default: two-tree]",
)
_TRANSFER = (
    click.option(
        "--chunk-size", metavar="SIZE", type=BYTES, help="What moves at once.  [default: fitting]"
    ),
    click.option(
        "--security",
        type=click.Choice(("tls", "none")),
        default="tls",
        show_default=True,
        help="none: not encrypted. Ranks prove who they are in either case.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace destinations that exist."),
    click.option(
        "--timeout",
        metavar="TIME",
        type=SECONDS,
        default="60s",
        show_default=True,
        help="Give up after so long without progress, or a sign of life of a rank.",
    ),
    click.option(
        "--on-failure",
        type=click.Choice(("abort", "continue")),
        default="abort",
        show_default=True,
        help="continue: a rank that fails, dies or hangs is left out, the others go on.",
    ),
    click.option(
        "--min-ranks",
        metavar="N",
        type=click.IntRange(min=1),
        help="With continue: fail if fewer of the ranks that keep the data can get it."
        "  [default: 1]",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Fetch only what is not there: of an interrupted run with --resume, or at DEST.",
    ),
    click.option("--fsync", is_flag=True, help="Have it on disk before the end."),
    click.option(
        "--digest",
        metavar="sha256:HEX",
        help="What SOURCE, one file, must come to, as published.",
    ),
    click.option(
        "--workers",
        metavar="N",
        type=click.IntRange(min=1),
        help="Threads of a rank that move data.",
    ),
)
_OUTPUT = (
    click.option(
        "--plot", metavar="FILE", type=click.Path(), help="Draw it: times.png, .svg, .pdf."
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and --json)."),
    json_option,
)


def transfer_options(command: _F) -> _F:
    """Give a command the options of how data moves, which all broadcasts have."""
    return _with(command, _TRANSFER)


def output_options(command: _F) -> _F:
    """Give a command the options of what is told of a broadcast."""
    return _with(command, _OUTPUT)


def _with(command: _F, options: Sequence[Callable[[_F], _F]]) -> _F:
    for option in reversed(options):
        command = option(command)
    return command
