"""rsync from the root to every host at once: a daemon on each, without ssh."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .bench import Bench, Case, Figures, PeerError, end, program, wait_for

PORT = 8730

#: No ssh and no encryption: kind to the processors.
CONFIG = """\
use chroot = no
reverse lookup = no
log file = /dev/null
[to]
path = {path}
read only = no
uid = root
gid = root
"""


class Rsync:
    """One peer: copies of the whole file, side by side."""

    names = ("rsync",)

    def missing(self) -> str:
        return "" if program("rsync") else "rsync (Debian: rsync)"

    @contextmanager
    def start(self, bench: Bench) -> Iterator[Case]:
        daemons = []
        urls = []
        try:
            for host in bench.receivers:
                config = bench.work / f"rsyncd-{host}.conf"
                config.write_text(CONFIG.format(path=bench.to / str(host)))
                address = bench.lab.addresses[host]
                where = [f"--config={config}", f"--address={address}", f"--port={PORT}"]
                daemons.append(bench.popen(host, ["rsync", "--daemon", "--no-detach", *where]))
                urls.append(f"rsync://{address}:{PORT}/")
            for url in urls:
                wait_for(
                    lambda url=url: bench.popen(0, ["rsync", url]).wait() == 0,  # type: ignore[misc]
                    f"no daemon at {url}",
                )
            yield lambda name: self._copy(bench, urls)
        finally:
            end(daemons)

    def _copy(self, bench: Bench, urls: list[str]) -> Figures:
        with bench.measure() as figures:
            copies = [
                bench.popen(0, ["rsync", "--whole-file", bench.source, f"{url}to/"]) for url in urls
            ]
            deadline = time.monotonic() + bench.limit
            codes = [c.wait(max(0.1, deadline - time.monotonic())) for c in copies]
        if any(codes):
            raise PeerError(f"exit codes {sorted(set(codes))}")
        return figures
