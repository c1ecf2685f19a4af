"""Client of the control socket: HTTP/1.1 over a unix socket, standard library only, one request per connection.

The command line's fast path runs through here, so nothing heavier than `socket` and `json` is imported.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SILENCE_SECONDS = 2.0
MAX_REPLY = 64 << 20
MAX_PATH = 107  # bytes of sun_path before its terminating NUL


class ControlError(Exception):
    """No usable answer from the control socket."""


class NotRunningError(ControlError):
    """Nobody listens: no socket, or a dead one."""


class SilentError(ControlError):
    """Somebody listens and says nothing within the time allowed; `sent` = the request lies at its socket."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class DeniedError(ControlError):
    """The socket, or its directory, is not ours to use."""


class RefusedError(ControlError):
    """The daemon answered with an error; `status` is its HTTP status, `error` the document's inner object."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(str(error.get("message", f"HTTP {status}")))
        self.status, self.error = status, dict(error)


class Control:
    """One pipeline's control socket."""

    def __init__(self, path: Path, *, timeout: float = SILENCE_SECONDS) -> None:
        self.path, self.timeout = path, timeout

    def get(self, route: str) -> dict[str, Any]:  # Any: JSON
        """The JSON object at `route`. Raises the errors above."""
        return self._exchange("GET", route, None)

    def post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        """Send a JSON object and return the answer. Raises the errors above."""
        return self._exchange("POST", route, json.dumps(body).encode())

    def _exchange(self, method: str, route: str, body: bytes | None) -> dict[str, Any]:
        head = f"{method} {route} HTTP/1.1\r\nHost: pipeline\r\nConnection: close\r\nAccept: application/json\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        sent = False
        try:
            with connect(self.path, self.timeout) as link:
                with suppress(BrokenPipeError):  # an answer may be there although not all was read
                    link.sendall(head.encode("ascii") + b"\r\n" + (body or b""))
                    sent = True
                raw = _read_all(link)
        except TimeoutError:
            raise SilentError(f"no answer from {self.path} for {self.timeout:g} s", sent=sent) from None
        except ConnectionResetError:
            raise SilentError(f"{self.path} closed the connection without an answer") from None
        return _reply(raw, self.path)


def connect(path: Path, timeout: float) -> socket.socket:
    """A connected socket. Raises NotRunningError, DeniedError, TimeoutError."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(timeout)
    try:
        with ShortPath(path) as address:
            link.connect(address)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        link.close()
        raise NotRunningError(f"nobody listens at {path}") from error
    except PermissionError as error:
        link.close()
        raise DeniedError(f"not permitted to use {path}") from error
    except BlockingIOError as error:  # the listener's backlog is full
        link.close()
        raise TimeoutError from error
    except OSError:
        link.close()
        raise
    return link


class ShortPath:
    """A name for a unix socket that fits into an address, through a descriptor of its directory where it must."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._directory = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self.path)) <= MAX_PATH:
            return str(self.path)
        self._directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{self.path.name}"

    def __exit__(self, *_: object) -> None:
        if self._directory >= 0:
            os.close(self._directory)


def _read_all(link: socket.socket) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        part = link.recv(1 << 18)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > MAX_REPLY:
            raise ControlError("the answer is larger than any this client expects")


def _reply(raw: bytes, path: Path) -> dict[str, Any]:
    head, found, body = raw.partition(b"\r\n\r\n")
    try:
        status = int(head.split(b" ", 2)[1])
        document = json.loads(body)
    except (IndexError, ValueError):
        what = "an incomplete answer" if raw and not found else "something that is not this pipeline's protocol"
        raise (
            ControlError(f"{path} gave {what}") if raw else SilentError(f"{path} closed without an answer")
        ) from None
    if not isinstance(document, dict):
        raise ControlError(f"{path} gave something that is not this pipeline's protocol")
    if status >= 400:
        error = document.get("error")
        raise RefusedError(status, error if isinstance(error, dict) else {})
    return document
