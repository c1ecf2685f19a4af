"""Joined batches keep every row, range and acknowledgement, and wait no longer than they may."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline_orchestrator.errors import EndOfInputError, NotConnectedError
from pipeline_orchestrator.flow.batcher import BatchingSource, joined_batch
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Batch
from tests.doubles.market_rows import Log, event


class Scripted:
    """Delivers its script item by item: a batch, None, an error, or an event to wait for."""

    def __init__(self, script: Sequence[Batch | Exception | asyncio.Event | None]) -> None:
        self.script = list(script)
        self.acked: list[Batch] = []
        self.opened = self.finished = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def read(self) -> Batch | None:
        if not self.script:
            raise EndOfInputError("end")
        item = self.script[0]
        if isinstance(item, asyncio.Event):
            await item.wait()
            self.script.pop(0)
            return await self.read()
        self.script.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    async def ack(self, batch: Batch) -> None:
        self.acked.append(batch)

    async def finish(self) -> None:
        self.finished += 1

    async def close(self) -> None:
        self.closed += 1

    async def probe(self) -> Probe:
        return Probe("scripted", "", True, 0.0)


def batches(cuts: Sequence[int]) -> list[Batch]:
    log = Log()
    for seq in range(sum(cuts)):
        log.append(0, **event(seq, symbol=f"S{seq % 5}"))
    made, at = [], 0
    for rows in cuts:
        made.append(log.batch({0: at}, {0: at + rows}))
        at += rows
    return made


def joining(source: Scripted, max_rows: int = 100, max_age: float = 60.0) -> BatchingSource:
    return BatchingSource(source, max_rows=max_rows, max_age=max_age)


async def test_batches_are_joined_up_to_the_row_limit_and_acknowledged_one_by_one() -> None:
    parts = batches([3, 4, 5, 6])
    source = Scripted(parts)
    joined = joining(source, max_rows=7)
    first = await joined.read()
    assert first is not None
    assert first.rows.column("seq").to_pylist() == list(range(7))
    assert first.offsets.tolist() == list(range(7))
    assert [(span.first, span.last, span.start, span.rows) for span in first.ranges] == [(0, 2, 0, 3), (3, 6, 3, 4)]
    assert first.rows.column("symbol").to_pylist() == [f"S{seq % 5}" for seq in range(7)]
    await joined.ack(first)
    assert source.acked == parts[:2]


async def test_bytes_bound_what_is_joined_too() -> None:
    parts = [replace(part, size_bytes=100) for part in batches([1, 1, 1, 1])]
    joined = BatchingSource(Scripted(parts), max_rows=100, max_age=60.0, max_bytes=250)
    first = await joined.read()
    assert first is not None
    assert (len(first), first.size_bytes) == (3, 300)


async def test_what_is_joined_is_delivered_when_it_gets_too_old() -> None:
    source = Scripted([*batches([2]), asyncio.Event()])
    joined = joining(source, max_age=0.01)
    first = await asyncio.wait_for(joined.read(), 5)
    assert first is not None and len(first) == 2
    await joined.close()
    assert source.closed == 1


async def test_what_comes_after_a_pause_does_not_wait() -> None:
    clock = [100.0]
    parts = batches([2, 3, 4])
    source = Scripted([parts[0], None, parts[1], parts[2]])
    joined = BatchingSource(source, max_rows=100, max_age=60.0, now=lambda: clock[0])
    clock[0] += 60.0
    first = await joined.read()
    assert first is not None
    assert len(first) == 2
    assert await joined.read() is None
    clock[0] += 59.0  # too early: joined with the next one
    rest = await joined.read()
    assert rest is not None
    assert len(rest) == 7


async def test_nothing_read_is_none_at_once() -> None:
    assert await joining(Scripted([None])).read() is None


async def test_the_end_comes_after_what_was_joined() -> None:
    joined = joining(Scripted(batches([2, 3])))
    last = await joined.read()
    assert last is not None and len(last) == 5
    for _ in range(2):
        with pytest.raises(EndOfInputError):
            await joined.read()


async def test_a_broken_source_forgets_what_was_not_delivered() -> None:
    first, second = batches([2, 3])
    source = Scripted([first, NotConnectedError("gone"), first, second])
    joined = joining(source)
    with pytest.raises(NotConnectedError):
        await joined.read()
    await joined.close()
    await joined.open()
    again = await joined.read()
    assert again is not None and again.rows.column("seq").to_pylist() == list(range(5))


async def test_a_cancelled_read_loses_nothing() -> None:
    gate = asyncio.Event()
    first, second = batches([2, 3])
    joined = joining(Scripted([first, gate, second]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(joined.read(), 0.01)
    gate.set()
    found = await joined.read()
    assert found is not None and found.rows.column("seq").to_pylist() == list(range(5))


def test_stamps_and_dictionaries_of_the_parts_are_kept() -> None:
    first, second = batches([1, 1])
    first.stamps.oldest_recv_us, second.stamps.newest_recv_us = 5, 9
    second.stamps.oldest_recv_us, first.stamps.newest_recv_us = 7, 6
    joined = joined_batch([first, second])
    assert (joined.stamps.oldest_recv_us, joined.stamps.newest_recv_us) == (5, 9)
    assert joined.rows.column("kind").dictionary == first.rows.column("kind").dictionary
    assert joined.rows.schema == first.rows.schema
