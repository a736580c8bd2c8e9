"""The frames between who pulls and the root: docs/registry.md."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..errors import SourceError
from ._reference import Reference

__all__ = ["DATA", "END", "FAIL", "HEAD", "Feed", "open_feed", "write_frame"]

HEAD, DATA, END, FAIL = 1, 2, 3, 4
TEXT_MAX = 4096

#: Of the time limit: who pulls is to say why nothing comes before the ranks find that.
PATIENCE = 0.75

_START = (
    "import sys; sys.path += sys.argv[3:];"
    " from flux_tree._registry.__main__ import main; sys.exit(main(sys.argv[1:3]))"
)


class Feed:
    """What comes from a registry, while it is pulled.

    Attributes
    ----------
    manifest : bytes
        What will come, encoded.
    fd : int
        Where it comes.
    """

    def __init__(self, process: subprocess.Popen[bytes], manifest: bytes) -> None:
        assert process.stdout is not None
        self._process = process
        self.manifest = manifest
        self.fd = process.stdout.fileno()

    def close(self) -> None:
        """End who pulls, whatever it does."""
        _end(self._process)

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_feed(reference: str, timeout: float) -> Feed:
    """Begin to pull, in a process of its own.

    Parameters
    ----------
    reference : str
        What is pulled.
    timeout : float
        Of the broadcast, seconds.

    Returns
    -------
    Feed

    Raises
    ------
    UsageError
        If it is no reference.
    SourceError
        If it cannot be had.
    """
    Reference.parse(reference)
    root = str(Path(__file__).resolve().parent.parent.parent)
    # as the ranks are started: no file in the current directory stands in for a module
    process = subprocess.Popen(
        [
            *(sys.executable, "-I", "-c", _START, reference, f"--timeout={timeout * PATIENCE}"),
            *(root, *filter(None, sys.path)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    try:
        return Feed(process, _read_head(process, reference))
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_head(process: subprocess.Popen[bytes], reference: str) -> bytes:
    kind, length = struct.unpack("<II", _read(process, 8, reference))
    if kind == FAIL and length <= TEXT_MAX:
        text = _read(process, length, reference).decode(errors="replace")
        raise SourceError("".join(c if c.isprintable() else " " for c in text))
    if kind != HEAD:
        raise SourceError(f"source {reference}: who pulls it says what nobody understands")
    return _read(process, length, reference)


def _read(process: subprocess.Popen[bytes], length: int, reference: str) -> bytes:
    assert process.stdout is not None
    data = bytearray()
    while len(data) < length:
        part = process.stdout.read(length - len(data))
        if not part:
            raise SourceError(f"source {reference}: who pulls it has died, see what it wrote")
        data += part
    return bytes(data)


def write_frame(fd: int, kind: int, data: bytes | memoryview = b"") -> None:
    """Write a frame.

    Parameters
    ----------
    fd : int
        Where to.
    kind : int
        `HEAD`, `DATA`, `END` or `FAIL`.
    data : bytes-like
        What is in it.

    Raises
    ------
    OSError
        If nobody reads any more.
    """
    head = struct.pack("<II", kind, len(data))
    done = os.writev(fd, (head, data))
    for piece in (memoryview(head)[done:], memoryview(data)[max(0, done - len(head)) :]):
        while piece:
            piece = piece[os.write(fd, piece) :]
