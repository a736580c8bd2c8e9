"""``flux-tree experiment``: design an experiment, run it, analyse it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import click

from ._cluster import cluster_options, take_options, with_overrides
from ._output import on_terminal, say
from ._params import RATE

if TYPE_CHECKING:
    from ..experiment import Design, Progress
    from ..experiment._estimate import Estimate

__all__ = ["command"]

#: The module in this package of each subcommand that has one of its own.
ELSEWHERE = {"analyze": "_experiment_analyze"}


class Subcommands(click.Group):
    """A group that imports a subcommand of another file when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands, in the order in which they are used."""
        return [*self.commands, *ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand; None if there is none of that name."""
        if cmd_name in ELSEWHERE:
            module = import_module(f".{ELSEWHERE[cmd_name]}", __package__)
            found: click.Command = module.command
            return found
        return super().get_command(ctx, cmd_name)


@click.group("experiment", cls=Subcommands, short_help="Design, run and analyse an experiment.")
def command() -> None:
    """Measure how topologies, strategies and transports compare: design, run, analyse.

    An experiment is every combination of the lists in a design file, each run several times in
    random order. It can be stopped at any time, and goes on where it was. It runs here: between
    processes of this machine, with real brokers on it, or in the lab, where each host has a NIC of
    its own.

    \b
    Examples:
      flux-tree experiment design --backend flux-start --nodes 8 --sizes 1MiB,8MiB -o design.yaml
      flux-tree experiment run design.yaml --output results
      flux-tree experiment run design.yaml --output results --json | jq .failed
      flux-tree experiment analyze results
    """


def _names(ctx: Any, param: Any, value: str | None) -> list[str] | None:
    """Take a list of names apart; one file of strategies may be among them."""
    return None if value is None else [part.strip() for part in value.split(",")]


