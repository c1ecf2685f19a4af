"""Fewer, larger batches: a source that joins what another source delivers.

A table wants tens of thousands of rows per insert, a Kafka read brings a few hundred. Joined batches keep the order
of rows within each partition and every range and offset; the joined source is acknowledged batch by batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.flow.connector import Probe, Source
from pipeline_orchestrator.record import Batch, OffsetRange, Stamps

MAX_BYTES = 64 << 20  # of joined batches, as they came: rows alone would not bound what long lines need


class BatchingSource:
    """Joins batches until `max_rows` or `max_bytes` are there or `max_age` seconds have passed since the last delivery.

    So what comes after a pause is delivered at once, and no row waits longer than `max_age`.

    While nothing has come, `read` returns None as the inner source does. When the inner source ends, what was
    joined is delivered before the end is. When it breaks (NotConnectedError), what was joined is forgotten: it was
    never acknowledged, so it is read again. A batch may exceed `max_rows` and `max_bytes` by one inner batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        max_rows: int,
        max_age: float,
        max_bytes: int = MAX_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.max_rows, self.max_age, self.max_bytes = source, max_rows, max_age, max_bytes
        self._now = now
        self._joined: list[Batch] = []
        self._delivered = now()
        self._reading: asyncio.Task[Batch | None] | None = None
        self._ended = False

    async def open(self) -> None:
        self._joined.clear()
        self._ended = False
        self._delivered = self._now()
        await self.source.open()

    async def read(self) -> Batch | None:
        while not self._ended:
            if self._joined and self._due():
                return self._take()
            if self._reading is None:
                self._reading = asyncio.ensure_future(self.source.read())
            left = max(0.0, self._delivered + self.max_age - self._now()) if self._joined else None
            done, _ = await asyncio.wait({self._reading}, timeout=left)
            if not done:
                return self._take()
            task, self._reading = self._reading, None
            try:
                batch = task.result()
            except EndOfInputError:
                self._ended = True
                break
            except BaseException:
                self._joined.clear()
                raise
            if batch is not None:
                self._joined.append(batch)
            elif not self._joined:
                return None
        if self._joined:
            return self._take()
        raise EndOfInputError("the source has delivered everything")

    def _due(self) -> bool:
        full = (
            sum(map(len, self._joined)) >= self.max_rows
            or sum(batch.size_bytes for batch in self._joined) >= self.max_bytes
        )
        return full or self._now() - self._delivered >= self.max_age

    def _take(self) -> Batch:
        joined, self._joined = self._joined, []
        self._delivered = self._now()
        return joined_batch(joined)

    async def ack(self, batch: Batch) -> None:
        for part in batch.origin:
            await self.source.ack(part)

    async def finish(self) -> None:
        await self.source.finish()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        self._joined.clear()
        await self.source.close()

    async def probe(self) -> Probe:
        return await self.source.probe()


def joined_batch(parts: list[Batch]) -> Batch:
    """One batch of several, in order; its `origin` is the tuple of the parts. Dictionaries are unified by Arrow."""
    ranges: list[OffsetRange] = []
    at = 0
    for part in parts:
        for span in part.ranges:
            ranges.append(OffsetRange(span.topic, span.partition, span.first, span.last, span.start + at, span.rows))
        at += len(part)
    rows = parts[0].rows if len(parts) == 1 else pa.concat_batches([part.rows for part in parts])
    stamps = Stamps(
        fetched_ns=min(part.stamps.fetched_ns for part in parts),
        decoded_ns=max(part.stamps.decoded_ns for part in parts),
        oldest_recv_us=min(part.stamps.oldest_recv_us for part in parts),
        newest_recv_us=max(part.stamps.newest_recv_us for part in parts),
    )
    return Batch(
        rows=rows,
        ranges=tuple(ranges),
        offsets=np.concatenate([part.offsets for part in parts]),
        stamps=stamps,
        dead=tuple(letter for part in parts for letter in part.dead),
        origin=tuple(parts),
        log_id=parts[0].log_id,
        size_bytes=sum(part.size_bytes for part in parts),
    )
