"""sbcast of Slurm: a cluster of its own, with slurmctld on host 0 and a slurmd on every other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .bench import Bench, Case, Figures, PeerError, end, program, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "salloc", "sbcast", "sinfo", "squeue")

#: {local} is a folder of each host. The long time-outs are for blocks of 8 MB to many hosts.
CONFIG = """\
ClusterName=lab
SlurmctldHost={names[0]}({addresses[0]})
AuthType=auth/munge
AuthInfo=socket={local}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={local}/state
SlurmdSpoolDir={local}/spool
SlurmctldPidFile={local}/slurmctld.pid
SlurmdPidFile={local}/slurmd.pid
SlurmctldLogFile={local}/slurmctld.log
SlurmdLogFile={local}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/linear
SchedulerType=sched/builtin
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
MessageTimeout=300
SlurmdTimeout=0
"""

#: In a mount namespace, the folder {local} of a host is its own one: sbcast has the same path for
#: all, and the hosts share this machine's file system.
PRIVATE = 'mount --bind "$1" "$2" && exec slurmd -D'


class Slurm:
    """Peers: sbcast as it is by itself, and as a binary tree."""

    names = ("sbcast", "sbcast --fanout=2")

    def missing(self) -> str:
        absent = [name for name in PROGRAMS if not program(name)]
        return f"{', '.join(absent)} (Debian: slurm-wlm, munge)" if absent else ""

    @contextmanager
    def start(self, bench: Bench) -> Iterator[Case]:
        top = bench.work / "slurm"
        shutil.rmtree(top, ignore_errors=True)  # the jobs of the time before
        local = top / "host0"  # that of host 0 is in nobody's way
        folders = [top / f"host{host}" for host in range(bench.lab.hosts)]
        for folder in folders:
            for name in ("state", "spool"):
                (folder / name).mkdir(parents=True)
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        env = {**os.environ, "PATH": path, "SLURM_CONF": str(top / "slurm.conf")}
        _configure(bench, top, local)
        daemons = []
        try:
            munge = [
                bench.popen(host, _munged(top / "key", folder), env=env)
                for host, folder in enumerate(folders)
            ]
            daemons += munge
            wait_for(
                lambda: all((folder / "munge.sock").is_socket() for folder in folders),
                "munged is not there",
            )
            daemons.append(bench.popen(0, ["slurmctld", "-D"], env=env))
            for host in bench.receivers:
                command = ["unshare", "--mount", "sh", "-c", PRIVATE, "sh", folders[host], local]
                daemons.append(bench.popen(host, command, env=env))
            nodes = str(len(bench.receivers))
            wait_for(
                lambda: bench.run(["sinfo", "-h", "-tidle", "-o%D"], env=env).strip() == nodes,
                "slurmd is not there",
            )
            bench.run(["salloc", "--no-shell", f"-N{nodes}"], env=env)
            job = bench.run(["squeue", "-h", "-o%i"], env=env).strip()
            yield lambda name: _copy(bench, name, job, local, folders, env)
        finally:
            end(daemons[::-1])


def _configure(bench: Bench, top: Path, local: Path) -> None:
    names, addresses = bench.lab.names, bench.lab.addresses
    lines = [CONFIG.format(names=names, addresses=addresses, local=local)]
    for host in bench.receivers:
        lines.append(f"NodeName={names[host]} NodeAddr={addresses[host]} CPUs=1 State=UNKNOWN\n")
    lines.append(f"PartitionName=all Nodes={','.join(names[1:])} Default=YES State=UP\n")
    (top / "slurm.conf").write_text("".join(lines))
    (top / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # loaded, and not used
    (top / "key").touch(0o600)
    (top / "key").write_bytes(os.urandom(1024))


def _munged(key: Path, folder: Path) -> list[str]:
    files = [f"--{x}-file={folder}/munge.{x}" for x in ("pid", "seed", "log")]
    where = [f"--key-file={key}", f"--socket={folder}/munge.sock", *files]
    return ["munged", "--foreground", "--force", *where]


def _copy(
    bench: Bench, name: str, job: str, local: Path, folders: list[Path], env: dict[str, str]
) -> Figures:
    copy = local / "payload"
    figures = bench.timed([*name.split(), f"--jobid={job}", bench.source, copy], env=env)
    for host in bench.receivers:
        got = folders[host] / "payload"
        if not got.exists():
            raise PeerError(f"host {host} has nothing")
        got.rename(bench.to / str(host) / "payload")
    return figures
