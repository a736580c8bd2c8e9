"""The processes of a lab: all of them in one namespace, which ends with its first one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .. import _namespace
from ..errors import LabError

__all__ = ["Processes", "python_command"]

#: How long the processes of a lab may take to be gone.
END_S = 15.0

_START = "import sys; sys.path += sys.argv[2:]; from {} import main; main(sys.argv[1])"


class Processes:
    """The process namespace of a lab, and the first process in it, that the others die with.

    Parameters
    ----------
    folder : Path
        Of the lab; removed at the end.
    lock : int
        A file descriptor that is held until then.

    Raises
    ------
    LabError
        On entering, if the kernel refuses.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = str(folder)
        self._lock = lock

    def __enter__(self) -> Processes:
        self._process = _namespace.in_thread(self._start)
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._process.stdout as out:
            ready = out.readline()
        if ready != b"ready\n":
            self._process.stdin.close()
            self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)
            why = os.fsdecode(ready).strip() or "it died"
            raise LabError(f"lab: its processes cannot be kept apart from others ({why})")
        names = {_namespace.PID: "pid", _namespace.MOUNT: "mnt"}
        where = f"/proc/{self._process.pid}/ns"
        self._namespaces = {
            kind: os.open(f"{where}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for kind, name in names.items()
        }
        return self

    def enter(self) -> None:
        """Have what the calling thread starts from now on be a process of the lab."""
        for kind, fd in self._namespaces.items():
            _namespace.enter(fd, kind)

    def release(self) -> None:
        """Have it kill all others, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __exit__(self, *_: object) -> None:
        self.release()
        for fd in self._namespaces.values():
            os.close(fd)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        _namespace.unshare(_namespace.PID)
        return subprocess.Popen(
            python_command("flux_tree.lab._keeper", self._folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._lock,),
            start_new_session=True,
        )


def python_command(module: str, argument: str) -> list[str]:
    """Return the command that runs a module of ours, where no other file can stand in for it.

    Parameters
    ----------
    module : str
        With a function ``main``, that imports only what Python itself has.
    argument : str
        What it is called with.

    Returns
    -------
    list of str
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    return [sys.executable, "-I", "-S", "-c", _START.format(module), argument, root]
