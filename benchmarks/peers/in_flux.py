"""The peers inside Flux: the plugin of flux-tree, flux archive, stage-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flux_tree

from .bench import Bench, Case, Figures, PeerError, end, wait_for

RC = Path(flux_tree.__file__).parent / "shell"

#: Says where the instance is, and holds it open until its standard input ends.
KEEP = 'echo "$FLUX_URI" >"$0.new" && mv "$0.new" "$0" && exec cat'
#: The times of the two empty files are those of a rank's extraction.
EXTRACT = 'cd "$0/to/$(hostname)" && : >"$0/begin.$(hostname)" && \
flux archive extract && : >"$0/end.$(hostname)"'


class InFlux:
    """Peers in an instance with one TBON.

    Parameters
    ----------
    topo : str
        Its ``tbon.topo``.
    strategies : list of str
        Those that are measured there with the direct transport.
    """

    def __init__(self, topo: str, strategies: list[str]) -> None:
        self.topo = topo
        self.names = [f"direct {s}" for s in strategies]
        self.names += [f"{kind} {topo}" for kind in ("content", "extract", "stage-in")]

    def missing(self) -> str:
        return "" if shutil.which("flux") else "flux-core, with flux on PATH"

    @contextmanager
    def start(self, bench: Bench) -> Iterator[Case]:
        uri = bench.work / "uri"
        uri.unlink(missing_ok=True)
        log = bench.work / "flux.err"
        with log.open("wb") as err:
            keep = ["sh", "-c", KEEP, str(uri)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": err}
            # what brokers leave when they are killed goes with the lab's folder
            env = {**os.environ, "TMPDIR": str(bench.work)}
            instance = bench.lab.flux(keep, topo=self.topo, env=env, **pipes)
        try:
            wait_for(
                lambda: uri.exists() or instance.poll() is not None, "no instance of Flux", 120.0
            )
            if not uri.exists():
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise PeerError(f"the instance of Flux ended ({''.join(last) or instance.poll()})")
            env.update(FLUX_URI=uri.read_text().strip(), FLUX_SHELL_RC_PATH=str(RC))
            cases = _Cases(bench, env)
            cases.job("true")  # waits until all brokers are up
            yield cases.measure
        finally:
            end([instance], 60.0)


class _Cases:
    """The peers in an instance that is there."""

    def __init__(self, bench: Bench, env: dict[str, str]) -> None:
        self.bench, self.env = bench, env
        self.all = f"-N{bench.lab.hosts}"

    def measure(self, name: str) -> Figures:
        kind, _, what = name.partition(" ")
        if kind == "direct":
            return self.broadcast(strategy=what, file=str(self.bench.source))
        create = self.flux("archive", "create", "--mmap", "-C", self.bench.work, "payload")
        methods = {"content": self.content, "extract": self.extract, "stage-in": self.stage_in}
        try:
            figures = methods[kind]()
        finally:
            self.flux("archive", "remove")
        assert figures.command is not None and create.command is not None
        figures.created = figures.command + create.command
        return figures

    def broadcast(self, **keys: str) -> Figures:
        report = self.bench.work / "report"
        keys["destination"] = f"{self.bench.to}/{{rank}}"
        keys["members"] = f"1-{self.bench.lab.hosts - 1}"
        keys["report"] = str(report)
        figures = self.job("true", *(f"-otree-bcast.{k}={v}" for k, v in keys.items()))
        figures.slowest = flux_tree.Result.load(report).summary()["slowest_s"]
        report.unlink()
        return figures

    def content(self) -> Figures:
        return self.broadcast(transport="content")

    def extract(self) -> Figures:
        figures = self.flux("exec", "-x", "0", "sh", "-c", EXTRACT, self.bench.work)
        stamps = [
            [self.bench.work / f"{what}.{self.bench.lab.names[h]}" for h in self.bench.receivers]
            for what in ("begin", "end")
        ]
        begins, ends = ([p.stat().st_mtime for p in paths] for paths in stamps)
        figures.slowest = max(ends) - min(begins)
        return figures

    def stage_in(self) -> Figures:
        # a rename, to where all peers put it
        script = f'mv "$FLUX_JOB_TMPDIR/payload" "{self.bench.to}/$FLUX_TASK_RANK"'
        figures = self.job("-ostage-in", "sh", "-c", script)
        job = self.bench.run(["flux", "job", "last"], env=self.env).strip()
        command = ["flux", "job", "eventlog", "-f", "json", "-p", "exec", job]
        events = [json.loads(line) for line in self.bench.run(command, env=self.env).splitlines()]
        when = {e["name"]: e["timestamp"] for e in events}
        figures.slowest = when["shell.start"] - when["starting"]
        return figures

    def job(self, *argv: object) -> Figures:
        options = [a for a in argv if str(a).startswith("-otree-bcast.")]
        rest = [a for a in argv if a not in options]
        return self.flux("run", self.all, *options, *rest)

    def flux(self, *argv: object) -> Figures:
        return self.bench.timed(["flux", *argv], env=self.env)
