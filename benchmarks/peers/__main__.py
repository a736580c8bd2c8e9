"""Measure all peers in turn."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from flux_tree.draw import new_figure, save_figure
from flux_tree.errors import FluxTreeError, UsageError
from flux_tree.lab import Lab
from flux_tree.units import format_bytes, format_rate, parse_bytes, parse_rate

from . import __doc__ as about
from .bench import Bench, Case, Group, PeerError, median
from .in_flux import InFlux
from .output import Runs, save_json, save_plot, table
from .rsync import Rsync
from .slurm import Slurm
from .torrent import Torrent

STRATEGIES = ["chain", "two-tree", "edst", "binomial", "kary:2"]
#: The first is Flux's default: jobs with the direct transport run there.
TOPOLOGIES = ["kary:32", "kary:1", "kary:2", "binomial"]

FAILED = (PeerError, FluxTreeError, OSError, subprocess.SubprocessError)


def all_groups() -> list[Group]:
    inside = [InFlux(topo, [] if i else STRATEGIES) for i, topo in enumerate(TOPOLOGIES)]
    return [*inside, Torrent(), Slurm(), Rsync()]


def choose(groups: list[Group], only: str) -> tuple[dict[Group, list[str]], dict[str, str]]:
    """Return the peers to measure, by group, and why others that were asked for are left out."""
    patterns = [p.strip() for p in only.split(",")]
    names = [name for group in groups for name in group.names]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"--only {pattern}: no such peer, there are: {', '.join(names)}")
    wanted, absent = {}, {}
    for group in groups:
        chosen = [n for n in group.names if any(fnmatchcase(n, p) for p in patterns)]
        reason = group.missing() if chosen else ""
        if reason:
            absent.update(dict.fromkeys(chosen, f"not installed: {reason}"))
        elif chosen:
            wanted[group] = chosen
    return wanted, absent


def measure(
    bench: Bench, wanted: dict[Group, list[str]], repeat: int
) -> tuple[Runs, dict[str, str]]:
    """Measure all peers in turn, so often; return their figures, and why others have none."""
    runs: Runs = {name: [] for names in wanted.values() for name in names}
    failed: dict[str, str] = {}
    for _ in range(repeat):
        for group, names in wanted.items():
            try:
                bench.renew()
                with group.start(bench) as case:
                    for name in names:
                        measure_one(bench, case, name, runs, failed)
            except FAILED as exc:
                failed.update({n: str(exc) for n in names})
    return {name: got for name, got in runs.items() if got}, failed


def measure_one(bench: Bench, case: Case, name: str, runs: Runs, failed: dict[str, str]) -> None:
    """Measure a peer, and add its figures or why there are none."""
    bench.renew()
    try:
        figures = case(name)
        bench.verify()
    except FAILED as exc:
        failed[name] = str(exc)
        print(f"{name}: {exc}", file=sys.stderr)
        return
    runs[name].append(figures)
    print(f"{name}: {figures.first:.2f} s", file=sys.stderr, flush=True)


def stop(number: int, _: object) -> None:
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=int, default=32)
    parser.add_argument("--rate", default="100mbit", help="of each NIC, each way")
    parser.add_argument("--size", default="100MiB")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many")
    parser.add_argument("--only", default="*", help="peers, with * and ?, separated by commas")
    parser.add_argument("--plot", metavar="FILE", help="draw the times into this file")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    os.environ["TMPDIR"] = "/dev/shm"  # where the lab has its folder: no disk is measured
    signal.signal(signal.SIGTERM, stop)
    wanted, absent = choose(all_groups(), args.only)
    size = parse_bytes(args.size)
    if size == 0:
        raise UsageError("--size 0: nothing to broadcast, give at least 1")
    for path in filter(None, (args.plot, args.json)):
        if not Path(path).resolve().parent.is_dir():
            raise UsageError(f"{path}: no such folder, give another file")
    with Lab(hosts=args.hosts, rate=parse_rate(args.rate)) as lab:
        if args.plot:  # better now than when all is measured
            save_figure(new_figure(1, 1), lab.folder / Path(args.plot).name)
        bench = Bench(lab, size)
        runs, failed = measure(bench, wanted, args.repeat)
        goodput, line = lab.goodput(), bench.line
    title = f"{format_bytes(size)} to {args.hosts} hosts with {args.rate} NICs"
    print(f"{title}: line time {line:.2f} s at {format_rate(goodput)}\n")
    ordered = dict(sorted(runs.items(), key=lambda item: median(item[1]).first))
    print("\n".join(table(ordered, line)))
    for name, reason in {**absent, **failed}.items():
        print(f"{name}: {'a run failed' if name in runs else 'left out'}, {reason}")
    if args.plot and runs:
        save_plot(args.plot, runs, line, title)
    if args.json:
        facts = {"hosts": args.hosts, "rate": lab.rate, "size": size, "goodput": goodput}
        facts.update(line_s=line, processors=os.cpu_count(), left_out={**absent, **failed})
        save_json(args.json, runs, facts)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FluxTreeError as exc:
        print(f"peers: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
