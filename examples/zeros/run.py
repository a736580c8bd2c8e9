"""The same experiment with zeros and with random data, side by side, and why they differ.

    sudo .venv/bin/python examples/zeros/run.py [FOLDER]

Runs design.yaml in the lab (real brokers, one a host, NICs of 200 Mbit/s), analyses it, and prints
for each topology how long 'flux archive extract' took to all nodes and what left the NIC of rank 0.
FOLDER is where the results go; started again with the same one it goes on where it was.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from flux_tree import FluxTreeError, Topology, strategies
from flux_tree.experiment import Design, analyze, run
from flux_tree.units import format_bytes, format_seconds

MIB = 1 << 20
EVENT = "distribute-all-nodes"

EXPLANATION = """
Why zeros show nothing. 'flux archive create' cuts a file into blobs of 1 MiB, and the content
store keeps equal blobs once. {size} of zeros is {blobs} times the same blob, so a node fetches
one blob and has all of them: whatever the size of the file, 1 MiB went down each edge of the
tree. What is timed is the starting of {nodes} commands and the writing of the file, and neither
asks for the shape of the tree.

With random data every blob has to come, and a broker sends it to each of its children: the time
is the fan-out times the line time (the file over what one NIC carries, {line} here), plus the way
down. 'predicted' is that figure for each tree.
"""


def medians(folder: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Return seconds and bytes that rank 0 sent, for each topology and kind of data."""
    found = defaultdict(list)
    for line in (folder / "results.jsonl").read_text().splitlines():
        cell = json.loads(line)
        for event in cell["events"]:
            if event["event"] == EVENT and cell["status"] == "ok":
                key = cell["topology"], cell["data"]
                found[key].append((event["time_s"], event["sent"]))
    return {
        key: (statistics.median(t for t, _ in values), statistics.median(b for _, b in values))
        for key, values in found.items()
    }


def main() -> None:
    """Run it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "zeros-results")
    design = Design.read(Path(__file__).with_name("design.yaml"))

    def progress(p) -> None:
        if p.result is not None:
            left = format_seconds(p.seconds_left)
            print(f"{p.done}/{p.total}, about {left} left   ", end="\r", flush=True)

    summary = run(design, folder, progress=progress)
    report = analyze(folder).report
    print(" " * 40, end="\r")
    goodput = json.loads((folder / "environment.json").read_text())["goodput"]
    size, nodes = design.sizes[0], design.nodes[0]
    found = medians(folder)
    print(f"{'':10}{'zeros':>20}{'random':>20}{'predicted':>12}")
    print(f"{'topology':10}{'time':>10}{'sent':>10}{'time':>10}{'sent':>10}{'time':>12}")
    for spec in design.topologies:
        topology = Topology.from_spec(spec, nodes)
        seconds = strategies.plan("all", topology).cost(size, goodput, 0, MIB)
        line = f"{spec:10}"
        for data in ("zeros", "random"):
            time, sent = found[spec, data]
            line += f"{format_seconds(time):>10}{format_bytes(sent):>10}"
        print(f"{line}{format_seconds(seconds):>12}")
    print(
        EXPLANATION.format(
            size=format_bytes(size),
            blobs=size // MIB,
            nodes=nodes - 1,
            line=format_seconds(size / goodput),
        )
    )
    print(f"{summary.ok} of {summary.total} cells worked; the whole report is in {report}")


if __name__ == "__main__":
    try:
        main()
    except FluxTreeError as exc:
        print(f"zeros: error: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