@command.command("design", short_help="Write a design, and estimate how long it takes.")
@click.option(
    "--backend",
    metavar="LIST",
    callback=_names,
    default="local",
    show_default=True,
    help="Where: local, flux-start, lab, lab-flux, kubernetes.",
)
@click.option("--nodes", metavar="LIST", default="8", show_default=True, help="Ranks: 8,16 or 4-8.")
@click.option(
    "--topologies",
    metavar="LIST",
    callback=_names,
    default="study",
    show_default=True,
    help="Trees of brokers: kary:1,binomial, or study, the set of the flux-distribute study.",
)
@click.option(
    "--strategies",
    metavar="LIST",
    callback=_names,
    default="all,leaves,middle-leaves",
    show_default=True,
    help="Who passes it on to whom: see 'flux-tree strategies'.",
)
@click.option(
    "--transports",
    metavar="LIST",
    callback=_names,
    help="content, direct, ping.  [default: content,direct where there is Flux]",
)
@click.option(
    "--sizes",
    metavar="LIST",
    callback=_names,
    default="1MiB,8MiB",
    show_default=True,
    help="Of the payload.",
)
@click.option("--ping-sizes", metavar="LIST", callback=_names, help="Of pings.")
@click.option(
    "--data",
    metavar="LIST",
    callback=_names,
    default="random",
    show_default=True,
    help="random, zeros (as the study had), or both.",
)
@click.option("--iterations", metavar="N", type=int, default=3, show_default=True)
@click.option(
    "--rate",
    metavar="RATE",
    type=RATE,
    default="100mbit",
    show_default=True,
    help="Of each NIC in the lab.",
)
@click.option("--seed", metavar="N", type=int, help="For data and order.  [default: drawn]")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    default="design.yaml",
    show_default=True,
    help="The file to write; - prints it.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def design_command(output: str, force: bool, as_json: bool, **options: Any) -> None:
    """Write a design, a file to read and change, and say about how long it will take.

    LIST is separated by commas. Every key has a comment in the file.

    \b
    Examples:
      flux-tree experiment design -o design.yaml
      flux-tree experiment design --backend lab-flux --topologies kary:1,kary:2,binomial \\
        --sizes 8MiB --data random,zeros --rate 200mbit -o design.yaml
      flux-tree experiment design --backend flux-start --transports ping --ping-sizes 0,1MiB
    """
    import json

    from ..errors import DestinationError

    design = _make_design(options)
    estimate = _estimate(design)
    text = design.to_yaml()
    if output == "-":
        say(text.rstrip("\n"))
        say(_estimate_text(estimate), err=True)
        return
    if os.path.lexists(output) and not force:
        raise DestinationError(f"'{output}' exists, give another file or --force")
    new = f"{output}.new"
    try:
        with open(new, "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(new, output)
    except OSError as exc:
        with suppress(OSError):
            os.unlink(new)
        raise DestinationError(f"'{output}': {exc.strerror}, give another file") from None
    if as_json:
        click.echo(json.dumps({"design": output, **estimate._asdict()}))
        return
    say(f"design in {output}")
    say(_estimate_text(estimate))
    say(f"next: flux-tree experiment run {output} --output FOLDER")


@command.command("run")
@click.argument("design", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(),
    help="Where the results go; a run that was stopped goes on there.",
)
@click.option("--retry-failed", is_flag=True, help="Run the cells that failed again.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the cells that would be run, in order; of Kubernetes their manifests.",
)
@click.option("--backend", metavar="NAME", help="Where, instead of where the design says.")
@click.option("--nodes", metavar="LIST", help="Ranks, instead of those of the design.")
@click.option("--cell-limit", metavar="TIME", help="How long a cell may run.")
@click.option("--instance-limit", metavar="TIME", help="How long it may take to start.")
@cluster_options
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and --json).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.pass_context
def run_command(
    ctx: click.Context,
    design: str,
    output: str | None,
    retry_failed: bool,
    dry_run: bool,
    backend: str | None,
    nodes: str | None,
    cell_limit: str | None,
    instance_limit: str | None,
    quiet: bool,
    as_json: bool,
    **cluster: Any,
) -> None:
    """Run a design, each cell once, in random order.

    Started again after whatever stop, it goes on where it was. A design that was only added to may
    go on in the same folder. A cell that fails is recorded with its reason, and the rest goes on;
    the exit code is 1 then.

    \b
    What is in FOLDER:
      design.yaml       the design
      results.jsonl     a line for each cell: events, times of each rank
      environment.json  versions, machine, rates, seeds
      logs/             of each MiniCluster, what its first pod wrote

    With --backend kubernetes each cell is a MiniCluster of the Flux Operator, which is removed when
    it has ended, also after a Ctrl-C. --dry-run prints what would be applied.

    \b
    Examples:
      flux-tree experiment run design.yaml --output results
      flux-tree experiment run design.yaml --output results --backend kubernetes \\
        --image registry.example.com/flux-tree:latest --namespace study
      flux-tree experiment run design.yaml --output results --retry-failed
      flux-tree experiment run design.yaml --dry-run
    """
    import json

    from ..experiment import Design, run

    read = Design.read(design)
    what = with_overrides(
        read,
        backends=None if backend is None else [backend],
        nodes=None if nodes is None else [nodes],
        cell_limit=cell_limit,
        instance_limit=instance_limit,
    )
    options = take_options(what, cluster)
    if dry_run and "kubernetes" in what.backends and not as_json:
        _say_manifests(what, output, retry_failed, options)
        return
    if dry_run:
        _say_cells(what, output, retry_failed, as_json)
        return
    if output is None:
        raise click.UsageError("Missing option '--output'.", ctx)
    with _progress(quiet) as progress:
        summary = run(
            design if what == read else what,
            output,
            retry_failed=retry_failed,
            options=options,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(summary.to_dict()))
    elif not quiet:
        say(_summary_text(summary, design))
    if summary.failed:
        ctx.exit(1)


def _make_design(options: dict[str, Any]) -> Design:
    import math
    import secrets
    from dataclasses import replace

    from ..experiment import Design
    from ..experiment._backends import backend_class
    from ..experiment._cells import STUDY
    from ..experiment._estimate import Estimator

    values = {name: value for name, value in options.items() if value is not None}
    values["backends"] = values.pop("backend")
    values["nodes"] = [values["nodes"]]
    values.setdefault("seed", secrets.randbelow(1 << 31))
    if "transports" not in values:
        had = {t for name in values["backends"] for t in backend_class(name).transports}
        if not set(STUDY) & set(values["strategies"]):
            had.discard("content")
        values["transports"] = [t for t in ("content", "direct") if t in had]
    if set(values["transports"]) == {"ping"}:
        values["sizes"] = []
    design = Design.from_mapping(values)
    longest = max(map(Estimator(design).cell, design.cells()))
    # enough even where the estimate is far off
    return replace(design, cell_limit=max(design.cell_limit, float(math.ceil(10 * longest))))


