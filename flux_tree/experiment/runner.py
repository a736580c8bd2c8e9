"""Runs a design: every cell once, in random order, whatever happens in between."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Callable, NamedTuple

from ..errors import Cancelled, FluxTreeError
from . import _environment
from ._backends import Backend, backend_class
from ._cells import Block, Cell
from ._driver import Driver, DriverError
from ._estimate import Estimator
from ._store import Store
from ._work import work_folder
from .design import Design

__all__ = ["Progress", "Summary", "run", "to_run"]


class Progress(NamedTuple):
    """How far a run is; given when a cell begins and when it has ended.

    Attributes
    ----------
    done, total : int
        Cells that have a result, and all of the design.
    cell : Cell
        Which.
    result : dict or None
        Its result; None when it begins.
    seconds_left : float
        About how long the rest takes.
    """

    done: int
    total: int
    cell: Cell
    result: dict[str, Any] | None
    seconds_left: float


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes
    ----------
    folder : str
        Where the results are.
    total, ok, failed : int
        Cells of the design, those that worked, and those that did not.
    ran : int
        Cells that were run this time.
    seconds : float
        That it took.
    """

    folder: str
    total: int
    ok: int
    failed: int
    ran: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data.

        Returns
        -------
        dict
        """
        return asdict(self)


def to_run(design: Design, status: dict[str, str], retry_failed: bool = False) -> list[Block]:
    """Return what of a design has still to be run, in order.

    Parameters
    ----------
    design : Design
        The design.
    status : dict of str to str
        "ok" or "failed" of each cell that has a result.
    retry_failed : bool, default False
        Those that failed, too.

    Returns
    -------
    list of Block
    """

    def wanted(cell: Cell) -> bool:
        return cell.key not in status or (retry_failed and status[cell.key] != "ok")

    blocks = [b._replace(cells=tuple(filter(wanted, b.cells))) for b in design.blocks()]
    return [block for block in blocks if block.cells]


def run(
    design: Design | str | PathLike[str],
    folder: str | PathLike[str],
    *,
    retry_failed: bool = False,
    options: Any = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Run what of a design has not been run yet.

    A cell that fails is recorded with its reason, and the rest goes on. If the run is stopped, or
    killed, the same call goes on where it was.

    Parameters
    ----------
    design : Design or path-like
        What is run, or its file.
    folder : path-like
        Where the results go: made if it is not there.
    retry_failed : bool, default False
        Run the cells that failed again.
    options : flux_tree.kubernetes.ClusterOptions, optional
        For backend "kubernetes": where in a cluster, and of what image.
    progress : callable, optional
        Called when a cell begins and when it has ended.

    Returns
    -------
    Summary

    Raises
    ------
    UsageError
        If it is no design, or not the one of the results that are there, or a backend cannot run
        here.
    FluxTreeError
        If another run is at work in the folder, or it or the place for temporary files cannot be
        written.
    Cancelled
        After SIGINT, SIGTERM or SIGHUP, when everything is cleaned up.
    """
    if isinstance(design, Design):
        text = design.to_yaml()
    else:
        path = design
        design = Design.read(path)
        text = Path(path).read_text(encoding="utf-8")
    with Store(Path(folder)) as store:
        store.adopt(design, text)
        return _Run(design, store, retry_failed, options, progress).all()


