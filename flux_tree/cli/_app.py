"""The group of all commands: which there are, and how they are found and run."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from .._version import __version__

__all__ = ["COMPLETE_VAR", "PROG", "SECTIONS", "cli", "run"]

PROG = "flux-tree"
#: The environment variable by which a shell asks for completions.
COMPLETE_VAR = "_FLUX_TREE_COMPLETE"

#: The commands, as `flux-tree --help` groups them: name, and the module in this package.
SECTIONS: dict[str, dict[str, str]] = {
    "Broadcast": {"bcast": "bcast", "report": "report"},
    "Trees": {
        "topology": "topology",
        "designs": "designs",
        "strategies": "strategies",
        "plan": "plan",
        "predict": "predict",
    },
    "Measuring": {"calibrate": "calibrate", "lab": "lab", "experiment": "experiment"},
    "Set-up": {"env": "env", "install": "install", "doctor": "doctor"},
    "Shell": {"completion": "completion"},
}


class Commands(click.Group):
    """A group that imports a command when it is used, and lists them by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of `SECTIONS`."""
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        for commands in SECTIONS.values():
            if cmd_name in commands:
                module = import_module(f".{commands[cmd_name]}", __package__)
                command: click.Command = module.command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name, or name the nearest one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            names = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], names, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(names)}"
            raise click.UsageError(f"there is no command '{args[0]}', {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section."""
        width = max(map(len, self.list_commands(ctx)))
        for title, commands in SECTIONS.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name.ljust(width), command.get_short_help_str(formatter.width)))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command has --help with examples; those that give figures have --json.",
)
@click.version_option(__version__, prog_name=PROG, message="%(prog)s %(version)s")
def cli() -> None:
    """Broadcast a file or a directory to every node of a Flux job, over any tree.

    One rank has the data, the root (rank 0). A strategy says who passes it on to whom; every rank
    is timed, and compared with the limit, the least time that the network allows.

    \b
    Begin with:
      flux-tree bcast SOURCE /tmp/copy-{rank} --ranks 8     8 ranks on this machine
      flux-tree strategies                                  which strategies there are
      flux-tree plan two-tree --size 8                      who sends to whom
    """


def run(args: Sequence[str]) -> int:
    """Run the command that the arguments name.

    Parameters
    ----------
    args : sequence of str
        Without the name of the program. None at all is ``--help``.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    UsageError
        If the arguments make no sense, in one line with the mend.
    """
    from ..errors import UsageError

    instruction = os.environ.get(COMPLETE_VAR)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, PROG, COMPLETE_VAR, instruction)
    try:
        with cli.make_context(PROG, list(args) or ["--help"]) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        raise UsageError(_one_line(exc)) from exc
    return 0


def _one_line(exc: click.ClickException) -> str:
    """Return the message of click in our own form, with where to find help."""
    text = " ".join(exc.format_message().split()).rstrip(".")
    ctx: Any = getattr(exc, "ctx", None)
    if text.startswith("there is no command"):
        return text
    return f"{text}; see '{ctx.command_path if ctx else PROG} --help'"
