"""What is broadcast: a file or a directory, walked once and checked before anything moves."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ._native import check, ffi, lib
from .errors import SourceError, UsageError

__all__ = ["Payload"]

_Bytes = bytes  # the class below has a field of that name


@dataclass(frozen=True)
class Payload:
    """A source, and its manifest.

    Attributes
    ----------
    source : str
        Path.
    manifest : bytes
        Encoded as in docs/protocol.md.
    name : str
        The source's own name, which it keeps in a destination that is a directory.
    bytes : int
        Of all files, holes left out: what travels.
    files : int
        Regular files.
    entries : int
        Files, directories and links.
    chunk_size : int
        Bytes.
    feed_fd : int or None
        Where its data comes while it is pulled from a registry, once; None if it is there.
    """

    source: str
    manifest: _Bytes
    name: str
    bytes: int
    files: int
    entries: int
    chunk_size: int
    feed_fd: int | None = None

    @classmethod
    def scan(cls, source: str | os.PathLike[str]) -> Payload:
        """Walk a source.

        Parameters
        ----------
        source : path-like
            A regular file or a directory. Links inside it stay links; the source itself may be
            named through one.

        Raises
        ------
        SourceError
            If it, or something in it, is missing, unreadable, or cannot travel (a socket, a named
            pipe, a device).
        """
        fault = ffi.new("struct fault *")
        size = ffi.new("size_t *")
        path = os.fsencode(source)
        if not path or b"\0" in path:
            raise SourceError(f"source {os.fsdecode(path)!r}: no path, give a file or a directory")
        manifest = lib.node_scan(path, size, fault)
        if manifest == ffi.NULL:
            check(-1, fault, SourceError)
        try:
            return cls.from_manifest(os.fsdecode(path), bytes(ffi.buffer(manifest, size[0])))
        finally:
            lib.node_free(manifest)

    @classmethod
    def from_manifest(cls, source: str, manifest: _Bytes, feed_fd: int | None = None) -> Payload:
        """Return what a manifest says.

        Parameters
        ----------
        source : str
            What it is of.
        manifest : bytes
            Encoded.
        feed_fd : int, optional
            Where the data comes, if it is not there.

        Raises
        ------
        SourceError
            If it is not valid.
        """
        fault = ffi.new("struct fault *")
        s = ffi.new("struct node_summary *")
        check(lib.node_summarize(manifest, len(manifest), s, fault), fault, SourceError)
        name = os.fsdecode(ffi.string(s.name))
        return cls(source, manifest, name, s.bytes, s.files, s.entries, s.chunk_size, feed_fd)

    def with_chunk_size(self, chunk_size: int) -> Payload:
        """Return the same payload, cut into chunks of another size.

        Parameters
        ----------
        chunk_size : int
            Bytes, from 4 KiB to 16 MiB.

        Raises
        ------
        UsageError
            If it is out of bounds.
        """
        fault = ffi.new("struct fault *")
        manifest = bytearray(self.manifest)
        data = ffi.from_buffer("unsigned char[]", manifest)
        if not 0 < chunk_size < 1 << 32:
            raise UsageError(f"chunk size {chunk_size}: must be from 4 KiB to 16 MiB")
        check(lib.node_set_chunk_size(data, len(manifest), chunk_size, fault), fault, UsageError)
        return self.from_manifest(self.source, bytes(manifest), self.feed_fd)
