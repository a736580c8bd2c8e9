"""Debian's docker-registry, on the loopback interface: for tests and benchmarks."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oras.client
import oras.provider

TOP = Path(__file__).resolve().parent.parent
#: Where it may be unpacked, without a service that is installed along.
UNPACKED = TOP / ".venv" / "registry" / "usr" / "bin" / "docker-registry"

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""


def find_registry() -> str | None:
    """Return the program; None if there is none."""
    return shutil.which("docker-registry") or (str(UNPACKED) if UNPACKED.exists() else None)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def registry(folder: Path, htpasswd: str | None = None) -> Iterator[str]:
    """Run a registry with its data in `folder`; yield its host and port.

    Parameters
    ----------
    folder : Path
        Exists.
    htpasswd : str, optional
        Lines of a file of htpasswd, in bcrypt: only who is in it may come in.
    """
    program = find_registry()
    assert program is not None
    port = free_port()
    auth = ""
    if htpasswd is not None:
        (folder / "htpasswd").write_text(htpasswd)
        auth = f"auth: {{htpasswd: {{realm: here, path: {folder}/htpasswd}}}}"
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder, port=port, auth=auth))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait(process, port, folder)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "docker-registry does not listen"
            time.sleep(0.02)


def client(login: tuple[str, str] | None = None) -> oras.provider.Registry:
    """Return oras's own client, to push with."""
    found = oras.client.OrasClient(insecure=True, auth_backend="basic" if login else "token")
    if login:
        found.auth.set_basic_auth(*login)
    return found


def push(host: str, name: str, files: list[Path], login: tuple[str, str] | None = None) -> None:
    """Push files and directories, by their own names."""
    client(login).push(
        target=f"{host}/{name}",
        files=[str(f) for f in files],
        disable_path_validation=True,
        quiet=True,
    )
