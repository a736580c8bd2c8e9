"""Linux namespaces of the calling thread: new ones, and entering those that are there.

Each thread has its own, and what it starts and the sockets that it makes are there too. So whoever
works in another namespace does so in a thread for that purpose (`in_thread`), and nothing has to be
put back.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, Callable, TypeVar

__all__ = ["MOUNT", "NET", "PID", "UTS", "enter", "in_thread", "mount_proc", "open_own", "unshare"]

# CLONE_NEW* of sched.h
MOUNT, UTS, PID, NET = 0x00020000, 0x04000000, 0x20000000, 0x40000000

_FS = 0x00000200  # CLONE_FS: the root and current directories
_SLAVE = 1 << 19  # MS_SLAVE of sys/mount.h
_NAMES = {UTS: "uts", NET: "net"}
_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Give the calling thread new namespaces; for `PID` it is its next child that has it.

    Parameters
    ----------
    kinds : int
        `MOUNT`, `UTS`, `PID` and `NET`, or-ed.

    Raises
    ------
    OSError
        If it is not allowed to.
    """
    _call(_libc.unshare, kinds)


def enter(fd: int, kind: int) -> None:
    """Put the calling thread into a namespace; for `PID`, what it starts from now on.

    Parameters
    ----------
    fd : int
        From `open_own`, or an open file of ``/proc/PID/ns``.
    kind : int
        One of `MOUNT`, `UTS`, `PID` and `NET`.

    Raises
    ------
    OSError
        If it is not allowed to.
    """
    if kind == MOUNT:
        here = os.getcwd()
        _call(_libc.unshare, _FS)  # other threads stay where they are
        _call(_libc.setns, fd, kind)
        os.chdir(here)
    else:
        _call(_libc.setns, fd, kind)


def open_own(kind: int) -> int:
    """Return a file descriptor of the calling thread's namespace, which keeps it alive.

    Parameters
    ----------
    kind : int
        `UTS` or `NET`.

    Returns
    -------
    int
        It is closed in programs that are started.
    """
    return os.open(f"/proc/thread-self/ns/{_NAMES[kind]}", os.O_RDONLY | os.O_CLOEXEC)


def mount_proc() -> None:
    """Give the calling process, the first of a process namespace, a /proc that shows just that.

    Raises
    ------
    OSError
        If it is not allowed to.
    """
    unshare(MOUNT)
    # what is mounted there from here is not seen elsewhere
    _call(_libc.mount, b"none", b"/proc", None, ctypes.c_ulong(_SLAVE), None)
    _call(_libc.mount, b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None)


def in_thread(work: Callable[[], _T]) -> _T:
    """Call a function in a thread of its own, whose namespaces go with it.

    Parameters
    ----------
    work : callable
        Without parameters.

    Returns
    -------
    object
        What it returned. What it raised is raised here.
    """
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = work()
        except BaseException as exc:
            box["error"] = exc

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    value: _T = box["value"]
    return value


def _call(function: Any, *args: Any) -> None:
    if function(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
