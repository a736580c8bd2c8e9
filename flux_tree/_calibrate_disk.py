"""What a folder takes in."""

from __future__ import annotations

import os
import tempfile
import time

from .errors import UsageError

__all__ = ["write_rate"]

SIZE, BLOCK = 256 << 20, 4 << 20


def write_rate(folder: str | os.PathLike[str]) -> float:
    """Measure how fast a new file in a folder is written, until it is on the disk.

    Parameters
    ----------
    folder : path-like
        Where. The file, of 256 MiB, is removed.

    Returns
    -------
    float
        Bytes per second.

    Raises
    ------
    UsageError
        If it cannot be written there.
    """
    block = os.urandom(BLOCK)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as f:
            begin = time.perf_counter()
            for _ in range(SIZE // BLOCK):
                view = memoryview(block)
                while view:
                    view = view[f.write(view) :]
            os.fdatasync(f.fileno())
            return SIZE / (time.perf_counter() - begin)
    except OSError as exc:
        raise UsageError(
            f"disk {os.fspath(folder)}: it cannot be written to ({exc.strerror}), give a folder"
        ) from None
