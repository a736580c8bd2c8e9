"""What is broadcast, how, and what goes wrong meanwhile: all of it follows from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from flux_tree import Plan, Topology
from flux_tree.strategies import get
from flux_tree.strategies import plan as make_plan

ENGINES = ("local", "lab", "job")
STRATEGIES = (
    *("chain", "two-tree", "kary:2", "binomial"),
    *("multi-tree:3", "edst", "scatter-allgather", "flat"),
)
CHUNK_SIZES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)

#: When a fault comes: the share of the data that its first rank has, or that it has all of it,
#: checked, and waits for the others.
ALMOST, SEALED = 0.9, 1.0
MOMENTS = (0.0, 0.1, 0.5, ALMOST, SEALED)

#: Of each engine, how often a kind of fault is drawn.
KINDS = {
    "local": {"kill": 4, "stop": 2, "pause": 3, "reset": 3, "full": 2},
    "lab": {"kill": 2, "stop": 1, "pause": 2, "reset": 2, "full": 1, "link": 5, "slow": 2},
    "job": {"kill": 3, "stop": 1, "pause": 3, "reset": 3, "full": 1, "link": 3},
}
RANKS = {"local": (3, 12), "lab": (3, 8), "job": (3, 8)}
SIZES = {"local": (4_000_000, 40_000_000), "lab": (4_000_000, 12_000_000), "job": (4e6, 12e6)}
#: Hosts and bytes per second of the lab that jobs run in.
JOB_HOSTS, JOB_RATE = 8, 6e6


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    kind : str
        "kill", "stop" (for good), "pause", "reset" (all of its connections), "full" (its disk),
        "link" (no packet passes), "slow" (a NIC at a tenth, from the beginning).
    ranks : tuple of int
        Whom it happens to, all at once.
    at : float
        One of `MOMENTS`, by the first of these ranks.
    seconds : float
        How long a pause lasts, or a link is out; 0: for good.
    """

    kind: str
    ranks: tuple[int, ...]
    at: float
    seconds: float = 0.0

    @property
    def for_good(self) -> bool:
        """Whether a rank that it happens to need not have the data."""
        return self.kind in ("kill", "stop", "full") or (self.kind == "link" and not self.seconds)

    def __str__(self) -> str:
        ranks = ",".join(map(str, self.ranks))
        when = "sealed" if self.at == SEALED else f"{self.at:.0%}"
        lasting = f" {self.seconds:.1f}s" if self.seconds else ""
        return f"{self.kind} {ranks}{lasting}" + ("" if self.kind == "slow" else f" @{when}")


@dataclass(frozen=True)
class Schedule:
    """A broadcast and its faults; attributes that are not described are as of `broadcast`.

    Attributes
    ----------
    seed, engine
        What it follows from.
    size : int
        Bytes of the payload.
    files : int
        1 for a file, else of a directory.
    old : bool
        Something else has the final name before.
    rate : float
        Of a NIC of the lab, bytes per second.
    """

    seed: int
    engine: str
    ranks: int
    strategy: str
    size: int
    files: int
    chunk_size: int
    security: str
    workers: int
    on_failure: str
    min_ranks: int | None
    resume: bool
    fsync: bool
    digest: bool
    old: bool
    timeout: float
    rate: float
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int, engine: str = "local") -> Schedule:
        """Return the schedule of a seed."""
        rng = random.Random(f"{engine} {seed}")
        ranks = rng.randint(*RANKS[engine])
        strategy = rng.choice(STRATEGIES)
        size = int(rng.uniform(*SIZES[engine]))
        files = rng.choice((1, 1, rng.randint(50, 300)))
        if files > 1:
            size = min(size, 10_000_000)
        on_failure = rng.choice(("continue",) * 4 + ("abort",))
        enough = on_failure == "continue" and rng.random() < 0.3
        timeout = rng.uniform(4.0, 8.0)
        plan = make_plan(get(strategy), Topology.from_spec("kary:32", ranks))
        return cls(
            seed=seed,
            engine=engine,
            ranks=ranks,
            strategy=strategy,
            size=size,
            files=files,
            chunk_size=rng.choice(CHUNK_SIZES),
            security=rng.choice(("tls", "none")),
            workers=rng.choice((1, 1, 2, 4)),
            on_failure=on_failure,
            min_ranks=rng.randint(1, ranks) if enough else None,
            resume=rng.random() < 0.3,
            fsync=rng.random() < 0.1,
            digest=files == 1 and rng.random() < 0.25,
            old=rng.random() < 0.2,
            timeout=round(timeout, 1),
            rate=JOB_RATE if engine == "job" else size / rng.uniform(0.7, 2.0),
            faults=tuple(_faults(rng, engine, plan, timeout)),
        )

    @cached_property
    def needs_root(self) -> bool:
        """Whether file systems are mounted, or connections of others reset."""
        return self.engine != "local" or any(f.kind in ("full", "reset") for f in self.faults)

    @property
    def deadline(self) -> float:
        """Seconds after which it hangs: time to notice, and for what a slow machine takes."""
        return 3 * self.timeout + 60

    @property
    def shape(self) -> str:
        """What is broadcast and how, in short."""
        words = [
            f"{self.ranks} {self.strategy}",
            f"{self.size / 1e6:.1f}MB" + (f"/{self.files}" if self.files > 1 else ""),
            f"{self.chunk_size >> 10}K",
            self.security,
            f"w{self.workers}",
            f"{self.timeout}s",
            self.on_failure + ("" if self.min_ranks is None else f":{self.min_ranks}"),
        ]
        words += [name for name in ("resume", "fsync", "digest", "old") if getattr(self, name)]
        return " ".join(words)


def _faults(rng: random.Random, engine: str, plan: Plan, timeout: float) -> list[Fault]:
    """Return 1 to 4 faults; no rank has two of them."""
    kinds = KINDS[engine]
    count = rng.choice((1, 1, 2, 2, 3, 4))
    free = set(range(plan.size))
    # while nothing comes a rank waits for `timeout`: what passes must be over long before
    patience = timeout / 2
    found = []
    for _ in range(count):
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        ranks = tuple(r for r in _victims(rng, plan) if r in free)
        if not ranks:
            continue
        free -= set(ranks)
        seconds = 0.0
        if kind == "pause" or (kind == "link" and (engine == "job" or rng.random() < 0.6)):
            seconds = round(min(rng.uniform(0.2, 3.0), patience), 1)
            patience -= seconds
            if seconds < 0.2:
                continue
        found.append(Fault(kind, ranks, rng.choice(MOMENTS), seconds))
    return found


def _victims(rng: random.Random, plan: Plan) -> list[int]:
    """Choose whom a fault happens to."""
    others = range(1, plan.size)
    how = rng.choice(("one", "one", "several", "inner", "grandparent", "root"))
    if how == "root" and rng.random() < 0.5:
        return [0]
    if how == "several":
        return rng.sample(others, rng.randint(2, max(2, plan.size // 2)))
    if how == "inner":  # one of every tree
        inner = [set(map(int, tree)) - {0, -1} for tree in plan.parents]
        return sorted({rng.choice(sorted(ranks)) for ranks in inner if ranks}) or [1]
    if how == "grandparent":
        tree = rng.choice(list(plan.parents))
        pairs = [(r, int(tree[tree[r]])) for r in others if tree[r] > 0 and tree[tree[r]] > 0]
        if pairs:
            return list(rng.choice(pairs))
    return [rng.choice(others)]
