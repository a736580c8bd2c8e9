"""The file of a design: YAML, read strictly, written with a comment on each key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..errors import FluxTreeError, UsageError
from ._backends import BACKENDS, backend_class

__all__ = ["parse", "text_of"]

_HEAD = """\
# The design of an experiment.
#
#   flux-tree experiment run THIS-FILE --output FOLDER      runs it, and goes on after a stop
#   flux-tree experiment analyze FOLDER                     makes tables and pictures
#
# Every combination of the lists is run, once in each iteration. Lists can be made longer later on:
# `run` into the same folder then runs what is new.
"""

_COMMENTS = {
    "backends": "Where it runs:",
    "nodes": "Numbers of nodes (ranks): 8, or [8, 16], or 4-8.",
    "topologies": (
        "The trees of brokers, as for tbon.topo: kary:K, binomial, mincrit. Or study: for each\n"
        "number of nodes the distinct trees of the flux-distribute study (flux-tree designs)."
    ),
    "strategies": (
        "Who gets the data, from whom. Of the study: all ranks; leaves, the ranks furthest down;\n"
        "middle-leaves, those half-way down, then those furthest down. Any other of\n"
        "'flux-tree strategies' goes to all ranks, by transport direct."
    ),
    "transports": (
        "How it moves: content, an archive through the brokers' content cache, as in the study;\n"
        "direct, connections of the plan's own; ping, no data, but 'flux ping' to every rank."
    ),
    "sizes": "Sizes of the payload.",
    "data": (
        "random: fresh in each cell, from the seed. zeros: as in the study; the content cache\n"
        "keeps equal blocks once, so hardly anything of them moves."
    ),
    "ping_sizes": "What is added to each ping; for transport ping only.",
    "iterations": "How often each cell is run.",
    "seed": "For the data, and for the order in which cells run.",
    "rate": "What the NIC of each host carries, in each direction; of lab and lab-flux.",
    "cell_limit": "A cell that takes longer has failed, and its instance is replaced.",
    "instance_limit": "An instance that takes longer to start has failed, and its cells with it.",
    "workdir": "For temporary files. null: /dev/shm if there is room, else the folder of TMPDIR.",
}


def parse(text: str) -> dict[str, Any]:
    """Return the keys and values of a design file.

    Parameters
    ----------
    text : str
        YAML.

    Returns
    -------
    dict

    Raises
    ------
    UsageError
        If it is not YAML, not keys and values, or has a key twice.
    """
    yaml = _yaml()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise UsageError(_where(exc)) from None
    if not isinstance(found, dict):
        raise UsageError("it has no keys, write 'backends: [local]' and so on, or use a new design")
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise UsageError(f"line {line}: the key '{key.value}' is there twice, take one out")
        seen.add(key.value)
    return found


def text_of(values: Mapping[str, Any]) -> str:
    """Return the text of a design file.

    Parameters
    ----------
    values : mapping
        Of each key, as of `flux_tree.experiment.Design`.

    Returns
    -------
    str
    """
    parts = [_HEAD]
    for key, comment in _COMMENTS.items():
        lines = comment.split("\n")
        if key == "backends":
            width = max(map(len, BACKENDS))
            lines += [f"  {n:{width}}  {backend_class(n).summary}" for n in BACKENDS]
        parts.append(
            "".join(f"# {line}\n" for line in lines) + f"{key}: {_value(key, values[key])}\n"
        )
    return "\n".join(parts)


def _value(key: str, value: Any) -> str:
    """Return a value as people write it."""
    if key in ("sizes", "ping_sizes"):
        value = tuple(_size_text(size) for size in value)
    elif key == "rate":
        return _rate_text(value)
    elif key in ("cell_limit", "instance_limit"):
        return f"{value:.17g}s"
    elif key == "topologies" and value == ("study",):
        return "study"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return _plain(value)


def _plain(value: Any) -> str:
    """Return one value, without quotes if it is read as the same."""
    yaml = _yaml()
    with suppress(yaml.YAMLError):
        if isinstance(value, str) and yaml.safe_load(f"[{value}]") == [value]:
            return value
    return str(yaml.safe_dump([value], default_flow_style=True, width=1 << 20)).strip()[1:-1]


def _size_text(size: int) -> int | str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return size


def _rate_text(rate: float) -> str:
    for factor, unit in ((1e9, "Gbit"), (1e6, "Mbit"), (1e3, "kbit")):
        if rate * 8 >= factor and (rate * 8 / factor * 1000).is_integer():
            return f"{rate * 8 / factor:g}{unit}"
    return f"{rate:.17g}"


def _where(exc: Any) -> str:
    """Return what is wrong with YAML, in one line."""
    mark = getattr(exc, "problem_mark", None)
    place = "" if mark is None else f"line {mark.line + 1}: "
    return f"{place}not YAML ({getattr(exc, 'problem', None) or 'unreadable'}), mend that line"


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise FluxTreeError(
            "designs of experiments need PyYAML, which is not installed: pip install pyyaml"
        ) from None
    return yaml
