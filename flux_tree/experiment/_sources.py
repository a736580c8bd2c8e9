"""Whatever `analyze` can read, told apart: an experiment, a table, a log, a folder of them."""

from __future__ import annotations

from pathlib import Path

from ..errors import SourceError
from ._measured import Measured
from ._results import RESULTS, read_results
from ._study import LOG, read_csv, read_logs

__all__ = ["read"]

#: Tables that are looked for in a folder.
TABLES = ("events.csv", "pings.csv", "topologies-events.csv")


def read(path: Path) -> Measured:
    """Read whatever `path` is: see `analyze`.

    Parameters
    ----------
    path : Path
        A folder or a file.

    Returns
    -------
    Measured
        With at least one event or ping.

    Raises
    ------
    SourceError
        If it is nothing that was measured.
    """
    if not path.exists():
        raise SourceError(f"'{path}': there is no such file or folder")
    if path.is_dir():
        measured = _read_folder(path)
    elif path.name == RESULTS:
        measured = read_results(path.parent)
    elif path.suffix == ".csv":
        measured = read_csv(path)
    elif path.suffix == ".out":
        measured = read_logs(path)
    else:
        raise SourceError(
            f"'{path}': neither a table (.csv) nor a log (.out), give one of these or a folder"
        )
    if not measured:
        raise SourceError(f"'{path}': nothing was measured in it, run the experiment first")
    return measured


def _read_folder(path: Path) -> Measured:
    if (path / RESULTS).exists():
        return read_results(path)
    tables = [path / name for name in TABLES if (path / name).exists()]
    if tables:
        measured = Measured(path.resolve().name, "tables of an earlier analysis or of the study")
        for table in tables:
            one = read_csv(table)
            measured.table.rows += one.table.rows
            measured.pings += one.pings
        return measured
    if any(path.rglob("*.out")):
        return read_logs(path)
    raise SourceError(
        f"'{path}': no experiment in it: neither {RESULTS}, nor {' or '.join(TABLES)},"
        f" nor NODES/TOPOLOGY/ITERATION/{LOG}"
    )