def _estimate(design: Design) -> Estimate:
    from ..experiment._estimate import Estimator

    return Estimator(design).all(design.blocks())


def _estimate_text(estimate: Estimate) -> str:
    from ..units import format_seconds

    cells = f"{estimate.cells} cell{'' if estimate.cells == 1 else 's'}"
    instances = f"{estimate.instances} instance{'' if estimate.instances == 1 else 's'}"
    return (
        f"{cells} in {instances}: about {format_seconds(estimate.seconds)}"
        " (an estimate, within a factor of two or so)"
    )


def _say_cells(design: Design, output: str | None, retry_failed: bool, as_json: bool) -> None:
    import json

    from ..experiment._estimate import Estimator
    from ..experiment._store import read_status
    from ..experiment.runner import to_run

    status = {} if output is None else read_status(Path(output))
    blocks = to_run(design, status, retry_failed)
    keys = [cell.key for block in blocks for cell in block.cells]
    if as_json:
        click.echo(json.dumps(keys))
        return
    for key in keys:
        say(key)
    say(_estimate_text(Estimator(design).all(blocks)), err=True)


def _say_manifests(design: Design, output: str | None, retry_failed: bool, options: Any) -> None:
    """Print the MiniClusters that would be made; of other backends nothing."""
    from ..experiment._backend_kubernetes import KubernetesBackend
    from ..experiment._store import read_status
    from ..experiment.runner import to_run
    from ..kubernetes._yaml import documents

    status = {} if output is None else read_status(Path(output))
    backend = KubernetesBackend(design)
    backend.configure(Path(output or "results"), options)
    blocks = [b for b in to_run(design, status, retry_failed) if b.backend == backend.name]
    say(documents(m.to_dict() for m in backend.manifests(blocks)).rstrip("\n"))


def _summary_text(summary: Any, design: str) -> str:
    from ..units import format_seconds

    lines = [
        f"{summary.ok} of {summary.total} cells ok, {summary.failed} failed;"
        f" {summary.ran} run now, in {format_seconds(summary.seconds)}",
        f"results in {summary.folder}",
    ]
    if summary.failed:
        again = f"flux-tree experiment run {design} --output {summary.folder} --retry-failed"
        lines.append(f"those that failed once more: {again}")
    lines.append(f"next: flux-tree experiment analyze {summary.folder}")
    return "\n".join(lines)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Show on standard error how far a run is: a bar on a terminal, else a line for each cell."""
    import sys

    if quiet:
        yield None
    elif on_terminal(sys.stderr):
        with _bar() as update:
            yield update
    else:
        yield _say_progress


def _say_progress(progress: Progress) -> None:
    if progress.result is not None:
        say(f"{_cell_line(progress)}, {_left(progress)}", err=True)


def _cell_line(progress: Progress) -> str:
    from ..units import format_seconds

    result = progress.result
    assert result is not None
    took = format_seconds(result["elapsed_s"])
    how = f"ok in {took}" if result["status"] == "ok" else f"FAILED: {result['error']}"
    return f"[{progress.done}/{progress.total}] {progress.cell.key}: {how}"


def _left(progress: Progress) -> str:
    from ..units import format_seconds

    return f"about {format_seconds(round(progress.seconds_left))} left"


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from ._text import printable

    with Bar(
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[cell]}"),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    ) as bar:
        task = bar.add_task("", total=None, left="", cell="")

        def update(progress: Progress) -> None:
            cell = escape(printable(progress.cell.key)) if progress.result is None else ""
            bar.update(
                task,
                total=progress.total,
                completed=progress.done,
                left=_left(progress),
                cell=cell,
            )
            if progress.result is not None and progress.result["status"] != "ok":
                bar.console.print(printable(_cell_line(progress)), markup=False, highlight=False)

        yield update
