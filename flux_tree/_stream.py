"""What one stream moves between two places of a network: the measure of all broadcasts."""

from __future__ import annotations

import secrets
import socket
import threading
import time

__all__ = ["stream_bandwidth"]

BLOCK = 1 << 20


def stream_bandwidth(server: socket.socket, client: socket.socket, size: int) -> float:
    """Measure what one TCP stream moves, once it is up to speed.

    Parameters
    ----------
    server : socket
        Listening.
    client : socket
        Not connected yet.
    size : int
        Bytes to time, after a quarter of them to warm up.

    Returns
    -------
    float
        Bytes per second.
    """
    warm = size // 4
    total = warm + size
    block = memoryview(secrets.token_bytes(BLOCK))

    def send() -> None:
        with client:
            client.connect(server.getsockname())
            for start in range(0, total, BLOCK):
                client.sendall(block[: min(BLOCK, total - start)])

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    conn, _ = server.accept()
    buffer = bytearray(BLOCK)
    got, start = 0, time.perf_counter()
    began = 0
    with conn:
        while n := conn.recv_into(buffer):
            got += n
            if not began and got >= warm:
                began, start = got, time.perf_counter()
        end = time.perf_counter()
    sender.join()
    return (got - began) / (end - start)
