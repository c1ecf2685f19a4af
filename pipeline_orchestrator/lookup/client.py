"""Asks the Lookup port and streams the answers.

    async with LookupClient(host, port) as client:
        async for part in client.stream(ticks_between("AAPL", begin, end)):
            part.rows        # an Arrow record batch
            part.refused     # lines that could not be read

Requests may run side by side on one client; each answer is told apart by its id. An answer without rows (`!NO_DATA!`
too) gives no part. "Too many simultaneous history requests" is asked again once the credits are full again, as long
as that is within the request's time and `silence_seconds` of such waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Self

from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.lookup.connection import MAX_HELD, LineCounts, LookupConnection
from pipeline_orchestrator.lookup.credit_bucket import CreditBucket, bucket_of
from pipeline_orchestrator.lookup.mailbox import Mailbox
from pipeline_orchestrator.lookup.refusals import AnswerTimeoutError, LookupLostError, TooManyRequestsError
from pipeline_orchestrator.lookup.requests import Request
from pipeline_orchestrator.lookup.row_layouts import PROTOCOLS
from pipeline_orchestrator.lookup.row_parser import Parsed, RowParser
from pipeline_orchestrator.lookup.table_rows import TextRowParser

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0
LONGEST_SECONDS = 3600.0
END_AFTER_ERROR_SECONDS = 1.0


class LookupClient:
    """One connection to the Lookup port of one account.

    `bucket`: the credits of the account; by default all clients of this process with the same host and port share
    one. Nothing reconnects by itself: after LookupLostError `open` makes a new connection.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9100,
        *,
        protocol: str = "6.2",
        bucket: CreditBucket | None = None,
        client_name: str = "pipeline-lookup",
        connect_seconds: float = CONNECT_SECONDS,
        max_held: int = MAX_HELD,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol!r} is not known; there are {', '.join(filter(None, PROTOCOLS))}")
        self._host, self._port, self._protocol = host, port, protocol
        self._bucket = bucket or bucket_of(f"{host}:{port}")
        self._client_name, self._connect_seconds, self._max_held = client_name, connect_seconds, max_held
        self._connection: LookupConnection | None = None
        self._numbers = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def counts(self) -> LineCounts:
        """Lines of the newest connection that are no part of an answer."""
        return self._connection.counts if self._connection is not None else LineCounts()

    async def open(self) -> None:
        """Connect and agree on the protocol; nothing is done where a connection stands.

        Raises LookupLostError (nothing listens there), AnswerTimeoutError, ProtocolRefusedError.
        """
        if self._connection is not None and self._connection.usable:
            return
        await self.close()
        connection = LookupConnection(self._host, self._port, max_held=self._max_held)
        await connection.open(self._protocol, self._client_name, self._connect_seconds)
        self._connection = connection

    async def close(self) -> None:
        """Close the connection; requests under way raise LookupLostError."""
        if self._connection is not None:
            await self._connection.close()

    async def stream(
        self,
        request: Request,
        *,
        request_id: str = "",
        silence_seconds: float = SILENCE_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> AsyncGenerator[Parsed, None]:
        """The answer in parts, as they come; nothing is sent before the first part is asked for.

        `silence_seconds` without a byte of this answer, while its next part is waited for, and `longest_seconds` for
        all of it (credits included) end it with AnswerTimeoutError. A `request_id` that is in use raises ValueError.
        Raises RefusedError, TooManyRequestsError, LookupLostError; rows that came before were handed out.
        """
        deadline = asyncio.get_running_loop().time() + longest_seconds
        given, waited = request_id, 0.0
        while True:
            connection = self._usable()
            await self._credit(request, deadline)
            used = given or self._new_id(connection)
            if not connection.is_free(used):
                raise ValueError(f"request id {used!r} is in use on this connection")
            parser = self._parser(request, used.encode("ascii"))
            box = connection.begin(used, request.line(used), error_like_rows=self._error_like_rows(request))
            handed_out = False
            try:
                while data := await self._next(connection, box, request, silence_seconds, deadline):
                    handed_out = True
                    yield parser.parse(data)
                return
            except TooManyRequestsError:
                wait = self._bucket.emptied()
                waited += wait
                if handed_out or waited > silence_seconds or asyncio.get_running_loop().time() + wait > deadline:
                    raise
                await self._ended(connection, box)
            finally:
                connection.leave(box)
            if not connection.is_free(used):
                given = ""  # its end line never came: an id of our own cannot be mistaken
            await self._bucket.pause(wait)

    async def collect(self, request: Request) -> list[Parsed]:
        """The whole answer of a request whose answer is known to be small (a table, a search)."""
        return [part async for part in self.stream(request)]

    def parser(self, request: Request) -> RowParser | TextRowParser:
        """A parser of the answer, for its schema."""
        return self._parser(request, b"")

    def _parser(self, request: Request, request_id: bytes) -> RowParser | TextRowParser:
        if request.rows in {"table", "search"}:
            return TextRowParser(request.command, self._protocol, request_id=request_id)
        bound = request.end_us if request.newest_first else request.begin_us
        return RowParser(
            request.rows, self._protocol, request_id=request_id, newest_first=request.newest_first, bound_us=bound
        )

    def _error_like_rows(self, request: Request) -> bool:
        return request.rows == "search"

    def _usable(self) -> LookupConnection:
        if self._connection is None:
            raise LookupLostError(f"not connected to {self._host}:{self._port}")
        return self._connection

    def _new_id(self, connection: LookupConnection) -> str:
        while True:
            self._numbers += 1
            if connection.is_free(f"R{self._numbers}"):
                return f"R{self._numbers}"

    async def _credit(self, request: Request, deadline: float) -> None:
        within = deadline - asyncio.get_running_loop().time()
        if not await self._bucket.take(within):
            raise TooManyRequestsError(f"{request}: no credit within {max(0.0, within):.1f} s", retry_after=1.0)

    async def _next(
        self, connection: LookupConnection, box: Mailbox, request: Request, silence: float, deadline: float
    ) -> bytes:
        """The next rows, b"" at the end."""
        loop = asyncio.get_running_loop()
        while (left := deadline - loop.time()) > 0:
            if data := connection.take(box):
                return data
            if box.failure is not None:
                raise _about(box.failure, request)
            if box.settled:
                await self._ended(connection, box)
                return b""
            try:
                async with asyncio.timeout(min(silence, left)):
                    await box.news()
            except TimeoutError:
                if silence < left:
                    raise self._late(connection, request, f"nothing for {silence:g} s") from None
        raise self._late(connection, request, "no end within the time of the request")

    async def _ended(self, connection: LookupConnection, box: Mailbox) -> None:
        """After an error its end line follows; wait for it a moment, so that the id is free again."""
        try:
            async with asyncio.timeout(END_AFTER_ERROR_SECONDS):
                while not box.ended and connection.usable:
                    await box.news()
        except TimeoutError:
            return

    def _late(self, connection: LookupConnection, request: Request, what: str) -> AnswerTimeoutError:
        said = connection.counts.newest_unplaced
        told = f"; the feed also said {said!r}" if said else ""
        held = "; reading is held back: answers to other requests are not taken" if connection.held_back else ""
        return AnswerTimeoutError(f"{request}: {what}{held}{told}")


def _about(failure: PipelineError, request: Request) -> PipelineError:
    """The failure, with what was asked."""
    failure.args = (f"{request}: {failure.args[0]}", *failure.args[1:])
    return failure
