"""Lookup (port 9100, CRLF): history, reference tables and symbol search, answered from what the market made.

Requests of one connection are answered one after the other in their order (`interleave`: side by side), those of
different connections side by side. A history request costs a credit of the account when it arrives; its rows are
chosen when its turn comes. DatapointsPerSend rows go to the socket at a time, and the next ones when the client has
taken most of them. While the upstream link is down requests are refused (`needs_upstream`), what is under way ends as
usual; the market goes on, and afterwards history holds what live missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import lookup_request, lookup_tables, render
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import PROTOCOL, Feed
from infrastructure.simulator.lookup_answer import answer
from infrastructure.simulator.lookup_behaviour import ERRORS, LookupBehaviour
from infrastructure.simulator.lookup_request import INTERVALS, TICKS, Request, RequestError
from infrastructure.simulator.lookup_rows import DIALECTS, render_days, render_intervals, render_ticks
from infrastructure.simulator.market import Int64s
from infrastructure.simulator.session import Session

LINE_END: Final = b"\r\n"
END: Final = "!ENDMSG!,"
_LOW_WATER: Final = 256 << 10  # the next rows are made when less than this waits for the client
_PLAIN_CLOCK_US: Final = 43_200_000_000
_CONDITIONS, _CONDITION_LENGTHS = render.byte_rows(c.CONDITIONS)


class LookupSession(Session):
    """See the module. Speaks every version that lookup_rows names; another one asked for is answered with 6.2."""

    stats_type: ClassVar[int] = 3
    streams: ClassVar[bool] = False

    def __init__(self, feed: Feed, connection: Connection, number: int) -> None:
        super().__init__(feed, connection, number)
        self._dialect = DIALECTS[""]
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        wake = connection.on_room

        def room() -> None:
            self._moved.set()
            wake()

        connection.on_room = room

    def system(self) -> dict[str, Callable[[str], None]]:
        return super().system() | {"SET PROTOCOL": self._set_protocol}

    def other(self, line: str) -> None:
        command, *fields = line.split(",")
        command = command.strip().upper()
        if command in lookup_request.COMMANDS:
            self._history(line)
        elif command in lookup_tables.COMMANDS:
            request_id = fields[0].strip() if fields else ""
            rows = lookup_tables.table_rows(command, groups=not self._dialect.plain)
            self._begin(self._answer_rows(request_id, rows))
        elif command == "SBF":
            self._search(fields)
        elif command in lookup_tables.INDUSTRIES:
            self._search_industry(command, fields)
        else:
            self._begin(self._refuse("", ERRORS["syntax"]))

    def upstream(self, up: bool) -> None:
        """See the module."""

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    @property
    def _behaviour(self) -> LookupBehaviour:
        return self.feed.behaviour.lookup

    def _set_protocol(self, rest: str) -> None:
        version = rest.strip().rstrip(",")
        self._dialect = DIALECTS.get(version) or DIALECTS[PROTOCOL]
        self.protocol_set = True
        self.say(f"S,CURRENT PROTOCOL,{self._dialect.version}" + ("," if self.feed.behaviour.ack_comma else ""))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            what = {"message": f"a lookup request of connection {self.connection.number} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(what)
            self.connection.close("the simulator failed on a lookup request")

    def _history(self, line: str) -> None:
        if not self.feed.credits.take():
            self._begin(self._refuse(_id_of(line), ERRORS["too_many"]))
            return
        self.feed.history_requests += 1
        faulty = self.feed.history_requests % self._behaviour.every == 0
        try:
            request = lookup_request.parse(line)
        except RequestError as error:
            self._begin(self._refuse(error.id, error.text))
            return
        if faulty and self._behaviour.error:
            self._begin(self._refuse(request.id, ERRORS[self._behaviour.error]))
        elif self.symbol(request.symbol) < 0:
            self._begin(self._refuse(request.id, ERRORS["symbol"]))
        else:
            self._begin(self._answer_history(request, faulty=faulty))

    def _search(self, fields: list[str]) -> None:
        request_id = fields[4].strip() if len(fields) > 4 else ""
        if not 2 <= len(fields) <= 6:
            self._begin(self._refuse(request_id, ERRORS["parameters"]))
            return
        try:
            rows = lookup_tables.search(fields, self.feed.names.symbols)
        except ValueError as error:
            self._begin(self._refuse(request_id, str(error)))
            return
        self._begin(self._answer_rows(request_id, rows))

    def _search_industry(self, command: str, fields: list[str]) -> None:
        request_id = fields[1].strip() if len(fields) > 1 else ""
        if not 1 <= len(fields) <= 3:
            self._begin(self._refuse(request_id, ERRORS["parameters"]))
            return
        try:
            rows = lookup_tables.of_industry(command, fields[0], self.feed.names.symbols)
        except ValueError as error:
            self._begin(self._refuse(request_id, str(error)))
            return
        self._begin(self._answer_rows(request_id, rows))

    async def _refuse(self, request_id: str, text: str) -> None:
        async with self._turn:
            self._say_error(request_id, text)

    def _say_error(self, request_id: str, text: str) -> None:
        self.say(f"{_before(request_id)}E,{text},")
        self.say(f"{_before(request_id)}{END}")

    @property
    def _away(self) -> bool:
        return self._behaviour.needs_upstream and not self.feed.connected

    async def _answer_rows(self, request_id: str, rows: list[str]) -> None:
        async with self._turn:
            if self._away:
                self._say_error(request_id, ERRORS["symbols_away"])
                return
            if not rows:
                self._say_error(request_id, ERRORS["no_data"])
                return
            prefix = _before(request_id) + ("LS," if self._dialect.tags else "")
            for row in rows:
                await self._room()
                self.say(prefix + row)
            self.say(f"{_before(request_id)}{END}")

    async def _answer_history(self, request: Request, *, faulty: bool) -> None:
        if self._behaviour.interleave:
            await self._send_history(request, faulty=faulty)
            return
        async with self._turn:
            await self._send_history(request, faulty=faulty)

    async def _send_history(self, request: Request, *, faulty: bool) -> None:
        behaviour, dialect = self._behaviour, self._dialect
        await asyncio.sleep(behaviour.delay_seconds)
        if self._away:
            self._say_error(request.id, ERRORS["history_away"])
            return
        rows = answer(
            request, self.feed.history, self.symbol(request.symbol), self.feed.market.second_us, behaviour,
            partial=dialect.partial, qualified_only=dialect.plain,
        )  # fmt: skip
        if not len(rows):
            self._say_error(request.id, ERRORS["no_data"])
            return
        rows = np.ascontiguousarray(rows)
        cut = behaviour.cut_after_rows if faulty else -1
        row, batch = 0, 0
        while row < len(rows):
            batch += request.per_send or len(rows)
            if row:
                await asyncio.sleep(behaviour.batch_delay_seconds)
            while row < min(batch, len(rows)):
                await self._room()
                if self.connection.closed:
                    return
                last = min(batch, len(rows))
                if 0 <= cut < last:
                    await self._cut(request, rows, row, cut)
                    return
                row = self._send_rows(request, rows, row, last)
        if not (faulty and behaviour.never_ends):
            self.say(f"{_before(request.id)}{END}")

    def _render(self, request: Request, rows: Int64s, first: int, last: int) -> tuple[int, int, int]:
        scratch, dialect = self.feed.scratch, self._dialect
        text = _before(request.id) + ("LH," if dialect.tags else "")
        prefix: render.Bytes = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8)
        if request.kind == TICKS:
            return render_ticks(
                rows, first, last, prefix, dialect.fraction, dialect.who, dialect.plain, _CONDITIONS,
                _CONDITION_LENGTHS, scratch.out, scratch.ends,
            )  # fmt: skip
        if request.kind == INTERVALS:
            label = request.label_begin
            if label is None:
                label = self._behaviour.label_begin and not dialect.plain
            return render_intervals(rows, first, last, prefix, label, dialect.plain, scratch.out, scratch.ends)
        clock_us = _PLAIN_CLOCK_US if dialect.plain else -1
        return render_days(rows, first, last, prefix, clock_us, scratch.out, scratch.ends)

    def _send_rows(self, request: Request, rows: Int64s, first: int, last: int) -> int:
        """Send rows [first, last), fewer where the buffer is full; returns the next row."""
        scratch = self.feed.scratch
        row, lines, size = self._render(request, rows, first, last)
        scratch.symbols[:lines], scratch.sources[:lines] = self.symbol(request.symbol), 0
        self.connection.send(scratch.out[:size], scratch.ends[:lines], scratch.symbols[:lines], scratch.sources[:lines])
        return row

    async def _cut(self, request: Request, rows: Int64s, first: int, cut: int) -> None:
        """Send the rows before number `cut` and half a line of it, then close."""
        while first < cut:
            first = self._send_rows(request, rows, first, cut)
            await self._room()
        scratch = self.feed.scratch
        _, _, size = self._render(request, rows, cut, cut + 1)
        self.connection.send_part(scratch.out[: size // 2])
        while self.connection.queued_bytes and not self.connection.closed:
            await self._wait_for_client()
        self.connection.close("cut in the middle of an answer")

    async def _room(self) -> None:
        """Wait until the client has taken most of what was sent; lets others run in any case."""
        await asyncio.sleep(0)
        while self.connection.queued_bytes > _LOW_WATER and not self.connection.closed:
            await self._wait_for_client()

    async def _wait_for_client(self) -> None:
        self._moved.clear()
        await self._moved.wait()


def _before(request_id: str) -> str:
    return f"{request_id}," if request_id else ""


def _id_of(line: str) -> str:
    """The request id, as far as a line can be read that is not looked at further."""
    try:
        return lookup_request.parse(line).id
    except RequestError as error:
        return error.id
