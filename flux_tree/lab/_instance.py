"""Runs an instance of Flux in a lab, one broker a host, until its initial program ends.

A process of its own, on no host, started by `flux_tree.lab.Lab.flux` with the file of a set-up. Its
standard streams are those of the initial program, and so is its exit code.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from flux_tree import _namespace

__all__ = ["main"]

#: The exit code where no initial program came about.
EXIT_FAILED = 6
#: How long brokers have to end by themselves once rank 0's has, and after SIGTERM.
GRACE_S = 5.0
POLL_S = 0.05
PORT = 8050


def write_config(folder: Path, hosts: list[dict[str, Any]], topo: str | None) -> Path:
    """Write the configuration of all brokers.

    Parameters
    ----------
    folder : Path
        Where to.
    hosts : list of dict
        ``name``, ``address``, ``core``, and for a custom topology ``parent``, a host name.
    topo : str or None
        For ``tbon.topo``; None for a custom one.

    Returns
    -------
    Path
        The file.
    """
    lines = ["[bootstrap]", f"curve_cert = {json.dumps(str(folder / 'cert'))}", "hosts = ["]
    for h in hosts:
        entry: dict[str, str] = {key: h[key] for key in ("host", "parent") if key in h}
        entry["bind"] = entry["connect"] = f"tcp://{h['address']}:{PORT}"
        text = ", ".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        lines.append(f"  {{ {text} }},")
    lines.append("]")
    if topo is not None:
        lines += ["[tbon]", f"topo = {json.dumps(topo)}"]
    lines += ["[resource]", "noverify = true"]
    for h in hosts:
        lines += ["[[resource.config]]", f"hosts = {json.dumps(h['host'])}"]
        lines.append(f'cores = "{h["core"]}"')
    path = folder / "config.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Instance:
    """The brokers of one instance."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.flux: str = setup["flux"]
        self.hosts: list[dict[str, Any]] = setup["hosts"]
        self.argv: list[str] = setup["argv"]
        self.folder = Path(setup["folder"])
        subprocess.run([self.flux, "keygen", str(self.folder / "cert")], check=True)
        self.config = write_config(self.folder, self.hosts, setup["topo"])
        self.brokers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all brokers, rank 0's last: it is the one with the initial program."""
        for rank in [*range(1, len(self.hosts)), 0]:
            host = self.hosts[rank]
            _namespace.enter(host["net"], _namespace.NET)
            _namespace.enter(host["uts"], _namespace.UTS)
            rundir = self.folder / str(rank)
            rundir.mkdir(mode=0o700)
            command = [self.flux, "broker", f"--config-path={self.config}"]
            command += [f"-Srundir={rundir}", f"-Sstatedir={rundir}"]
            if rank == 0:
                self.brokers.insert(0, subprocess.Popen([*command, *self.argv]))
                continue
            with (self.folder / f"{rank}.err").open("wb") as err:
                self.brokers.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=err,
                        stderr=err,
                        start_new_session=True,  # Ctrl-C is for the initial program
                    )
                )

    def wait(self) -> int:
        """Wait for the initial program; return its exit code."""
        first = self.brokers[0]
        while first.poll() is None:
            for rank, broker in enumerate(self.brokers):
                if rank > 0 and broker.poll() not in (None, 0) and first.poll() is None:
                    self.lament(rank, broker.returncode)
                    return EXIT_FAILED
            time.sleep(POLL_S)
        return first.returncode if first.returncode >= 0 else 128 - first.returncode

    def lament(self, rank: int, code: int) -> None:
        """Say that a broker has ended before its time, and what it had to say itself."""
        lines = (self.folder / f"{rank}.err").read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        name = self.hosts[rank]["host"]
        print(f"flux-tree: error: the broker of {name} ended ({how}): {last}", file=sys.stderr)

    def end(self) -> None:
        """See to it that all brokers end."""
        for broker in self.brokers[:1]:
            if broker.poll() is None:
                broker.send_signal(signal.SIGTERM)
        if not self.settle():
            for broker in self.brokers:
                broker.send_signal(signal.SIGTERM)
            if not self.settle():
                for broker in self.brokers:
                    broker.kill()
                self.settle()
        shutil.rmtree(self.folder, ignore_errors=True)

    def settle(self) -> bool:
        """Give the brokers time to end; return whether all have."""
        deadline = time.monotonic() + GRACE_S
        while any(b.poll() is None for b in self.brokers):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


class _Stop(BaseException):
    pass


def _stop(*_: Any) -> None:
    raise _Stop


def main(path: str) -> None:
    """Run the instance that a file describes, and exit as its initial program did.

    Parameters
    ----------
    path : str
        JSON: ``hosts`` (``host``, ``address``, ``core``, ``net``, ``uts``, maybe ``parent``),
        ``topo``, ``argv``, ``flux``, ``folder``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setup = json.loads(Path(path).read_text())
    code = EXIT_FAILED
    instance = Instance(setup)
    signal.signal(signal.SIGTERM, _stop)
    try:
        instance.start()
        code = instance.wait()
    except _Stop:
        code = 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with suppress(ProcessLookupError):
            instance.end()
    sys.exit(code)
