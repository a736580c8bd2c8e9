"""``flux-tree calibrate``: measure the network's numbers, and store them for all predictions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._output import on_terminal, say, say_figures
from ._params import RATE, json_option

if TYPE_CHECKING:
    from ..model import Network

__all__ = ["command"]

#: Of a lab that is asked for by one option alone.
HOSTS, LAB_RATE = 4, 12.5e6


@click.command("calibrate", short_help="Measure the network, for predictions.")
@click.option(
    "-N", "--nodes", metavar="N", type=int, help="Flux: how many nodes take part.  [default: all]"
)
@click.option(
    "--hosts", metavar="N", type=int, help="In a lab of so many hosts (needs root).  [default: 4]"
)
@click.option(
    "--rate",
    metavar="RATE",
    type=RATE,
    help="In a lab: of each NIC, in each direction.  [default: 100mbit]",
)
@click.option(
    "--disk",
    metavar="DIR",
    type=click.Path(),
    help="Measure what can be written to this folder, too; else no disk is reckoned with.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Where to store the numbers.  [default: where predictions look for them]",
)
@click.option("--dry-run", is_flag=True, help="Measure, but store nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and --json).")
@json_option
def command(
    nodes: int | None,
    hosts: int | None,
    rate: float | None,
    disk: str | None,
    output: str | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure what predictions reckon with, and store it.

    Inside an instance of Flux (FLUX_URI is set) it is measured between its nodes, by some short
    jobs; run it on the first node. With --hosts or --rate it is measured in a lab of this machine,
    as 'flux-tree lab' makes it. Elsewhere it is measured between processes of this machine. That
    takes 5 to 40 seconds; what else runs there meanwhile spoils the numbers.

    The file is $FLUX_TREE_NETWORK, or flux-tree/network.json in ~/.config. It is replaced as a
    whole at the end, or stays as it was.

    \b
    Examples:
      flux-tree calibrate
      flux alloc -N16 flux-tree calibrate --disk /local
      sudo flux-tree calibrate --hosts 4 --rate 1gbit --output lab.json
      flux-tree calibrate --dry-run --json
    """
    from ..model import network_path

    target = None if dry_run else Path(output) if output is not None else network_path()
    if target is not None:
        _check_target(target)
    network = _measure(nodes, hosts, rate, disk, quiet)
    if target is not None:
        network.save(target)
    if as_json:
        path = None if target is None else str(target)
        click.echo(json.dumps({"path": path, "network": network.to_dict()}))
    elif not quiet:
        say_figures(_figures(network))
        say()
        say(_where(target, network_path()))


def _measure(
    nodes: int | None, hosts: int | None, rate: float | None, disk: str | None, quiet: bool
) -> Network:
    from ..calibration import calibrate_flux, calibrate_lab, calibrate_local
    from ..errors import UsageError

    in_lab = hosts is not None or rate is not None
    if in_lab and nodes is not None:
        raise UsageError("--nodes: of an instance of Flux, leave out it or --hosts and --rate")
    options: dict[str, Any] = {"disk": disk}
    if not quiet and on_terminal(sys.stderr):
        options["progress"] = _notify
    if in_lab:
        from ..lab import Lab

        with Lab(HOSTS if hosts is None else hosts, LAB_RATE if rate is None else rate) as lab:
            return calibrate_lab(lab, **options)
    if os.environ.get("FLUX_URI") or nodes is not None:
        return calibrate_flux(None, nodes, notify=None if quiet else _notify, **options)
    return calibrate_local(**options)


def _notify(line: str) -> None:
    say(f"flux-tree: {line}", err=True)


def _check_target(target: Path) -> None:
    """Refuse a file that cannot be written before anything is measured."""
    import tempfile

    from ..errors import UsageError

    if target.is_dir():
        raise UsageError(f"{target}: it is a directory, give a file")
    above = target.absolute().parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise UsageError(f"{target}: cannot be written ({above} is no directory)")
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as exc:
        raise UsageError(f"{target}: cannot be written ({exc.strerror})") from None


def _figures(network: Network) -> list[tuple[str, str, str]]:
    """Return the numbers with their units; what was not measured says so."""
    from ..units import format_bytes, format_rate, format_seconds

    rows = [("measured", network.origin, "")]
    for name, what in _NUMBERS.items():
        value = getattr(network, name)
        if name == "burst" and not value:
            continue
        if name == "processors":
            text = "-" if value is None else str(value)
            what = "each rank has its own" if value is None else what
        elif value is None:
            text, what = "-", "no bound" if name != "disk" else _NO_DISK
        elif name == "burst":
            text = format_bytes(int(value))
        elif name in ("bandwidth", "encryption", "disk", "broker"):
            text = format_rate(value, bits=name == "bandwidth")
        else:
            text = format_seconds(value)
        if name in _BROKERS and value == _typical(name):
            what += "; typical, not measured"
        rows.append((name, text, what))
    return rows


def _typical(name: str) -> Any:
    from ..model import Network

    return getattr(Network, name)


def _where(target: Path | None, read: Path) -> str:
    if target is None:
        return "stored nowhere (--dry-run)"
    if target.absolute() == read.absolute():
        return f"stored in {target}, where predictions and the strategy 'auto' read it"
    return f"stored in {target}; FLUX_TREE_NETWORK={target} has predictions read it"


_NO_DISK = "not measured (--disk), and so no bound"
_BROKERS = ("per_blob", "broker", "per_load", "extract_start")
_NUMBERS = {
    "bandwidth": "of one NIC, each way, of payload",
    "burst": "passes an idle NIC of a lab at once",
    "latency": "from one rank to another",
    "start": "until a rank begins to connect",
    "per_connection": "processor time at each end of a new connection",
    "per_chunk": "processor time at each end of a chunk",
    "encryption": "a processor encrypts, or decrypts and checks",
    "disk": "one rank can write",
    "processors": "that all ranks share",
    "per_blob": "processor time of a blob in a broker of Flux",
    "broker": "a broker takes in, beside that",
    "per_load": "a rank takes for a blob that its broker has",
    "extract_start": "until an extraction asks for its first blob",
}
