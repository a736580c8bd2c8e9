"""``flux-tree install``: into Flux's own folders, for all users."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("install", short_help="Install into Flux's own folders, for all users.")
@click.option("--remove", is_flag=True, help="Take away exactly what was installed.")
@click.option(
    "--destdir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default="/",
    help="Put everything below DIR, for a package or an image.",
)
def command(remove: bool, destdir: Path) -> None:
    """Install the plugins and the command into the folders of the Flux on PATH.

    Then 'flux run --tree-bcast=STRATEGY', '-o tree-bcast=STRATEGY' and 'flux tree' work for all
    users with no set-up. This has to be run on every node whose Flux is on a disk of its own, by
    who owns Flux's folders. What is installed runs this very Python: it should be one that all
    users can run. Without such rights: flux-tree env.

    \b
    Examples:
      sudo flux-tree install
      sudo flux-tree install --remove
      flux-tree install --destdir /tmp/image
    """
    import sys

    from .. import _install
    from ._output import say

    folders = _install.flux_folders()
    destdir = destdir.absolute()
    if remove:
        for path in _install.remove(folders, destdir):
            say(f"removed {path}")
        return
    for path in _install.install(folders, destdir):
        say(f"wrote {path}")
    closed = _install.unreadable(sys.executable)
    if closed is not None:
        say(
            f"flux-tree: warning: {closed} is closed to other users, and Python is below it: for"
            " them 'flux tree' and strategies of their own will not work",
            err=True,
        )
