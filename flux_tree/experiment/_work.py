"""A folder for temporary files that is removed whatever becomes of its owner."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DestinationError
from ..units import format_bytes

__all__ = ["is_ours", "work_folder"]

# short: a broker's socket is in it, and its path may not have more than 107 characters
PREFIX = "flux-tree-run-"
SHARED_MEMORY = Path("/dev/shm")

#: What removes the folder when its standard input ends, which it does when its owner dies.
#: Processes that are about to end may still write there, so it looks again.
_KEEPER = (
    'read _; i=0; while [ $i -lt 300 ]; do rm -rf -- "$1" 2>/dev/null; sleep 0.2; i=$((i + 1));'
    ' [ $i -lt 15 ] || [ -e "$1" ] || exit; done'
)


@contextmanager
def work_folder(chosen: str | None, need: int) -> Iterator[Path]:
    """Make a folder for temporary files, and remove it at the end, or when this process dies.

    Parameters
    ----------
    chosen : str or None
        Where. Shared memory if not given and it has twice the room, else the folder of TMPDIR.
    need : int
        Bytes that will be in it at the most.

    Yields
    ------
    Path

    Raises
    ------
    DestinationError
        If there is no room, or it cannot be written.
    """
    place = Path(chosen) if chosen else _place(need)
    try:
        room = shutil.disk_usage(place).free
        if room < need:
            raise DestinationError(
                f"workdir '{place}': {format_bytes(room)} free and {format_bytes(need)} needed,"
                " name another one in the design, or give smaller sizes"
            )
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    except OSError as exc:
        raise DestinationError(
            f"workdir '{place}': {exc.strerror}, name another one in the design"
        ) from None
    keeper = subprocess.Popen(
        ["sh", "-c", _KEEPER, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    try:
        yield folder
    finally:
        _remove(folder)
        if folder.exists():  # leave it to the keeper
            assert keeper.stdin is not None
            keeper.stdin.close()
        else:
            keeper.kill()
        keeper.wait()


def is_ours(folder: Path) -> bool:
    """Return whether a folder is one that `work_folder` has made for this user.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    bool
    """
    if not folder.name.startswith(PREFIX) or folder.is_symlink() or not folder.is_dir():
        return False
    return folder.stat().st_uid == os.geteuid()


def _place(need: int) -> Path:
    if os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > 2 * need:
        return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _remove(folder: Path) -> None:
    for _ in range(25):  # what is about to end may still write there
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
