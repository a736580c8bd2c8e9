"""``flux-tree completion``: what makes a shell complete this command."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("completion", short_help="Print what makes a shell complete flux-tree.")
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print what makes SHELL complete this command: its options, strategies, topologies.

    \b
    In ~/.bashrc:                    eval "$(flux-tree completion bash)"
    In ~/.zshrc:                     eval "$(flux-tree completion zsh)"
    In ~/.config/fish/config.fish:   flux-tree completion fish | source
    """
    from click.shell_completion import get_completion_class

    from ._app import COMPLETE_VAR, PROG, cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, PROG, COMPLETE_VAR).source())
