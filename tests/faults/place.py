"""Where a schedule is carried out: its source, the place of each rank, small disks; and a look at
what stands there afterwards.
"""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import difference, leftovers

from .schedule import Schedule

NAME = "source"
OLD = b"what stood there before"
FILLER = "filler"


class Place:
    """The files of one schedule.

    Attributes
    ----------
    source : Path
        What is broadcast.
    to : Path
        Has a directory for each rank, in which it makes its copy.
    """

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule = schedule
        self.source = folder / NAME
        self.to = folder / "to"
        make_source(schedule, self.source)
        for rank in range(schedule.ranks):
            self.home(rank).mkdir(parents=True)
        for fault in schedule.faults:
            if fault.kind == "full":
                # too small from the beginning, or with room until somebody else takes it
                size = schedule.size // 2 if fault.at == 0 else schedule.size * 5 // 4 + (4 << 20)
                for rank in fault.ranks:
                    self.mount(rank, size)
        if schedule.old:
            for rank in range(schedule.ranks):
                self.copy(rank).write_bytes(OLD)

    def home(self, rank: int) -> Path:
        """Return the directory that is a rank's destination."""
        return self.to / str(rank)

    def copy(self, rank: int) -> Path:
        """Return where a rank's copy gets its final name."""
        return self.home(rank) / NAME

    def mount(self, rank: int, size: int) -> None:
        """Give a rank a file system of its own, of so many bytes."""
        options = f"size={size},mode=755"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.home(rank))]
        subprocess.run(command, check=True)

    def fill(self, rank: int) -> None:
        """Take all the room that is left in the file system of a rank."""
        with (self.home(rank) / FILLER).open("wb", buffering=0) as f:
            for size in (1 << 20, 4096, 1):
                try:
                    while f.write(bytes(size)) == size:
                        pass
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Give every rank the room that it needs."""
        for rank in self._mounted():
            (self.home(rank) / FILLER).unlink(missing_ok=True)
            options = f"remount,size={2 * self.schedule.size + (16 << 20)}"
            subprocess.run(["mount", "-o", options, str(self.home(rank))], check=True)

    def digest(self) -> str:
        """Return the digest of the source, as `flux_tree.broadcast` takes it."""
        return "sha256:" + hashlib.sha256(self.source.read_bytes()).hexdigest()

    def look(self) -> dict[int, str]:
        """Return what has the final name of each rank: "right", "old", "nothing", or why not."""
        return {rank: self._look(rank) for rank in range(self.schedule.ranks)}

    def _look(self, rank: int) -> str:
        copy = self.copy(rank)
        if not copy.exists():
            return "nothing"
        if self.schedule.old and copy.is_file() and copy.stat().st_size == len(OLD):
            return "old" if copy.read_bytes() == OLD else f"{copy}: neither old nor new"
        return difference(self.source, copy) or "right"

    def temporaries(self) -> list[str]:
        """Return the temporary names that are left."""
        return leftovers(self.to)

    def others(self) -> list[str]:
        """Return what else stands where ranks make their copies."""
        known = {NAME, FILLER}
        found = [p for r in range(self.schedule.ranks) for p in self.home(r).iterdir()]
        return [str(p) for p in found if p.name not in known and p.name[:11] != ".flux-tree-"]

    def partial_bytes(self, rank: int) -> int:
        """Return how much an interrupted run has left of a rank's data."""
        tops = self.home(rank).glob(".flux-tree-partial-*")
        files = [p for top in tops for p in (top, *top.rglob("*")) if p.is_file()]
        return sum(p.lstat().st_blocks * 512 for p in files if not p.is_symlink())

    def close(self) -> None:
        """Remove the file systems."""
        for rank in self._mounted():
            subprocess.run(["umount", str(self.home(rank))], check=True)

    def _mounted(self) -> list[int]:
        ranks = range(self.schedule.ranks)
        return [rank for rank in ranks if self.home(rank).is_mount()]


@contextmanager
def place(schedule: Schedule, folder: Path | None = None) -> Iterator[Place]:
    """Make a place for a schedule, and remove it."""
    top = Path(tempfile.mkdtemp(prefix="ftf", dir=folder))
    made = None
    try:
        made = Place(schedule, top)
        yield made
    finally:
        if made is not None:
            made.close()
        subprocess.run(["chmod", "-R", "u+rwx", str(top)], check=False)
        shutil.rmtree(top)


def make_source(schedule: Schedule, path: Path) -> None:
    """Make the payload of a schedule; its bytes follow from the seed, and do not compress."""
    rng = random.Random(f"payload {schedule.seed}")
    if schedule.files == 1:
        path.write_bytes(rng.randbytes(schedule.size))
        path.chmod(0o640)
        return
    path.mkdir()
    (path / "empty").mkdir()
    cuts = sorted(rng.randrange(schedule.size) for _ in range(schedule.files - 1))
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, schedule.size])):
        folder = path / f"d{number % 7}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"f{number}"
        file.write_bytes(rng.randbytes(end - begin))
        file.chmod(rng.choice((0o644, 0o600, 0o755)))
    (path / "link").symlink_to("d0/e0/f0")
