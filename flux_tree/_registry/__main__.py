"""Pulls what a registry has, and writes it to standard output, in frames: docs/registry.md.

    python -m flux_tree._registry REFERENCE [--timeout=SECONDS]

It ends when its standard input does, or nobody reads what it writes.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

from ..errors import FluxTreeError, SourceError
from ._blob import Blob, stream
from ._client import Client, Patience
from ._contents import Item, Kept, contents, with_directories
from ._feed import DATA, END, FAIL, HEAD, TEXT_MAX, write_frame
from ._manifest import compose
from ._reference import Reference
from ._unpack import unpacked

__all__ = ["main"]

CHUNK = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Pull; return the exit code.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process, if not given.

    Returns
    -------
    int
        0 if all has come.
    """
    parser = argparse.ArgumentParser(prog="python -m flux_tree._registry")
    parser.add_argument("reference")
    parser.add_argument("--timeout", type=float, default=45.0)
    args = parser.parse_args(argv)
    # frames go out there; whatever a library prints must not get between them
    out = os.dup(1)
    os.dup2(2, 1)
    # nothing is on disk that would have to be removed
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_watch, args=(out,), daemon=True).start()
    try:
        _pull(Reference.parse(args.reference), args.timeout, out)
        return 0
    except BrokenPipeError:
        return 1
    except FluxTreeError as exc:
        return _fail(out, str(exc))
    except ImportError as exc:
        return _fail(
            out,
            f"source {args.reference}: {exc.name or exc} is missing, which pulls from registries:"
            " pip install 'flux-tree[registry]'",
        )
    except OSError as exc:
        return _fail(out, f"source {args.reference}: {exc.filename or ''} {exc.strerror or exc}")
    except MemoryError:
        return _fail(out, f"source {args.reference}: out of memory")
    except Exception as exc:
        # whoever waits is to know; standard error has the rest
        _fail(out, f"source {args.reference}: cannot be pulled ({type(exc).__name__}: {exc})")
        raise


def _pull(reference: Reference, timeout: float, out: int) -> None:
    client = Client(reference, Patience(reference, timeout))
    items = unpacked(client, contents(client))
    items = with_directories(items, reference.text)
    try:
        head = compose(items)
    except SourceError as exc:
        raise client.failure(str(exc)) from None
    write_frame(out, HEAD, head)
    for item in items:
        for part in _data(client, item):
            write_frame(out, DATA, part)
            # who reads may be slow, and that is not the registry's fault
            client.patience.progress()
    write_frame(out, END)


def _data(client: Client, item: Item) -> Iterator[bytes]:
    if isinstance(item.data, Blob):
        yield from stream(client, item.data)
    elif isinstance(item.data, Kept):
        end = item.data.at + item.size
        for at in range(item.data.at, end, CHUNK):
            yield os.pread(item.data.file.fileno(), min(CHUNK, end - at), at)
    elif item.data:
        for at in range(0, len(item.data), CHUNK):
            yield item.data[at : at + CHUNK]


def _fail(out: int, text: str) -> int:
    with suppress(OSError):
        write_frame(out, FAIL, text.encode(errors="replace")[: TEXT_MAX - 1])
    return 1


def _watch(out: int) -> None:
    """End at once when whoever started this has gone, or nobody reads: also amid a wait."""
    poll = select.poll()
    poll.register(0, 0)  # POLLHUP and POLLERR come unasked
    poll.register(out, 0)
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
