"""The first process of a lab's own process namespace: while it lives, so may the others.

Its standard input ends when the lab is closed, or when whoever owns it dies, however that comes
about. Then it kills every process of the lab and removes the lab's folder. If it is killed itself,
the kernel kills the others, and the folder is left to `flux-tree lab clean`.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress

from flux_tree import _namespace

__all__ = ["main"]

TRIES, PAUSE_S = 40, 0.05


def main(folder: str) -> None:
    """Keep a lab until standard input ends; say so when others may come.

    Parameters
    ----------
    folder : str
        Removed at the end.
    """
    # programs look themselves up in /proc, by the number that they have here
    try:
        _namespace.mount_proc()
    except OSError as exc:
        os.write(1, f"{exc.strerror}\n".encode())
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans come here, and nobody asks for them
    os.write(1, b"ready\n")
    while os.read(0, 4096):
        pass
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    for _ in range(TRIES):  # those that are about to die may still make files
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(PAUSE_S)