class _Run:
    """One run of a design."""

    def __init__(
        self,
        design: Design,
        store: Store,
        retry_failed: bool,
        options: Any,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.design = design
        self.store = store
        self.progress = progress
        self.keys = {cell.key for cell in design.cells()}
        self.todo = to_run(design, store.status, retry_failed)
        names = sorted({block.backend for block in self.todo})
        self.backends = {name: backend_class(name)(design) for name in names}
        for backend in self.backends.values():
            backend.configure(store.folder, options)
        self.estimator = Estimator(design)
        self.left_s = self.estimator.all(self.todo).seconds
        self.reckoned_s = 0.0
        self.began = time.monotonic()
        self.ran = 0
        self.signals: list[int] = []
        self.environment: dict[str, Any] = {}

    def all(self) -> Summary:
        for backend in self.backends.values():
            backend.check()
        if self.todo:
            now = _environment.circumstances(self.design)
            self.environment = _environment.merged(self.store.environment(), now)
            self.store.write_environment(self.environment)
            with ExitStack() as stack:
                stack.enter_context(_noted_signals(self.signals))
                work = stack.enter_context(work_folder(self.design.workdir, _room(self.todo)))
                self.store.note_work(work)
                for backend in self.backends.values():
                    stack.callback(backend.close)
                for number, block in enumerate(self.todo):
                    self.block(block, work / str(number))
                    shutil.rmtree(work / str(number), ignore_errors=True)
            self.store.note_work(None)
        states = [state for key, state in self.store.status.items() if key in self.keys]
        ok = states.count("ok")
        return Summary(
            folder=str(self.store.folder),
            total=len(self.keys),
            ok=ok,
            failed=len(states) - ok,
            ran=self.ran,
            seconds=time.monotonic() - self.began,
        )

    def look(self) -> None:
        """End the run if a signal has asked for that."""
        if self.signals:
            name = signal.Signals(self.signals[0]).name
            raise Cancelled(
                f"stopped by {name}: {len(self.keys & set(self.store.status))} of"
                f" {len(self.keys)} cells are done, the same command goes on with the rest"
            )

    def block(self, block: Block, work: Path) -> None:
        """Run the cells of an instance; after a failure the next one gets a new instance."""
        cells = list(block.cells)
        self.spend(self.estimator.start(block))
        while cells:
            self.look()
            work.mkdir(exist_ok=True)
            try:
                with self.driver(block, work) as driver:
                    while cells:
                        cell = cells.pop(0)
                        if self.cell(cell, driver, work) != "ok":
                            break
            except _NotStarted as exc:
                for cell in cells:
                    self.spend(self.estimator.cell(cell))
                    self.record(cell, time.time(), 0.0, {"error": str(exc)})
                cells = []

    @contextmanager
    def driver(self, block: Block, work: Path) -> Iterator[Driver]:
        """Start a driver, and end it."""
        backend = self.backends[block.backend]
        log = work / "log"
        try:
            with log.open("wb") as f:
                process = backend.start(block.nodes, block.topology, work, f)
        except (FluxTreeError, OSError) as exc:
            raise _NotStarted(f"the instance cannot be started: {exc}") from None
        driver = Driver(process, log, self.look, backend.end_limit)
        try:
            try:
                hello = driver.hello(self.design.instance_limit)
                self.note_goodput(block, backend, hello)
            except (DriverError, OSError) as exc:
                raise _NotStarted(f"the instance did not start: {exc}") from None
            yield driver
        finally:
            if not driver.end():
                backend.discard(block.nodes)

    def note_goodput(self, block: Block, backend: Backend, hello: dict[str, Any]) -> None:
        """Note what one stream moves there, once for each backend and number of nodes."""
        name = f"{block.backend}/{block.nodes}"
        if name in self.environment["goodputs"]:
            return
        measured = hello.get("goodput")
        if measured is None:
            measured = backend.goodput(block.nodes)
        self.environment["goodputs"][name] = measured
        if self.environment["goodput"] is None:
            self.environment["goodput"] = measured
        self.store.write_environment(self.environment)

    def cell(self, cell: Cell, driver: Driver, work: Path) -> str:
        """Run a cell; return its status."""
        self.tell(cell, None)
        folder = work / f"{cell.seed(self.design.seed):012x}"
        request = {"cell": cell._asdict(), "seed": cell.seed(self.design.seed)}
        started, clock = time.time(), time.monotonic()
        try:
            limit = self.backends[cell.backend].cell_limit()
            answer = driver.ask({**request, "folder": str(folder)}, limit)
        except DriverError as exc:
            answer = {"status": "failed", "error": f"{exc}; the instance was replaced"}
        self.spend(self.estimator.cell(cell))
        return self.record(cell, started, time.monotonic() - clock, answer)

    def record(self, cell: Cell, started: float, elapsed: float, answer: dict[str, Any]) -> str:
        """Add the result of a cell."""
        goodput = self.environment["goodputs"].get(f"{cell.backend}/{cell.nodes}")
        result = {
            **cell.to_dict(),
            "seed": cell.seed(self.design.seed),
            "status": answer.get("status", "failed"),
            "error": answer["error"],
            "started": started,
            "elapsed_s": elapsed,
            "limit_s": cell.bytes / goodput if goodput and cell.transport != "ping" else None,
            "events": answer.get("events", []),
            "records": answer.get("records", []),
            "pings": answer.get("pings", []),
        }
        self.store.append(result)
        self.ran += 1
        self.tell(cell, result)
        return str(result["status"])

    def spend(self, seconds: float) -> None:
        """Count some of the estimate as done."""
        self.left_s -= seconds
        self.reckoned_s += seconds

    def tell(self, cell: Cell, result: dict[str, Any] | None) -> None:
        """Report how far the run is, and what is left, by how good the estimate was so far."""
        if self.progress is None:
            return
        factor = 1.0
        if self.ran and self.reckoned_s > 0:
            factor = (time.monotonic() - self.began) / self.reckoned_s
        done = len(self.keys & set(self.store.status))
        left = max(self.left_s, 0.0) * factor
        self.progress(Progress(done, len(self.keys), cell, result, left))


class _NotStarted(Exception):
    """There is no instance."""


@contextmanager
def _noted_signals(came: list[int]) -> Iterator[None]:
    """Note signals that ask for an end, instead of ending wherever they come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):
            before[number] = handler
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(TypeError):
                signal.signal(number, handler)


def _room(blocks: list[Block]) -> int:
    """Return how many bytes of temporary files there are at the most, at the same time."""
    most = 0
    for block in blocks:
        moved = [cell for cell in block.cells if cell.transport != "ping"]
        # an archive stays in the content store of the instance as long as that lives
        stored = sum(cell.bytes for cell in moved if cell.transport == "content")
        copies = max((cell.bytes for cell in moved), default=0) * (block.nodes + 1)
        most = max(most, copies + stored)
    return most + (16 << 20)
