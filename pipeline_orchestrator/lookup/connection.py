"""One socket to the Lookup port: handshake, one reading task, lines sorted out to the requests they belong to.

Several answers may be mixed line by line; the id in front tells them apart. What belongs to nobody is counted, never
handed out. Memory is bounded: beyond `max_held` bytes that nobody took, the socket is no longer read.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import numpy as np

from pipeline_orchestrator.errors import PipelineError, broke_under_a_write
from pipeline_orchestrator.lookup.line_runs import END, ERROR, MOST_RUNS, NOBODY, find_runs, table_of
from pipeline_orchestrator.lookup.mailbox import Mailbox
from pipeline_orchestrator.lookup.refusals import (
    AnswerTimeoutError,
    LookupLostError,
    ProtocolRefusedError,
    refusal,
)
from pipeline_orchestrator.lookup.table_rows import looks_like_a_found_symbol

READ_BYTES = 256 << 10
MAX_LINE = 64 << 10
MAX_HELD = 16 << 20
SHOWN = 200
_PROTOCOL = b"S,CURRENT PROTOCOL,"


@dataclass(slots=True)
class LineCounts:
    """Lines that are no part of an answer."""

    system: int = 0  # S, lines
    late: int = 0  # of requests that nobody waits for any more
    unplaced_errors: int = 0  # errors without an id, while several requests were under way
    unknown: int = 0
    newest_unplaced: str = ""


class LookupConnection:
    """`open` it, `begin` and `leave` requests; after `close`, or after its loss, it is not used again."""

    def __init__(self, host: str, port: int, *, max_held: int = MAX_HELD) -> None:
        self.host, self.port, self.counts = host, port, LineCounts()
        self._max_held = max_held
        self._active: dict[bytes, Mailbox] = {}
        self._left: dict[bytes, Mailbox] = {}  # whose end line has not come yet
        self._held, self._room = 0, asyncio.Event()
        self._agreed: asyncio.Future[str] | None = None
        self._lost: LookupLostError | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._runs = np.zeros((MOST_RUNS, 4), dtype=np.int64)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._writer is not None and self._lost is None

    @property
    def held_back(self) -> bool:
        """Whether nothing is read because too much of what came was not taken."""
        return self._held >= self._max_held

    async def open(self, protocol: str, client_name: str, within: float) -> None:
        """Connect and agree on the protocol ("" = send nothing).

        Raises LookupLostError, AnswerTimeoutError, ProtocolRefusedError; the socket is closed then.
        """
        try:
            async with asyncio.timeout(within):
                self._reader, self._writer = await asyncio.open_connection(self.host, self.port, limit=READ_BYTES)
        except TimeoutError:
            raise LookupLostError(f"no Lookup port at {self.address}: no answer within {within:g} s") from None
        except OSError as error:
            why = "connection refused" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
            raise LookupLostError(f"no Lookup port at {self.address}: {why}") from None
        self._task = asyncio.create_task(self._read(self._reader))
        if not protocol:
            return
        self._agreed = asyncio.get_running_loop().create_future()
        try:
            self._write(f"S,SET PROTOCOL,{protocol}\r\n".encode())
            async with asyncio.timeout(within):
                spoken = await self._agreed
            if spoken != protocol:
                raise ProtocolRefusedError(
                    f"{self.address} speaks protocol {spoken or '?'}, {protocol} was asked for",
                    next_step=f"update IQConnect to a client that speaks protocol {protocol}",
                )
            self._write(f"S,SET CLIENT NAME,{client_name}\r\n".encode())
        except TimeoutError:
            await self.close()
            raise AnswerTimeoutError(f"{self.address} does not answer to SET PROTOCOL within {within:g} s") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the socket; requests under way fail."""
        self._lose("closed by us")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()
            with contextlib.suppress(OSError):  # how it ended is known already
                await self._writer.wait_closed()

    def is_free(self, request_id: str) -> bool:
        """Whether an answer with this id could belong to no other request."""
        key = request_id.encode("ascii")
        return key not in self._active and key not in self._left

    def begin(self, request_id: str, line: bytes, *, error_like_rows: bool) -> Mailbox:
        """Send a request; its answer is put into the box. Raises LookupLostError."""
        if self._lost is not None:
            raise self._lost
        box = Mailbox(request_id.encode("ascii"), error_like_rows=error_like_rows)
        self._write(line)
        self._active[box.request_id] = box
        return box

    def take(self, box: Mailbox) -> bytes:
        """What came into a box; makes room for more."""
        data = box.take()
        self._held -= len(data)
        if not self.held_back:
            self._room.set()
        return data

    def leave(self, box: Mailbox) -> None:
        """Nobody waits for this answer any more; what still comes of it is dropped and counted."""
        self.take(box)
        if self._active.pop(box.request_id, None) is not None and not box.ended:
            self._left[box.request_id] = box

    def _write(self, line: bytes) -> None:
        if self._lost is not None or self._writer is None:
            raise self._lost or LookupLostError(f"not connected to {self.address}")
        try:
            self._writer.write(line)
        except RuntimeError as error:
            if not broke_under_a_write(error):
                raise
            raise LookupLostError(f"the connection to {self.address} was lost") from error

    async def _read(self, reader: asyncio.StreamReader) -> None:
        rest, why = b"", "reading ended"
        try:
            while chunk := await reader.read(READ_BYTES):
                data = rest + chunk if rest else chunk
                rest = data[self._sort_out(data) :]
                if len(rest) > MAX_LINE:
                    why = f"a line of more than {MAX_LINE} bytes"
                    break
                while self.held_back:
                    self._room.clear()
                    await self._room.wait()
            else:
                why = "closed by the feed" + (f", {len(rest)} bytes into a line" if rest else "")
        except OSError as error:
            why = error.strerror or str(error)
        finally:
            self._lose(why)
            if self._writer is not None:
                self._writer.transport.abort()

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = LookupLostError(f"the connection to {self.address} is lost: {why}")
        for box in self._active.values():
            asked = box.request_id.decode("ascii")
            box.fail(LookupLostError(f"the connection to {self.address} was lost during request {asked}: {why}"))
        self._active.clear()
        self._left.clear()
        if self._agreed is not None and not self._agreed.done():
            self._agreed.set_exception(self._lost)
            self._agreed.exception()  # seen, also where nobody waits any more

    def _sort_out(self, data: bytes) -> int:
        """Hand out the whole lines of `data`; returns where the rest begins."""
        buf, at = np.frombuffer(data, dtype=np.uint8), 0
        boxes = [*self._active.values(), *self._left.values()]
        ids, bounds = table_of([box.request_id for box in boxes])
        while True:
            found, following = find_runs(buf, at, buf.size, ids, bounds, self._runs)
            for begin, end, owner, kind in self._runs[:found].tolist():
                if kind == NOBODY:
                    self._unowned(data[begin:end].rstrip(b"\r\n"))
                else:
                    self._owned(boxes[owner], data[begin:end], kind)
            if found < MOST_RUNS:
                return following
            at = following

    def _owned(self, box: Mailbox, lines: bytes, kind: int) -> None:
        if self._active.get(box.request_id) is not box:
            self.counts.late += lines.count(b"\n")
            if kind == END:
                box.ended = True
                self._left.pop(box.request_id, None)
            return
        rest = lines[len(box.request_id) + 1 :].rstrip(b"\r\n")
        if kind == END:
            del self._active[box.request_id]
            box.end()
        elif kind == ERROR and not (box.error_like_rows and looks_like_a_found_symbol(rest)):
            self._error(box, rest)
        else:
            self._held += len(lines)
            box.put(lines)

    def _error(self, box: Mailbox, rest: bytes) -> None:
        problem = refusal(_text(rest), f"request {box.request_id.decode('ascii')}")
        if problem is None:
            box.empty()
        else:
            box.fail(problem)

    def _unowned(self, line: bytes) -> None:
        if line.startswith(_PROTOCOL) and self._agreed is not None and not self._agreed.done():
            self._agreed.set_result(line.removeprefix(_PROTOCOL).decode("latin-1").removesuffix(",").strip())
        elif line.startswith(b"S,"):
            self.counts.system += 1
        elif line.startswith(b"E,"):
            self._error_of_nobody(line)
        elif not line.startswith(b"!ENDMSG!"):  # an end without id follows an error without id
            self.counts.unknown += 1
            self.counts.newest_unplaced = line[:SHOWN].decode("latin-1")

    def _error_of_nobody(self, line: bytes) -> None:
        """An error without id can only be placed while one request is under way."""
        text = _text(line)
        if self._agreed is not None and not self._agreed.done():
            problem: PipelineError = ProtocolRefusedError(f"{self.address} answers {text!r} to SET PROTOCOL")
            self._agreed.set_exception(problem)
        elif len(self._active) == 1 and not self._left:
            box = next(iter(self._active.values()))
            del self._active[box.request_id]
            self._error(box, line)
            box.end()
        else:
            self.counts.unplaced_errors += 1
            self.counts.newest_unplaced = line[:SHOWN].decode("latin-1")


def _text(line: bytes) -> str:
    """The text of `E,<text>,[,]`."""
    return line[2:].decode("latin-1").rstrip(",").strip()
