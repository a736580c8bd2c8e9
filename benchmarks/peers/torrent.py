"""BitTorrent: a seed on host 0, a session on every other host, and all know each other."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .bench import Bench, Case, Figures, PeerError, end

PEER = Path(__file__).with_name("torrent_peer.py")


class Torrent:
    """One peer: libtorrent."""

    names = ("torrent",)

    def missing(self) -> str:
        found = importlib.util.find_spec("libtorrent")
        return "" if found else "libtorrent (pip install libtorrent)"

    @contextmanager
    def start(self, bench: Bench) -> Iterator[Case]:
        yield lambda name: self._distribute(bench)

    def _distribute(self, bench: Bench) -> Figures:
        torrent = bench.work / "torrent"
        subprocess.run([sys.executable, PEER, "create", bench.source, torrent], check=True)
        sessions: list[subprocess.Popen[Any]] = []
        watch = threading.Timer(bench.limit, _kill, [sessions])
        watch.daemon = True
        watch.start()
        try:
            for host, address in enumerate(bench.lab.addresses):
                place = bench.to / str(host) if host else bench.work
                # each to those before it, so that there is one connection between any two
                others = json.dumps(bench.lab.addresses[:host])
                command = [sys.executable, PEER, "join", torrent, place, address, others]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                sessions.append(bench.popen(host, command, text=True, **pipes))
            for session in sessions:
                _expect(session, "ready")
            with bench.measure() as figures:
                begin = time.monotonic()
                for session in sessions:
                    assert session.stdin is not None
                    session.stdin.write("go\n")
                    session.stdin.flush()
                ends = [float(_expect(session, "complete")) for session in sessions]
            figures.slowest, figures.command = max(ends) - begin, None
            end(sessions, 60.0)  # each writes what it still holds
        except BaseException:
            _kill(sessions)
            raise
        finally:
            watch.cancel()
        return figures


def _kill(sessions: list[subprocess.Popen[Any]]) -> None:
    for session in sessions:
        session.kill()


def _expect(session: subprocess.Popen[Any], word: str) -> str:
    """Read a line that begins with a word; return the rest."""
    assert session.stdout is not None
    line = session.stdout.readline()
    first, _, rest = line.strip().partition(" ")
    if first != word:
        raise PeerError(f"a session said '{line.strip()}', not '{word}'")
    return rest
