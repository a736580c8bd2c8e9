"""One cell inside a MiniCluster: ``python3 -m flux_tree.experiment._pod`` on its first pod.

What is to be run is in the environment. The answer goes to standard output, which is the pod's log,
among whatever else is written there: packed, in short numbered lines, so that none is torn.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from contextlib import ExitStack
from typing import Any

from ..errors import BroadcastError

__all__ = ["REQUEST_VAR", "main", "read_answer"]

REQUEST_VAR = "FLUX_TREE_CELL"
#: A line that is no longer than this is written whole, or not at all.
PART = 400
_LINE = re.compile(r"flux-tree-answer (\d+)/(\d+) ([A-Za-z0-9+/=]*)\s*$")


def main() -> None:
    """Run the cell of the environment, and print what came of it."""
    from ._inside import _open, _run, describe

    out = os.dup(1)
    os.dup2(2, 1)
    request = json.loads(os.environ[REQUEST_VAR])
    with ExitStack() as stack:
        try:
            place, _ = _open(request["setup"], stack)
            answer = _run(request, place)
        except Exception as exc:
            answer = {"status": "failed", "error": describe(exc)}
    for line in answer_lines(answer):
        os.write(out, line)


def answer_lines(answer: dict[str, Any]) -> list[bytes]:
    """Return an answer as lines of a log.

    Parameters
    ----------
    answer : dict
        As of a driver.

    Returns
    -------
    list of bytes
    """
    packed = base64.b64encode(zlib.compress(json.dumps(answer, allow_nan=False).encode())).decode()
    parts = [packed[at : at + PART] for at in range(0, len(packed), PART)]
    return [f"flux-tree-answer {i}/{len(parts)} {p}\n".encode() for i, p in enumerate(parts, 1)]


def read_answer(log: str) -> dict[str, Any]:
    """Return the answer in a log.

    Parameters
    ----------
    log : str
        Of the first pod.

    Returns
    -------
    dict

    Raises
    ------
    BroadcastError
        If there is none, or a part is missing.
    """
    parts: dict[int, str] = {}
    total = 0
    said = "it has written nothing"
    for line in log.splitlines():
        match = _LINE.search(line)
        if match is None:
            said = line.strip() or said
            continue
        total = int(match.group(2))
        parts[int(match.group(1))] = match.group(3)
    if total == 0:
        raise BroadcastError(f"its log has no answer: {said[:300]}")
    try:
        packed = "".join(parts[i] for i in range(1, total + 1))
        answer = json.loads(zlib.decompress(base64.b64decode(packed)))
    except (KeyError, ValueError, zlib.error):
        raise BroadcastError(
            f"its log has only a part of the answer, {len(parts)} of {total} lines"
        ) from None
    if not isinstance(answer, dict):
        raise BroadcastError("the answer in its log is none")
    return answer


if __name__ == "__main__":
    main()
