"""What a lab takes of the machine that it is on."""

from __future__ import annotations

import resource
import threading
import time

__all__ = ["Usage"]

SAMPLE_S = 0.5


class Usage:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._cpu = _children_cpu()
        self._busy, self._total = _machine_times()
        self._available = _available()
        self._least = self._available
        self._end = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        """Look no further."""
        self._end.set()

    def read(self) -> dict[str, float]:
        """Return the figures until now, as of `flux_tree.lab.Lab.usage`."""
        busy, total = _machine_times()
        self._least = min(self._least, _available())
        return {
            "elapsed_s": time.monotonic() - self._begin,
            "cpu_s": _children_cpu() - self._cpu,
            "machine_busy": (busy - self._busy) / max(total - self._total, 1),
            "memory": float(self._available - self._least),
        }

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self._least = min(self._least, _available())


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _machine_times() -> tuple[int, int]:
    """Return how long the machine's processors were busy, and how long in all, in ticks."""
    with open("/proc/stat") as f:
        user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(
            int, f.readline().split()[1:]
        )
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def _available() -> int:
    """Return the bytes of memory that the machine could still give."""
    with open("/proc/meminfo") as f:
        for line in f:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0
