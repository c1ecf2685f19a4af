"""A recorded piece of the simulator's feed, as the bytes that a client's two sockets got."""

from __future__ import annotations

import selectors
import socket
import threading
from dataclasses import dataclass

from benchmarks.feed import Feed
from benchmarks.naive.lines import SELECTED
from infrastructure.services.plan import free_port

SYMBOLS = tuple(f"S{i:03d}" for i in range(200))


@dataclass(frozen=True, slots=True)
class Recorded:
    """Whole market lines of each port, the names of the Level 1 fields in their order, and one `T` of Level 2."""

    level1: bytes
    level2: bytes
    layout: list[str]
    clock: bytes


def record(lines: int) -> Recorded:
    """So many market lines, drawn from the fixed seed."""
    ports = {"level1_port": free_port(), "port": free_port(), "admin_port": free_port(), "lookup_port": free_port()}
    settings = {"symbols": list(SYMBOLS), "iqfeed": {"host": "127.0.0.1", **ports}}
    feed = Feed(settings, rate=200_000, lines=lines)
    level1 = socket.create_connection(("127.0.0.1", ports["level1_port"]))
    level2 = socket.create_connection(("127.0.0.1", ports["port"]))
    level1.sendall(f"S,SET PROTOCOL,6.2\r\nS,SELECT UPDATE FIELDS,{','.join(SELECTED)}\r\n".encode())
    level2.sendall(b"S,SET PROTOCOL,6.2\r\n")
    level1.sendall(b"".join(f"w{symbol}\r\n".encode() for symbol in SYMBOLS))
    level2.sendall(b"".join(f"WPL,{symbol}\r\n".encode() for symbol in SYMBOLS))
    got = {level1: bytearray(), level2: bytearray()}
    with selectors.DefaultSelector() as selector:
        for port in got:
            selector.register(port, selectors.EVENT_READ)
        ended: threading.Thread = threading.Thread(target=_until_finished, args=(feed,), daemon=True)
        ended.start()
        while ended.is_alive():
            for key, _ in selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                got[key.fileobj] += key.fileobj.recv(1 << 20)
    feed.stop()
    level1.close()
    level2.close()
    one, two = bytes(got[level1]), bytes(got[level2])
    clock = next(line for line in two.splitlines(keepends=True) if line.startswith(b"T,"))
    return Recorded(_market(one, b"QP"), _market(two, b"789"), ["Symbol", *SELECTED], clock)


def _until_finished(feed: Feed) -> None:
    """One more second than the flow lasts, for what the sockets still hold."""
    finished = 0
    while finished < 2:
        finished += (feed.next() or {"flow": "finished"})["flow"] == "finished"


def _market(data: bytes, types: bytes) -> bytes:
    """Only market lines: what the kernels and their peers both turn into events."""
    return b"".join(line for line in data.splitlines(keepends=True) if line[:1] in [bytes([t]) for t in types])
