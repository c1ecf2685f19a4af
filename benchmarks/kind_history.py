"""Rows of history per second: our Lookup client against a socket that splits and converts.

A process of its own plays the Lookup port: it has the whole answer ready as bytes and sends it as fast as it is
taken, so that the client is measured and not a simulator. Only the client's processor time counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import socket
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.kind_lines import Values, clock, day, midnight, price
from benchmarks.report import Cell
from benchmarks.side_by_side import rates, seconds
from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.credit_bucket import CreditBucket
from pipeline_orchestrator.lookup.requests import Request, newest_days, newest_intervals, newest_ticks

HEADER = ("history", "product rows/s", "peer rows/s", "ratio")
ID = "R1"
_END = b"!ENDMSG!,\r\n"
_BEGIN = day(b"2021-06-01")


class Answer(NamedTuple):
    """A request, its whole answer and how to read one row by hand."""

    name: str
    request: Request
    data: bytes
    read: Callable[[bytes], Values]


def history_rates(rows: int) -> list[tuple[Cell, ...]]:
    """One row per kind. Raises AssertionError where product and peer read different rows."""
    return [_row(answer, rows) for answer in (ticks(rows), intervals(rows), days(rows))]


def _row(answer: Answer, rows: int) -> tuple[Cell, ...]:
    ours, theirs = multiprocessing.Pipe()
    port = multiprocessing.get_context("spawn").Process(target=play, args=(theirs, answer.data), daemon=True)
    port.start()
    try:
        number = ours.recv()
        bucket = CreditBucket()

        async def asked() -> list[Values]:
            found: list[Values] = []
            async with LookupClient(port=number, bucket=bucket) as client:
                async for part in client.stream(answer.request, request_id=ID):
                    assert not part.refused, part.refused[:1]
                    found += list(zip(*(each.to_pylist() for each in part.rows.columns), strict=True))
            return found

        async def counted() -> int:
            async with LookupClient(port=number, bucket=bucket) as client:
                return sum([part.rows.num_rows async for part in client.stream(answer.request, request_id=ID)])

        def by_hand(_: None) -> list[Values]:
            with socket.create_connection(("127.0.0.1", number)) as peer:
                peer.sendall(b"S,SET PROTOCOL,6.2\r\n")
                peer.recv(100)
                peer.sendall(answer.request.line(ID))
                return _read(peer, answer.read)

        assert asyncio.run(asked()) == by_hand(None), f"{answer.name}: both must read the same rows"
        works = [
            lambda: seconds(lambda: None, lambda _: asyncio.run(counted())),
            lambda: seconds(lambda: None, by_hand),
        ]
        found = rates(works, rows)[0]
        return answer.name, found.product, found.peer, found.ratio
    finally:
        port.terminate()
        port.join()


def _read(peer: socket.socket, read: Callable[[bytes], Values]) -> list[Values]:
    """Rows up to the end line."""
    found: list[Values] = []
    rest = b""
    while data := peer.recv(256 << 10):
        lines = (rest + data).split(b"\r\n")
        rest = lines.pop()
        for line in lines:
            if line.startswith(b"R1,!ENDMSG!"):
                return found
            found.append(read(line))
    raise AssertionError("the answer was cut")


def play(told: Connection, answer: bytes) -> None:
    """Answer every request with the same bytes, one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        told.send(server.getsockname()[1])
        while True:
            client, _ = server.accept()
            with client, client.makefile("rb") as lines:
                try:
                    for line in lines:
                        if line.startswith(b"S,SET PROTOCOL,"):
                            client.sendall(b"S,CURRENT PROTOCOL,6.2,\r\n")
                        elif line.startswith(b"H"):
                            client.sendall(answer)
                except OSError:
                    continue


def _stamps(rows: int, step: timedelta) -> list[str]:
    """Rising times within 09:30 to 20:00 of so many days."""
    stamps, at = [], timedelta(hours=9, minutes=30)
    on = _BEGIN
    for _ in range(rows):
        at += step
        if at >= timedelta(hours=20):
            on, at = on + timedelta(days=1), timedelta(hours=9, minutes=30)
        whole, micro = divmod(at // timedelta(microseconds=1), 1_000_000)
        clock_text = f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        stamps.append(f"{on} {clock_text}" + (f".{micro:06d}" if step < timedelta(seconds=1) else ""))
    return stamps


def _answer(rows: list[str]) -> bytes:
    return b"".join(f"{ID},LH,{row},\r\n".encode() for row in rows) + f"{ID},".encode() + _END


def ticks(rows: int) -> Answer:
    """Ticks that a third of a second parts."""
    rng = random.Random(5)

    def read(line: bytes) -> Values:
        f = line.split(b",")
        return (
            midnight(f[2][:10]) + clock(f[2][11:]), price(f[3]), int(f[4]), int(f[5]), price(f[6]), price(f[7]),
            int(f[8]), f[9].decode(), int(f[10]), f[11].decode(), int(f[12]), int(f[13]),
        )  # fmt: skip

    said = [
        f"{stamp},{rng.randrange(10**6, 10**7) / 10_000:.4f},{rng.randint(1, 999)},{at * 500},"
        f"{rng.randrange(10**6, 10**7) / 10_000:.4f},{rng.randrange(10**6, 10**7) / 10_000:.4f},{at},"
        f"{rng.choice('CEO')},{rng.choice([5, 11, 19, 26])},{rng.choice(['01', '873D17'])},{rng.randint(0, 3)},4"
        for at, stamp in enumerate(_stamps(rows, timedelta(microseconds=310_001)))
    ]
    return Answer("ticks (HTX)", newest_ticks("AAPL", rows, per_send=5_000), _answer(said), read)


def _bar(rng: random.Random) -> str:
    return ",".join(f"{rng.randrange(10**6, 10**7) / 10_000:.4f}" for _ in range(4))


def intervals(rows: int) -> Answer:
    """Bars of a minute."""
    rng = random.Random(6)

    def read(line: bytes) -> Values:
        f = line.split(b",")
        return (
            midnight(f[2][:10]) + clock(f[2][11:]), *(price(each) for each in f[3:7]), *(int(each) for each in f[7:10]),
        )  # fmt: skip

    said = [
        f"{stamp},{_bar(rng)},{at * 700},{rng.randint(1, 99_999)},0"
        for at, stamp in enumerate(_stamps(rows, timedelta(seconds=60)))
    ]
    return Answer("intervals (HIX)", newest_intervals("AAPL", 60, rows, per_send=5_000), _answer(said), read)


def days(rows: int) -> Answer:
    """Bars of a day; dates begin again after some years."""
    rng = random.Random(7)

    def read(line: bytes) -> Values:
        f = line.split(b",")
        return day(f[2]), *(price(each) for each in f[3:7]), int(f[7]), int(f[8])

    said = [f"{_BEGIN + timedelta(days=at % 5_000)},{_bar(rng)},{rng.randint(1, 10**8)},0" for at in range(rows)]
    return Answer("days (HDX)", newest_days("AAPL", rows, per_send=5_000), _answer(said), read)
