"""What has come for one request and was not yet taken: the seam between the reading task and who asked."""

from __future__ import annotations

import asyncio
from collections import deque

from pipeline_orchestrator.errors import PipelineError


class Mailbox:
    """Bytes of one answer, its end, or what went wrong with it.

    `ended` once the end line came or the connection is gone; `failure` is raised to who asked, after the rows that
    came before it.
    """

    def __init__(self, request_id: bytes, *, error_like_rows: bool) -> None:
        self.request_id, self.error_like_rows = request_id, error_like_rows
        self.ended, self.no_rows = False, False
        self.failure: PipelineError | None = None
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Whether no more rows are to be waited for."""
        return self.ended or self.no_rows or self.failure is not None

    def put(self, data: bytes) -> None:
        """Rows, as they came."""
        self._pieces.append(data)
        self._news.set()

    def end(self) -> None:
        """The end line came."""
        self.ended = True
        self._news.set()

    def fail(self, error: PipelineError) -> None:
        """No answer will follow; the first failure counts."""
        self.failure = self.failure or error
        self._news.set()

    def empty(self) -> None:
        """The feed says that there is nothing: a normal answer."""
        self.no_rows = True
        self._news.set()

    def take(self) -> bytes:
        """All rows that came since the last call."""
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return data

    async def news(self) -> None:
        """Wait until something came since the last call of this."""
        await self._news.wait()
        self._news.clear()
