"""Server of the control socket: HTTP over a unix socket, for the users it belongs to and nobody else.

Each connection is judged when it is accepted (peer credentials, number of clients), has five seconds to say what
it wants, may send at most 1 MiB of JSON, and is answered once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from manage import socket_file
from manage.protocol import (
    DifferenceReply,
    DifferenceRequest,
    InfoReply,
    ReplayReply,
    ReplayRequest,
    StopReply,
    StopRequest,
)

MAX_BODY = 1 << 20
READ_SECONDS = 5.0
MAX_CLIENTS = 16

Log = Callable[..., None]
Model = TypeVar("Model", bound=BaseModel)


class VerbError(Exception):
    """A verb's own refusal: becomes an error reply with this HTTP status."""

    def __init__(self, status: int, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.next_step = status, code, next_step


class Verbs(Protocol):
    """What the daemon does for its clients."""

    def status(self) -> Mapping[str, Any]:  # Any: JSON
        """The newest snapshot as a document."""

    def info(self) -> InfoReply:
        """Who answers."""

    def stop(self, request: StopRequest) -> StopReply:
        """Begin to end; returns at once."""

    def difference(self, request: DifferenceRequest) -> DifferenceReply:
        """What a start with the given settings would change."""

    async def replay(self, request: ReplayRequest) -> ReplayReply:
        """Dead letters to the components that hold them; answers when all of these have."""


class ControlServer:
    """Listens at `path` from `start` to `stop`; call with the state lock held, from the event loop's thread.

    `log(level, event, **fields)` gets refused peers and every verb that changes something.
    """

    def __init__(
        self, path: Path, verbs: Verbs, *, group: str = "", log: Log, read_seconds: float = READ_SECONDS
    ) -> None:
        self.path, self.verbs, self.group, self.log = path, verbs, group, log
        self.read_seconds = read_seconds
        self._runner: web.AppRunner | None = None
        self._server: asyncio.AbstractServer | None = None
        self._identity = (0, 0)
        self.doors: set[_Door] = set()
        self.turned_away: set[_Door] = set()

    async def start(self) -> None:
        """Bind and listen. Raises socket_file.SocketFileError."""
        gid = socket_file.group_id(self.group)
        self.users = socket_file.allowed_users(self.group)
        socket_file.prepare_directory(self.path.parent, gid)
        if socket_file.clear_stale(self.path):
            self.log("WARNING", "stale_socket_removed", path=str(self.path))
        listener = socket_file.bind(self.path, gid)
        status = self.path.lstat()
        self._identity = (status.st_dev, status.st_ino)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._frame])
        app.router.add_get("/v1/status", self._status, allow_head=False)
        app.router.add_get("/v1/info", self._info, allow_head=False)
        app.router.add_post("/v1/stop", self._stop)
        app.router.add_post("/v1/difference", self._difference)
        app.router.add_post("/v1/replay", self._replay)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=0, lingering_time=self.read_seconds
        )
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Door(self), sock=listener)

    async def stop(self) -> None:
        """Stop listening, end open connections, remove the socket. Safe to call twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for door in [*self.doors, *self.turned_away]:
            door.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            socket_file.remove(self.path, self._identity)

    def handler(self) -> asyncio.Protocol:
        """A fresh HTTP handler for an admitted connection."""
        assert self._runner is not None and self._runner.server is not None
        protocol: asyncio.Protocol = self._runner.server()
        return protocol

    @web.middleware
    async def _frame(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:  # Any: aiohttp's handler type
        door = next((door for door in self.doors if door.transport is request.transport), None)
        if door is not None:
            door.began()
        try:
            response: web.StreamResponse = await handler(request)
        except VerbError as error:
            response = _error(error.status, error.code, str(error), error.next_step)
        except web.HTTPRequestEntityTooLarge:
            response = _error(413, "too_large", f"a request body holds at most {MAX_BODY} bytes")
        except web.HTTPException as error:
            response = _error(error.status, "unknown_verb", f"no verb {request.method} {request.path}")
        except TimeoutError:
            response = _error(408, "too_slow", f"the request was not complete after {self.read_seconds:g} s")
        response.force_close()
        return response

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(self.verbs.status())

    async def _info(self, _request: web.Request) -> web.Response:
        return _json(self.verbs.info().model_dump())

    async def _stop(self, request: web.Request) -> web.Response:
        wish = await self._body(request, StopRequest)
        self._audit(request, "stop", force=wish.force)
        return _json(self.verbs.stop(wish).model_dump(), 202)

    async def _difference(self, request: web.Request) -> web.Response:
        return _json(self.verbs.difference(await self._body(request, DifferenceRequest)).model_dump())

    async def _replay(self, request: web.Request) -> web.Response:
        wish = await self._body(request, ReplayRequest)
        self._audit(request, "replay", letters=len(wish.ids))
        return _json((await self.verbs.replay(wish)).model_dump())

    async def _body(self, request: web.Request, model: type[Model]) -> Model:
        if request.content_type != "application/json":
            raise VerbError(415, "not_json", "the body must be application/json")
        async with asyncio.timeout(self.read_seconds):
            raw = await request.read()
        try:
            return model.model_validate_json(raw)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors()]
            raise VerbError(400, "bad_request", "; ".join(faults[:5])) from None

    def _audit(self, request: web.Request, verb: str, **fields: Any) -> None:  # Any: log fields
        pid, uid, _ = peer(request.transport)
        self.log("INFO", "control_verb", verb=verb, peer_pid=pid, peer_uid=uid, **fields)


class _Door(asyncio.Protocol):
    """Admits a connection and hands it to the HTTP handler, or turns it away with one answer."""

    def __init__(self, server: ControlServer) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self._handler: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        pid, uid, _ = peer(transport)
        if uid not in self.server.users:
            self.server.log("WARNING", "control_peer_refused", peer_pid=pid, peer_uid=uid)
            self._turn_away(transport, 403, "not_permitted", f"uid {uid} may not control this pipeline")
        elif len(self.server.doors) >= MAX_CLIENTS:
            self._turn_away(transport, 503, "too_many_clients", f"{MAX_CLIENTS} clients are connected")
        else:
            self.transport = transport
            self.server.doors.add(self)
            self._handler = self.server.handler()
            self._handler.connection_made(transport)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.server.read_seconds, self.close)

    def began(self) -> None:
        """The request's head is complete: its own deadlines rule from here."""
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received() if self._handler is not None else None

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.began()
        self.server.doors.discard(self)
        self.server.turned_away.discard(self)
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def _turn_away(self, transport: asyncio.Transport, status: int, code: str, message: str) -> None:
        body = json.dumps(_error_document(code, message)).encode()
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        transport.write(head.encode("ascii") + b"Connection: close\r\n\r\n" + body)
        if len(self.server.turned_away) >= MAX_CLIENTS:
            transport.close()
            return
        # closing with the request unread would discard the answer: wait for the client to hang up
        transport.write_eof()
        self.transport = transport
        self.server.turned_away.add(self)
        self._timer = asyncio.get_running_loop().call_later(self.server.read_seconds, self.close)


def peer(transport: asyncio.BaseTransport | None) -> tuple[int, int, int]:
    """Process, user and group id of the other end (unix(7), SO_PEERCRED); -1 each where the kernel does not say."""
    link = transport.get_extra_info("socket") if transport is not None else None
    if link is None:
        return -1, -1, -1
    pid, uid, gid = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


def _json(document: Mapping[str, Any], status: int = 200) -> web.Response:  # Any: JSON
    return web.json_response(document, status=status)


def _error_document(code: str, message: str, next_step: str = "") -> dict[str, Any]:  # Any: JSON
    return {"error": {"code": code, "message": message, "next_step": next_step}}


def _error(status: int, code: str, message: str, next_step: str = "") -> web.Response:
    return web.json_response(_error_document(code, message, next_step), status=status)
