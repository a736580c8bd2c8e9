"""Broadcast real data to eight ranks under three strategies, compare every byte, and show it.

Run by ``make demo``: the directory of Python's standard library, and a real model file if there is
one in the output directory. Where Flux is on PATH, all of it runs in an instance of eight brokers,
as jobs; elsewhere, between processes of this machine.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

RANKS = 8
STRATEGIES = ("chain", "kary:2", "two-tree")
ROOM = 4 << 30
#: The argument with which this program is started inside an instance of Flux.
INSIDE = "--inside-flux"


def same(a: Path, b: Path) -> bool:
    """Compare two files or directories, byte by byte, with modes, times and links."""
    if a.is_symlink() or b.is_symlink():
        return a.is_symlink() and b.is_symlink() and os.readlink(a) == os.readlink(b)
    x, y = a.stat(), b.stat()
    if x.st_mode != y.st_mode or x.st_mtime_ns != y.st_mtime_ns:
        return False
    if not a.is_dir():
        return filecmp.cmp(a, b, shallow=False)
    names = sorted(os.listdir(a))
    return names == sorted(os.listdir(b)) and all(same(a / n, b / n) for n in names)


def run(*command: str) -> None:
    """Show a command of flux-tree and run it."""
    print(f"\n$ {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "flux_tree", *command[1:]], check=True)


def run_job(*command: str) -> None:
    """Show a command of Flux and run it, set up as ``eval "$(flux-tree env)"`` does."""
    print(f"\n$ {' '.join(command)}", flush=True)
    setup = 'eval "$("$0" -m flux_tree env)" && exec "$@"'
    subprocess.run(["sh", "-c", setup, sys.executable, *command], check=True)


def compare(source: Path, work: Path) -> None:
    """Compare every copy with the source; end the program if one is not the same."""
    wrong = [r for r in range(RANKS) if not same(source, work / str(r))]
    if wrong:
        sys.exit(f"ranks {wrong}: not the same as {source}, see {work}")
    print(f"{RANKS} copies compared with {source}: every byte the same", flush=True)


def broadcast(source: Path, out: Path, top: Path, inside: bool) -> None:
    """Broadcast a source under each of the strategies, and once before the tasks of a job."""
    for strategy in STRATEGIES:
        # removed only at the end: ext4 is slow to create where much was just removed
        work = top / strategy.replace(":", "-")
        work.mkdir()
        picture = out / f"{source.name}-{strategy.replace(':', '-')}.png"
        run(
            *("flux-tree", "bcast", str(source), f"{work}/{{rank}}"),
            *(() if inside else ("--ranks", str(RANKS))),
            *("--strategy", strategy, "--plot", str(picture)),
        )
        compare(source, work)
    if inside:
        work = top / "job"
        work.mkdir()
        report = top / "report.json"
        run_job(
            *("flux", "run", f"-N{RANKS}", "-o", "tree-bcast.strategy=two-tree"),
            *("-o", f"tree-bcast.file={source}", "-o", f"tree-bcast.destination={work}/{{rank}}"),
            *("-o", f"tree-bcast.report={report}"),
            *("sh", "-c", f"test -e {work}/$FLUX_TASK_RANK"),
        )
        compare(source, work)
        run("flux-tree", "report", str(report))


def main() -> int:
    """Run the demonstration; return an exit code."""
    out = Path(sys.argv[1])
    inside = INSIDE in sys.argv
    if shutil.which("flux") and not inside:
        command = ["flux", "start", f"--test-size={RANKS}", sys.executable, *sys.argv, INSIDE]
        print(f"$ {' '.join(command[:3])} ...", flush=True)
        return subprocess.run(command).returncode
    out.mkdir(exist_ok=True)
    # the library without what is installed into it
    library = out / "library"
    shutil.rmtree(library, ignore_errors=True)
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        library,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "dist-packages"),
    )
    model = out / "model"
    sources = [library] + ([model] if model.exists() else [])
    run("flux-tree", "topology", "kary:2", "--size", str(RANKS))
    for source in sources:
        # memory if there is enough, so that no disk is what is measured
        memory = Path("/dev/shm")
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
        top = Path(tempfile.mkdtemp(prefix="flux-tree-demo-", dir=memory if roomy else out))
        broadcast(source.resolve(), out, top.resolve(), inside)
        shutil.rmtree(top)
    print(f"\nThe pictures are in {out}/*.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
