"""What Flux must know to find the shell plugin, the CLI plugin and the command, and where it is."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sys
import sysconfig
from pathlib import Path

from .errors import UsageError

__all__ = [
    "BANDWIDTH_VAR",
    "CLI_FOLDER",
    "PLUGIN",
    "RC_FILE",
    "Line",
    "command_folder",
    "environment",
    "glob_escape",
    "module_file",
    "no_plugin",
    "shell_lines",
]

HERE = Path(__file__).resolve().parent
#: The shell plugin; there only if flux-core was found when flux-tree was built.
PLUGIN = HERE / "_plugin.abi3.so"
#: What loads it in flux-shell.
RC_FILE = HERE / "shell" / "tree-bcast.lua"
#: What adds --tree-bcast to flux run.
CLI_FOLDER = HERE / "flux_cli"

#: The environment variable that says what one NIC carries, where no option does.
BANDWIDTH_VAR = "FLUX_TREE_BANDWIDTH"

#: A variable, its value, and how it is set: "prepend" and "append" are for lists of folders.
Line = tuple[str, str, str]


def environment() -> list[Line]:
    """Return what must be in the environment so that Flux finds all of flux-tree.

    Returns
    -------
    list of (str, str, str)
        Variable, value, and ``prepend``, ``append`` or ``set``.

    Raises
    ------
    UsageError
        If flux-tree is in a folder whose name cannot stand in a list of folders.
    """
    lines = [
        # both take the folder as a pattern: flux-shell as that of glob(3), flux run as Python's
        ("FLUX_SHELL_RC_PATH", glob_escape(str(RC_FILE.parent)), "prepend"),
        ("FLUX_CLI_PLUGINPATH", glob.escape(str(CLI_FOLDER)), "prepend"),
    ]
    commands = command_folder()
    if commands is not None:
        # at the end: the folder may have a python of its own, which is not to hide another
        lines.append(("PATH", str(commands), "append"))
    for _, folder, _ in lines:
        if ":" in folder or "\n" in folder:
            raise UsageError(
                f"{folder}: a colon or a newline in the name, so it cannot stand in a list of"
                " folders: install flux-tree elsewhere"
            )
    return [*lines, ("FLUX_TREE_PYTHON", sys.executable, "set")]


def command_folder() -> Path | None:
    """Return the folder of the script ``flux-tree``; None if there is none.

    Returns
    -------
    Path or None
    """
    begun_as = Path(sys.argv[0])
    if begun_as.name == "flux-tree" and begun_as.exists():
        return Path(os.path.abspath(begun_as.parent))
    schemes = [sysconfig.get_path("scripts")]
    if f"{os.name}_user" in sysconfig.get_scheme_names():
        schemes.append(sysconfig.get_path("scripts", f"{os.name}_user"))
    for folder in map(Path, schemes):
        if (folder / "flux-tree").exists():
            return folder
    return None


def no_plugin() -> str | None:
    """Return why there is no shell plugin, with the mend; None if there is one.

    Returns
    -------
    str or None
    """
    if PLUGIN.exists():
        return None
    return (
        f"no shell plugin, {PLUGIN} is missing: flux-tree was built where pkg-config finds no"
        " flux-core; install its headers, set PKG_CONFIG_PATH if need be, then"
        " pip install --force-reinstall --no-deps --no-binary flux-tree flux-tree"
    )


def shell_lines(shell: str) -> str:
    """Return the environment as lines for a shell to evaluate; doing so twice changes nothing.

    Parameters
    ----------
    shell : str
        ``sh`` (and bash, zsh, ksh), ``csh`` (and tcsh) or ``fish``.

    Returns
    -------
    str
        One command a line.
    """
    return "".join(f"{_WRITERS[shell](*line)}\n" for line in environment())


def module_file() -> str:
    """Return the environment as a module file in Tcl, for Environment Modules and for Lmod.

    Returns
    -------
    str
    """
    lines = ["#%Module", "module-whatis {flux-tree: broadcasts to all nodes of a Flux job}"]
    for name, value, how in environment():
        command = {"prepend": "prepend-path", "append": "append-path", "set": "setenv"}[how]
        quoted = re.sub(r'[\\"$\[\]]', r"\\\g<0>", value)
        lines.append(f'{command} {name} "{quoted}"')
    return "\n".join(lines) + "\n"


def _sh(name: str, value: str, how: str) -> str:
    quoted = shlex.quote(value)
    if how == "set":
        return f"export {name}={quoted}"
    if how == "prepend":
        joined = f"{quoted}${{{name}:+:${name}}}"
    else:
        joined = f"${{{name}:+${name}:}}{quoted}"
    # zsh, too, splits no word in an assignment
    return f'case ":${{{name}-}}:" in *:{quoted}:*) ;; *) {name}={joined}; export {name} ;; esac'


def _csh(name: str, value: str, how: str) -> str:
    # csh cannot test and set in one line, so the value is that of now
    parts = [part for part in os.environ.get(name, "").split(":") if part]
    if how == "set":
        parts = [value]
    elif value not in parts:
        parts = [value, *parts] if how == "prepend" else [*parts, value]
    quoted = ":".join(parts).replace("'", "'\\''").replace("!", "\\!")
    return f"setenv {name} '{quoted}';"


def _fish(name: str, value: str, how: str) -> str:
    quoted = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if how == "set":
        return f"set -gx {name} {quoted}"
    joined = f"{quoted} ${name}" if how == "prepend" else f"${name} {quoted}"
    # fish makes lists of all variables that end in PATH
    return f"contains -- {quoted} ${name}; or set -gx {name} {joined}"


_WRITERS = {"sh": _sh, "csh": _csh, "fish": _fish}


def glob_escape(path: str) -> str:
    """Return a path as the pattern of glob(3) that only it matches.

    Parameters
    ----------
    path : str

    Returns
    -------
    str
    """
    return re.sub(r"[\[\]*?\\]", r"\\\g<0>", path)
