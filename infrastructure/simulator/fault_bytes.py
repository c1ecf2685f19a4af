"""Bytes that are no lines of the protocol, drawn from a generator; each is ended, so that the next line is whole."""

from __future__ import annotations

from random import Random
from typing import Final

import numpy as np

from infrastructure.simulator import render

_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\n", b"Server: nginx/1.24.0\r\n", b"Content-Type: text/html\r\n",
    b"Content-Length: 157\r\n", b"Connection: close\r\n", b"\r\n",
    b"<html><head><title>400 Bad Request</title></head></html>\r\n",
)  # fmt: skip
_TELNET: Final = (
    b"\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23\xff\xfd\x27\r\n", b"\xff\xfb\x03\xff\xfd\x01\xff\xfb\x05\r\n",
    b"\xff\xfa\x18\x01\xff\xf0\r\n", b"login: \xff\xf1\r\n",
)  # fmt: skip
_BROKEN: Final = (b"\xff\xfe", b"\xc3\x28", b"\xe2\x28\xa1", b"\xf0\x28\x8c\xbc", b"\xed\xa0\x80", b"\xc0\xaf")
MANY_FIELDS: Final = 100_000


def garbage(kind: str, lines: int, rng: Random) -> bytes:
    """So many bad lines of a kind of fault_kinds.GARBAGE."""
    if kind == "http":
        return b"".join(_HTTP[at % len(_HTTP)] for at in range(lines))
    if kind == "telnet":
        return b"".join(_TELNET[at % len(_TELNET)] for at in range(lines))
    return b"".join(_line(kind, rng) + b"\n" for _ in range(lines))


def _line(kind: str, rng: Random) -> bytes:
    if kind == "random":
        return rng.randbytes(rng.randint(1, 200)).replace(b"\n", b"\x0b")
    if kind == "nul":
        return bytes(rng.randint(1, 64))
    if kind == "fields":
        return b"Q," + b"," * MANY_FIELDS
    broken = b"".join(rng.choices(_BROKEN, k=rng.randint(1, 4)))
    return b"Q," + broken + b",%d.%02d,C," % (rng.randint(1, 500), rng.randint(0, 99)) + broken


def line_ends(data: bytes) -> render.Int64s:
    """Where each line of `data` ends."""
    ends: render.Int64s = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10).astype(np.int64) + 1
    return ends
