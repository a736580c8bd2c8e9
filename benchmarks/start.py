"""What the shell plugin costs a job that has nothing, or next to nothing, to move.

    python benchmarks/start.py [--brokers 8] [--repeat 15] [--shells 64]

In one instance of so many brokers on this machine, in turn, medians of the whole ``flux run``:
jobs that do not know the plugin, jobs that know it and do not ask for it, and jobs that broadcast
4 KiB. Then, in an instance of ``--shells`` brokers, how long their shells take to come together.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flux_tree

RC = Path(flux_tree.__file__).parent / "shell"


def run(brokers: int, rc: bool, *options: str) -> tuple[float, str]:
    env = {k: v for k, v in os.environ.items() if k != "FLUX_SHELL_RC_PATH"}
    if rc:
        env["FLUX_SHELL_RC_PATH"] = str(RC)
    command = ["flux", "run", f"-N{brokers}", *options, "true"]
    begin = time.perf_counter()
    done = subprocess.run(command, env=env, check=True, stderr=subprocess.PIPE, text=True)
    return time.perf_counter() - begin, done.stderr


def compare(brokers: int, repeat: int, work: Path) -> None:
    source = work / "source"
    source.write_bytes(os.urandom(4096))
    option = f"-otree-bcast=two-tree,file={source}"
    cases = {
        "without the plugin": (False, []),
        "option not given": (True, []),
        "4 KiB": (True, [option]),
    }
    got: dict[str, list[float]] = {name: [] for name in cases}
    run(brokers, False)
    for _ in range(repeat):
        for name, (rc, options) in cases.items():
            got[name].append(run(brokers, rc, *options)[0])
    base = statistics.median(got["without the plugin"])
    print(f"{brokers} shells{'':14}{'median s':>10}{'more by':>10}{'fastest':>10}")
    for name, values in got.items():
        median = statistics.median(values)
        print(f"{name:22}{median:10.3f}{median - base:+10.3f}{min(values):10.3f}")


def meet(brokers: int, repeat: int, work: Path) -> None:
    source = work / "source"
    source.write_bytes(os.urandom(4096))
    option = f"-otree-bcast=two-tree,file={source}"
    seconds = []
    for _ in range(repeat):
        text = run(brokers, True, option, "-overbose=1")[1]
        match = re.search(r"shells are here after ([0-9.]+) s", text)
        assert match is not None, text
        seconds.append(float(match[1]))
    median = statistics.median(seconds)
    print(f"{brokers} shells are together after {median:.3f} s, {max(seconds):.3f} s at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--shells", type=int, default=64)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not shutil.which("flux"):
        sys.exit("flux is not on PATH: install flux-core to run this")
    if args.inside:
        work, what = args.inside.split(":")
        if what == "compare":
            compare(args.brokers, args.repeat, Path(work))
        else:
            meet(args.shells, min(args.repeat, 5), Path(work))
        return
    with tempfile.TemporaryDirectory(prefix="flux-tree-bench-", dir="/dev/shm") as work:
        for what, size in (("compare", args.brokers), ("meet", args.shells)):
            again = [sys.executable, __file__, "--inside", f"{work}:{what}", *sys.argv[1:]]
            subprocess.run(["flux", "start", f"--test-size={size}", *again], check=True)


if __name__ == "__main__":
    main()
