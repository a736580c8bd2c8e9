"""A MiniCluster on this machine: what the operator's entrypoint does, on the hosts of a lab.

A pod is a host of the lab (`flux_tree.lab`): a network and a name of its own, and a view of the
file system in which its volumes, and the operator's /mnt/flux, stand where they should. The lines
are those of the operator's templates wait.sh and start.sh that have to do with what a manifest
says; images are not: all pods have the programs of this machine.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flux_support import SET_UP

#: As the operator has it, below the folder where it mounts its own volume.
CONFIG_ROOT = "/mnt/flux/config"

POD = r"""
set -e
mount --bind {pod}/mnt /mnt
mount --bind {pod}/shm /dev/shm
mount --bind {pod}/hosts /etc/hosts
set +e
{sidecars}
configroot={root}
cfg="${{configroot}}/etc/flux/config"
{init}
command="{command}"
export STATE_DIR=${{configroot}}/var/lib/flux
mkdir -p ${{STATE_DIR}} ${{configroot}}/run/flux
brokerOptions="-Stbon.fanout=256 \
  -Srundir=${{configroot}}/run/flux \
  -Sstatedir=${{STATE_DIR}} -Slocal-uri=local://$configroot/run/flux/local \
  -Stbon.connect_timeout=5s {topology} \
  -Slog-stderr-level=0 \
  -Slog-stderr-mode=local"
{pre}
if [ $(hostname) == "{main}" ]; then
    {broker_pre}
    flags="{flags}"
    flux start -o --config ${{cfg}} ${{brokerOptions}} {run}
    echo $? > {pod}/code
else
    {worker_pre}
    flux start -o --config ${{cfg}} ${{brokerOptions}}
fi
{post}
wait
"""

#: What it sets in broker.toml, with addresses in place of names that only a cluster resolves.
BROKER = """\
[resource]
path = "{root}/etc/flux/system/R"

