"""The folder of an experiment: what has been measured, which a kill at any time leaves whole.

``results.jsonl`` grows by a line when a cell ends. A last line without its end is one that was
being written when the experiment was killed: it is cut off, and its cell runs again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import DestinationError, FluxTreeError, SourceError, UsageError
from . import _work
from .design import Design

__all__ = ["DESIGN", "ENVIRONMENT", "LOCK", "RESULTS", "Store", "read_status"]

DESIGN, ENVIRONMENT, RESULTS, LOCK = "design.yaml", "environment.json", "results.jsonl", ".lock"


def read_status(folder: Path) -> dict[str, str]:
    """Return which cells have a result, without holding the folder.

    Parameters
    ----------
    folder : Path
        It need not be there.

    Returns
    -------
    dict of str to str
        "ok" or "failed" of each.

    Raises
    ------
    SourceError
        If the results are damaged.
    """
    try:
        return _status(folder, (folder / RESULTS).read_bytes())
    except FileNotFoundError:
        return {}


class Store:
    """The folder, held by one run at a time.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Attributes
    ----------
    folder : Path
    status : dict of str to str
        "ok" or "failed" of each cell that has a result; the last one counts.

    Raises
    ------
    DestinationError
        If the folder cannot be written.
    FluxTreeError
        If another run holds it.
    SourceError
        If its results are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise DestinationError(f"'{folder}': {exc.strerror}, give another folder") from None
        try:
            self._take_lock()
            self._sweep()
            self._results = os.open(
                folder / RESULTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self.status = self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._results)
        os.close(self._lock)

    # ---- the design

    def adopt(self, design: Design, text: str) -> None:
        """Make a design that of this folder; refuse one that its results do not belong to.

        Parameters
        ----------
        design : Design
            What is to be run.
        text : str
            Its file.

        Raises
        ------
        UsageError
            If there are results of a design that this one does not only add to.
        """
        path = self.folder / DESIGN
        if self.status:
            old = Design.read(path) if path.exists() else design
            difference = design.difference(old, set(self.status))
            if difference is not None:
                raise UsageError(
                    f"'{self.folder}' has results of another design: {difference}; take the design"
                    f" of {path}, which may be added to, or another folder"
                )
        self._write(DESIGN, text)

    # ---- results

    def append(self, result: dict[str, Any]) -> None:
        """Add the result of a cell, so that it is there after whatever comes next.

        Parameters
        ----------
        result : dict
            With ``cell`` and ``status``.

        Raises
        ------
        DestinationError
            If it cannot be written.
        """
        line = memoryview(json.dumps(result, allow_nan=False).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._results, line) :]
            os.fsync(self._results)
        except OSError as exc:
            raise DestinationError(
                f"'{self.folder / RESULTS}': {exc.strerror}, make room and run again"
            ) from None
        self.status[result["cell"]] = result["status"]

    def _read(self) -> dict[str, str]:
        """Read the results, and cut off a last line that has no end."""
        with open(os.dup(self._results), "rb") as f:
            f.seek(0)
            data = f.read()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.ftruncate(self._results, end)
        return _status(self.folder, data)

    # ---- the environment

    def environment(self) -> dict[str, Any]:
        """Return what was noted of the runs so far.

        Returns
        -------
        dict
            Empty before the first one, or if the file is damaged: it is written anew then.
        """
        try:
            found = json.loads((self.folder / ENVIRONMENT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Note the circumstances.

        Parameters
        ----------
        environment : dict
            As of `environment`.
        """
        self._write(ENVIRONMENT, json.dumps(environment, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        new = path.with_name(f".{name}.new")
        try:
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)
        except OSError as exc:
            with suppress(OSError):
                new.unlink()
            raise DestinationError(f"'{path}': {exc.strerror}") from None

    # ---- the lock, which also tells where temporary files are

    def note_work(self, folder: Path | None) -> None:
        """Note where the temporary files of this run are, for the next one to see after.

        Parameters
        ----------
        folder : Path or None
            None if there are none any more.
        """
        os.ftruncate(self._lock, 0)
        if folder is not None:
            os.pwrite(self._lock, os.fsencode(folder), 0)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FluxTreeError(
                f"'{self.folder}': another run is at work there, wait for its end or give another"
                " folder"
            ) from None

    def _sweep(self) -> None:
        """Remove the temporary files of a run that was killed."""
        noted = os.pread(self._lock, 4096, 0)
        if noted and _work.is_ours(Path(os.fsdecode(noted))):
            shutil.rmtree(os.fsdecode(noted), ignore_errors=True)
        self.note_work(None)


def _status(folder: Path, data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            entry = json.loads(line)
            found[entry["cell"]] = entry["status"]
        except (ValueError, KeyError, TypeError):
            raise SourceError(
                f"'{folder / RESULTS}' line {number}: not the result of a cell, take the line out"
            ) from None
    return found
