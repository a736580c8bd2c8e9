"""One session of BitTorrent, or the torrent of a file: a process of `torrent`.

    torrent_peer.py create FILE TORRENT
    torrent_peer.py join TORRENT FOLDER ADDRESS ADDRESSES

Joined, it says "ready", waits for a line, connects to the addresses (JSON), says "complete" and the
monotonic clock once it has everything, and ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import libtorrent as lt

PORT = 6881
#: Pieces: few enough to be cheap, and enough that hosts soon have different ones to exchange.
PIECES, SMALLEST, LARGEST = 400, 1 << 16, 1 << 20


def create(file: str, torrent: str) -> None:
    size = Path(file).stat().st_size
    piece = SMALLEST
    while piece < LARGEST and piece * PIECES < size:
        piece *= 2
    made = lt.create_torrent(lt.list_files(file), piece, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, str(Path(file).parent))
    Path(torrent).write_bytes(lt.bencode(made.generate()))


def settings(address: str) -> Any:
    """No search for peers, no limits, TCP only, in the clear.

    With the defaults of the last four a seed sends more than it has to: it has promised the same
    pieces to several peers before it hears that they could have them from each other.
    """
    off = ("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp")
    utp = ("enable_outgoing_utp", "enable_incoming_utp", "smooth_connects")
    return {
        **dict.fromkeys((*off, *utp), False),
        "listen_interfaces": f"{address}:{PORT}",
        "unchoke_slots_limit": -1,
        "connection_speed": 1000,
        "out_enc_policy": lt.enc_policy.pe_disabled,
        "in_enc_policy": lt.enc_policy.pe_disabled,
        "tick_interval": 100,
        "request_queue_time": 1,
        "send_buffer_watermark": 1 << 16,
        "initial_picker_threshold": 0,
        "alert_mask": lt.alert.category_t.status_notification
        | lt.alert.category_t.error_notification,
    }


def join(torrent: str, folder: str, address: str, others: str) -> None:
    session = lt.session(settings(address))
    params = lt.load_torrent_file(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    peers = json.loads(others)
    if not peers:
        params.flags |= lt.torrent_flags.seed_mode
    handle = session.add_torrent(params)
    states = lt.torrent_status.states
    while handle.status().state not in (states.downloading, states.seeding):
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.readline()
    for peer in peers:
        handle.connect_peer((peer, PORT))
    while not handle.status().is_seeding:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if "error" in alert.what():
                print(f"error: {alert.message()}", flush=True)
    print("complete", time.monotonic(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    work: Any = {"create": create, "join": join}[sys.argv[1]]
    work(*sys.argv[2:])
