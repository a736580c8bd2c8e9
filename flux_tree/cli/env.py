"""``flux-tree env``: the whole set-up, as lines for a shell or a module file."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("env", short_help="Print the set-up for a shell or a module file.")
@click.option(
    "--shell",
    type=click.Choice(("sh", "csh", "fish")),
    default="sh",
    show_default=True,
    help="For which; sh is bash, zsh and ksh too, csh is tcsh too.",
)
@click.option(
    "--modulefile", is_flag=True, help="As a module file, for Lmod or Environment Modules."
)
def command(shell: str, modulefile: bool) -> None:
    """Print what sets up Flux to find flux-tree, without root.

    After it, 'flux run --tree-bcast=STRATEGY' and 'flux tree' work. To evaluate it twice does no
    harm; 'flux-tree doctor' says what is in place. Nothing else in the environment is touched.

    \b
    Variables:
      FLUX_SHELL_RC_PATH    what loads the shell plugin, for jobs with -o tree-bcast
      FLUX_CLI_PLUGINPATH   the option --tree-bcast of flux run, submit, alloc, batch
      PATH                  flux-tree, at the end: 'flux tree' finds it
      FLUX_TREE_PYTHON      who turns a strategy of your own into a plan

    \b
    Examples:
      eval "$(flux-tree env)"                            in ~/.bashrc or ~/.zshrc
      flux-tree env --shell fish | source                in ~/.config/fish/config.fish
      eval "`flux-tree env --shell csh`"                 in ~/.cshrc
      flux-tree env --modulefile > modulefiles/flux-tree
    """
    from .. import _setup
    from ._output import say

    missing = _setup.no_plugin()
    if missing is not None:
        say(f"flux-tree: warning: {missing}", err=True)
    click.echo(_setup.module_file() if modulefile else _setup.shell_lines(shell), nl=False)
