"""Predictions on the command line: the table, what stands below it, and the JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ._output import Column, say, say_figures, say_table

if TYPE_CHECKING:
    from ..model import Network, Prediction

__all__ = ["Answer", "Source", "answer_data", "say_answer"]

COLUMNS = (
    Column("STRATEGY"),
    Column("TIME", right=True),
    Column("/ LIMIT", right=True),
    Column("% OF LIMIT", right=True, drop=1),
    Column("TREES", right=True, drop=3),
    Column("DEPTH", right=True, drop=2),
    Column("LOAD", right=True, drop=4),
    Column("CHUNK", right=True, drop=5),
)
METHODS = {
    "simulation": "every chunk, through every NIC; --method closed-form is a formula",
    "closed-form": "a formula; --method simulation has every chunk, and takes longer",
}
#: Of more ranks with a NIC of their own, the rest are counted.
MOST_SLOW = 4


class Source(NamedTuple):
    """Where the numbers of a network come from: a file or "typical", and the same in words."""

    name: str
    text: str


class Answer(NamedTuple):
    """What ``flux-tree predict`` has found.

    Attributes
    ----------
    predictions : list of Prediction
        Of strategies, best first.
    archives : list of Prediction
        Of `flux archive` on topologies, best first.
    built : str
        The one of these topologies that Flux has built.
    given : bool
        The user has named it; else it is Flux's default.
    bound : float
        Below which no time is, seconds.
    network : Network
        The numbers.
    source : Source
        Where they come from.
    """

    predictions: list[Prediction]
    archives: list[Prediction]
    built: str
    given: bool
    bound: float
    network: Network
    source: Source


def say_answer(answer: Answer) -> None:
    """Print a table of the strategies, or of one that was simulated the ranks, and the figures.

    Parameters
    ----------
    answer : Answer
        What was found.
    """
    from .._table import result_header
    from ._result import say_result

    first = answer.predictions[0]
    figures = [*_figures(answer), *_known(answer)]
    if len(answer.predictions) > 1 or first.method != "simulation":
        _say_all(answer, figures)
        return
    say(result_header(first))
    say()
    say_result(first, figures)


def answer_data(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain data.

    Parameters
    ----------
    answer : Answer
        What was found.

    Returns
    -------
    dict
        As docs/cli.md has it.
    """
    first = answer.predictions[0]
    archive = []
    for entry in map(_entry, answer.archives):
        kept = {key: entry[key] for key in ("time_s", "limit_ratio", "limit_percent", "depth")}
        archive.append({"topology": entry["strategy"], **kept, "fanout": round(entry["max_load"])})
    data = {
        "nodes": first.plan.size,
        "bytes": first.bytes,
        "security": first.security,
        "method": first.method,
        "predictions": [_entry(p) for p in answer.predictions],
        "archive": archive,
        "limit_s": first.limit,
        "lower_bound_s": answer.bound,
        "network": answer.network.to_dict(),
        "network_source": answer.source.name,
    }
    if len(answer.predictions) == 1 and first.method == "simulation":
        data["records"] = first.rows()
    return data


def _figures(answer: Answer) -> list[tuple[str, str, str]]:
    """Return what stands below the table, but what is known of the network."""
    from ..units import format_bytes, format_seconds

    best = answer.predictions[0]
    least = format_bytes(min(p.chunk_size for p in answer.predictions))
    hop = format_seconds(answer.network.latency)
    bound = f"in chunks of {least}, {hop} a hop: nothing is faster"
    there = next(p for p in answer.archives if p.plan.strategy == answer.built)
    whose = "as given" if answer.given else "Flux's default"
    rows = [(answer.archives[0], "the best topology for it"), (there, whose)]
    if there is answer.archives[0]:
        rows = [(there, f"{whose}, and the best topology for it")]
    figures = [("lower bound", format_seconds(answer.bound), bound)]
    for title, (archive, what) in zip(("flux archive", ""), rows):
        text = f"on {archive.plan.strategy}, {what}"
        if best.time > 0:
            text += f": {archive.time / best.time:.3g} times {best.plan.strategy}"
        figures.append((title, format_seconds(archive.time), text))
    return figures


def _known(answer: Answer) -> list[tuple[str, str, str]]:
    """Return what the answers were reckoned with."""
    from ..units import format_rate, format_seconds

    network, first = answer.network, answer.predictions[0]
    rate = format_rate(network.bandwidth, bits=True)
    figures = [("network", f"{rate}, {format_seconds(network.latency)}", answer.source.text)]
    if network.groups is not None and network.uplink is not None:
        racks = max(network.groups) + 1
        figures.append(
            ("racks", str(racks), f"uplinks of {format_rate(network.uplink, bits=True)}")
        )
    if network.rates:
        ranks = [f"{r} at {format_rate(v, bits=True)}" for r, v in sorted(network.rates.items())]
        more = "" if len(ranks) <= MOST_SLOW else ", ..."
        figures.append(("slow", str(len(ranks)), "rank " + ", ".join(ranks[:MOST_SLOW]) + more))
    if network.disk is not None:
        figures.append(("disk", format_rate(network.disk), "what a rank can write"))
    if first.security == "tls" and network.encryption is not None:
        what = "what a processor encrypts, or decrypts and checks"
        figures.append(("encryption", format_rate(network.encryption), what))
    if network.processors is not None:
        figures.append(("processors", str(network.processors), "shared by all ranks"))
    return [*figures, ("method", first.method, METHODS[first.method])]


def _say_all(answer: Answer, figures: list[tuple[str, str, str]]) -> None:
    from ..units import format_bytes, format_rate, format_seconds

    rows = []
    for entry in map(_entry, answer.predictions):
        ratio, percent = entry["limit_ratio"], entry["limit_percent"]
        rows.append(
            [
                entry["strategy"],
                format_seconds(entry["time_s"]),
                "-" if ratio is None else _digits(ratio),
                "-" if percent is None else f"{percent:.3g}%",
                str(entry["stripes"]),
                str(entry["depth"]),
                _digits(entry["max_load"]),
                format_bytes(entry["chunk_size"]),
            ]
        )
    first = answer.predictions[0]
    ranks = "1 rank" if first.plan.size == 1 else f"{first.plan.size} ranks"
    say(f"{format_bytes(first.bytes)} to {ranks}")
    say()
    say_table(COLUMNS, rows, ["bold", *[""] * (len(rows) - 1)])
    say()
    rate = format_rate(answer.network.bandwidth, bits=True)
    limit = (
        "limit",
        format_seconds(first.limit or 0.0),
        f"{format_bytes(first.bytes)} at {rate}: every rank must take in all of it",
    )
    say_figures([limit, *figures])


def _entry(prediction: Prediction) -> dict[str, Any]:
    """Return one prediction as plain data."""

    seconds, least = prediction.time, prediction.limit
    plan = prediction.plan
    return {
        "strategy": plan.strategy,
        "time_s": seconds,
        "limit_ratio": seconds / least if least and seconds else None,
        "limit_percent": 100 * least / seconds if least and seconds else None,
        "stripes": plan.stripes,
        "depth": plan.depth,
        "max_load": plan.max_load,
        "chunk_size": prediction.chunk_size,
    }


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
