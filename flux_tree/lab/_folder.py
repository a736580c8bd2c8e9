"""The folder of a lab, and what labs that are no more have left of theirs."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ..errors import LabError

__all__ = ["clean", "make_folder"]

PREFIX = "flux-tree-lab-"
LOCK = "lock"
#: A folder without a lock that is younger than this may be one that is being made.
YOUNG_S = 10.0


def make_folder() -> tuple[Path, int]:
    """Make the folder of a lab.

    Returns
    -------
    Path
        The folder, which only this user can look into.
    int
        A locked file in it. The lab is there as long as a process has it open.

    Raises
    ------
    LabError
        If it cannot be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        where = tempfile.gettempdir()
        raise LabError(
            f"lab: no folder in {where} ({exc.strerror}), set TMPDIR to one that can be written"
        ) from None
    return folder, fd


def clean() -> list[Path]:
    """Remove what labs whose processes were all killed have left in the temporary directory.

    Returns
    -------
    list of Path
        The folders that were removed. Those of labs that are in use are left alone.

    Raises
    ------
    LabError
        If one cannot be removed.
    """
    removed = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        if folder.is_symlink() or not folder.is_dir() or _in_use(folder):
            continue
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:  # its keeper was about to
            continue
        except OSError as exc:
            raise LabError(f"{folder}: it cannot be removed ({exc.strerror})") from None
        removed.append(folder)
    return removed


def _in_use(folder: Path) -> bool:
    """Return whether a lab has a folder, or may be about to lock it, or is another user's."""
    try:
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime < YOUNG_S
        return True
    except PermissionError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
