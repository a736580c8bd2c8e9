"""The command ``flux-tree``.

Every command is a file of this package with the name of the command, which is imported when the
command is used: it may import only click and its neighbours at its top, and the rest inside.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]

#: What a program that a Python bug ended exits with (EX_SOFTWARE of sysexits.h).
EXIT_BUG = 70
#: As a program that the shell saw end by SIGPIPE.
EXIT_PIPE = 141
EXIT_INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; whatever goes wrong ends as one line on standard error.

    Parameters
    ----------
    args : sequence of str, optional
        The arguments, without the name of the program; those of the process if not given.

    Returns
    -------
    int
        The exit code, as in docs/cli.md.
    """
    for stream in (sys.stdout, sys.stderr):
        # whatever the locale cannot write (names of files) is escaped, never an error
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        from ._app import run

        code = run(sys.argv[1:] if args is None else args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as exc:
        return _end(f"interrupted; {exc}" if str(exc) else "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # who read our output has gone, and does not want to hear of it
        _drop_output()
        return EXIT_PIPE
    except Exception as exc:
        return _fail(exc)


def _fail(exc: Exception) -> int:
    """Report an exception in one line, and return the exit code for it."""
    from ..errors import FluxTreeError

    debug = os.environ.get("FLUX_TREE_DEBUG", "") not in ("", "0")
    if debug:
        import traceback

        traceback.print_exc()
    if isinstance(exc, FluxTreeError):
        from .._table import failure_lines

        # the error itself says the first reason
        others = {r: text for r, text in exc.failures.items() if not str(exc).endswith(text)}
        for line in failure_lines(others):
            _end(line, exc.exit_code)
    if isinstance(exc, FluxTreeError):
        return _end(f"error: {exc}", exc.exit_code)
    if isinstance(exc, MemoryError):
        return _end(f"error: out of memory{f' ({exc})' if str(exc) else ''}", 1)
    if isinstance(exc, OSError):
        _drop_output()
        name = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, (str, bytes)) else ""
        return _end(f"error: {name}{exc.strerror or exc}", 1)
    if isinstance(exc, ImportError):
        return _end(f"error: {exc}", 1)
    hint = "" if debug else "; FLUX_TREE_DEBUG=1 shows the traceback"
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    return _end(f"error: {text} (a bug{hint})", EXIT_BUG)


def _end(text: str, code: int) -> int:
    from ._text import printable

    with suppress(OSError, ValueError, AttributeError):  # None if it was closed from the start
        sys.stdout.flush()
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"flux-tree: {printable(text)}\n")
        sys.stderr.flush()
    return code


def _drop_output() -> None:
    """Send what is left in the buffer of standard output nowhere, so that nothing fails again."""
    with suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