[bootstrap]
curve_cert = "{root}/curve/curve.cert"
default_port = 8050
default_bind = "tcp://eth0:%p"
hosts = [
{hosts}]
"""


class Pods:
    """The pods of a MiniCluster.

    Parameters
    ----------
    lab : Lab
        With as many hosts as it has pods, at least.
    manifest : dict
        Of the MiniCluster.
    folder : Path
        For what the pods have.
    files : dict
        What the ConfigMaps and Secrets have, by their names: ``{"name": {"key": bytes}}``.
    services : dict
        Addresses of other hosts of the lab, by the names that pods know them by.
    keep : sequence of Path
        For each pod the folder of its node, if earlier pods have left one.
    """

    def __init__(
        self,
        lab: Any,
        manifest: dict[str, Any],
        folder: Path,
        files: dict[str, dict[str, bytes]] | None = None,
        services: dict[str, str] | None = None,
        keep: Sequence[Path] = (),
    ) -> None:
        self.lab = lab
        self.spec = manifest["spec"]
        self.size = self.spec["size"]
        self.folder = folder
        self.files = files or {}
        self.services = services or {}
        containers = self.spec["containers"]
        (self.runner,) = (c for c in containers if c.get("runFlux") or len(containers) == 1)
        self.sidecars = [c for c in containers if c is not self.runner]
        self.keep = keep
        self.processes: list[subprocess.Popen[Any]] = []
        # as in a pod: Flux shows what jobs write at once on a terminal, and else when they end
        self.terminal, self.slave = os.openpty()
        self.text = b""

    def pod(self, rank: int) -> Path:
        """Return the folder of a pod."""
        return self.folder / str(rank)

    def __enter__(self) -> Pods:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()  # if it has not ended; what it started ends with the lab
            process.wait()
        os.close(self.terminal)

    def start(self) -> None:
        """Start all pods."""
        self.folder.mkdir(exist_ok=True)
        cert = self.folder / "curve.cert"
        subprocess.run(["flux", "keygen", str(cert)], check=True)
        names = ",".join(self.lab.names[: self.size])
        resources = subprocess.run(
            ["flux", "R", "encode", f"--hosts={names}", "--local"], check=True, capture_output=True
        ).stdout
        for rank in range(self.size):
            config = self.pod(rank) / "mnt" / "flux" / "config"
            for name in ("etc/flux/config", "etc/flux/system", "curve"):
                (config / name).mkdir(parents=True)
            (config / "etc/flux/config/broker.toml").write_text(self._broker())
            (config / "etc/flux/system/R").write_bytes(resources)
            (config / "curve/curve.cert").touch(mode=0o600)
            (config / "curve/curve.cert").write_bytes(cert.read_bytes())
            self._volumes(rank)
            self.processes.append(self._start(rank))
        os.close(self.slave)

    def lines(self, seconds: float = 60.0) -> Iterator[str]:
        """Yield the lines of the first pod's log as they come, until its end."""
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self.text:
                line, _, self.text = self.text.partition(b"\n")
                yield line.decode().rstrip("\r")
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.terminal], [], [], left)[0], "the first pod writes nothing"
            try:
                part = os.read(self.terminal, 1 << 16)
            except OSError:  # the last one who had it open has gone
                part = b""
            if not part:
                return
            self.text += part

    def wait(self, seconds: float = 60.0) -> str:
        """Wait for the end of all pods; return the log of the first one."""
        out = "\n".join(self.lines(seconds)) + "\n"
        for process in self.processes:
            process.wait(seconds)
        return out

    @property
    def code(self) -> int:
        """The exit code of the first broker."""
        return int((self.pod(0) / "code").read_text())

    def _start(self, rank: int) -> subprocess.Popen[Any]:
        script = self.folder / f"pod-{rank}.sh"
        script.write_text(self._script(rank))
        environment = {
            **SET_UP,
            **self.runner.get("environment", {}),
            # python3 and flux-tree are those of the tests, as they are those of the image
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return self.lab.popen(
            rank,
            ["unshare", "--mount", "--propagation", "private", "bash", str(script)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.slave if rank == 0 else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )

    def _script(self, rank: int) -> str:
        commands = self.runner.get("commands", {})
        flux = self.spec.get("flux", {})
        size, tasks = self.size, self.spec.get("tasks", 1)
        nodes = f"-N {size} -n{tasks}" if tasks >= size else f"-n{tasks}"
        launcher = self.runner.get("launcher", False)
        quiet = self.spec.get("logging", {}).get("quiet", False)
        # behind the last line, so that it may be a redirection of that one
        silence = " > /dev/null 2>&1" if quiet else ""
        return POD.format(
            pod=self.pod(rank),
            root=CONFIG_ROOT,
            main=self.lab.names[0],
            command=self.runner["command"],
            flags=f"{nodes} {flux.get('optionFlags', '')}",
            topology=f"-Stbon.topo={flux['topology']}" if "topology" in flux else "",
            run="${command}" if launcher else "flux submit ${flags} --quiet --watch ${command}",
            init=commands.get("init", "") + (" > /dev/null" if quiet else ""),
            pre=commands.get("pre", "") + silence,
            broker_pre=commands.get("brokerPre", "") + silence,
            worker_pre=commands.get("workerPre", "") + silence,
            post=commands.get("post", ""),
            sidecars="\n".join(self._sidecar(rank, container) for container in self.sidecars),
        )

    def _sidecar(self, rank: int, container: dict[str, Any]) -> str:
        # of each pod its own: others read theirs while this one is written
        script = self.pod(rank) / f"{container['name']}.sh"
        script.write_text(f"{container['command']}\n")
        return f"bash {script} > {script.with_suffix('.log')} 2>&1 &"

    def _broker(self) -> str:
        hosts = "".join(
            f'  {{ host = "{name}", connect = "tcp://{address}:8050" }},\n'
            for name, address in zip(self.lab.names[: self.size], self.lab.addresses)
        )
        return BROKER.format(root=CONFIG_ROOT, hosts=hosts)

    def _volumes(self, rank: int) -> None:
        pod = self.pod(rank)
        (pod / "shm").mkdir()
        lines = ["127.0.0.1 localhost", *(f"{ip} {name}" for name, ip in self.services.items())]
        (pod / "hosts").write_text("\n".join(lines) + "\n")
        for volume in self.runner.get("volumes", {}).values():
            if volume.get("emptyDir"):
                continue  # it is at /dev/shm, whatever its path
            path = Path(volume["path"])
            assert path.parent == Path("/mnt"), "the tests have volumes in /mnt only"
            folder = pod / "mnt" / path.name
            if "hostPath" in volume and self.keep:
                folder.symlink_to(self.keep[rank])
                continue
            folder.mkdir()
            name = volume.get("configMapName") or volume.get("secretName")
            for key, data in self.files.get(name, {}).items():
                (folder / volume.get("items", {}).get(key, key)).write_bytes(data)
