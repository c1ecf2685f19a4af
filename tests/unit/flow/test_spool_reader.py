"""SpoolSource: from the cursor on, in order, nothing skipped, whatever happened to the files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import zstandard

from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_cursor import load_cursor
from pipeline_orchestrator.flow.spool_format import iter_frames, list_segments, read_segment, segment_path
from pipeline_orchestrator.flow.spool_reader import SpoolChunk, SpoolSource
from pipeline_orchestrator.flow.spool_scan import COUNT, SEQ
from pipeline_orchestrator.record import Batch, Mark


def make(directory: Path, **options: int) -> Spool:
    return Spool(directory, 0, segment_bytes=options.pop("segment_bytes", 1 << 12), **options)  # type: ignore[arg-type]


def write(spool: Spool, first: int, last: int) -> None:
    for number in range(first, last):
        assert spool.append(1, b"%d %s\n" % (number, b"z" * 90), 1, number) is not None


def damaged(directory: Path) -> Spool:
    """A spool of lines 0 to 99 that was closed, and whose second segment has one wrong byte in its middle since then.

    Headers carry {"next": their first sequence number} as the parser's state.
    """
    spool = make(directory)
    spool.state = lambda: {"next": spool.next_seq}
    spool.open()
    write(spool, 0, 100)
    spool.close()
    second = list_segments(directory)[2]
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 0x55
    second.write_bytes(data)
    return spool


def numbers(batch: Batch) -> list[int]:
    chunk: SpoolChunk = batch.origin
    found = []
    for start, length, *_ in chunk.table.tolist():
        found.append(int(chunk.buf[start : start + length].tobytes().split()[0]))
    return found


async def drain(source: SpoolSource, *, ack: bool = True) -> list[int]:
    """Everything that is there now."""
    await source.finish()
    found: list[int] = []
    while True:
        try:
            batch = await source.read()
        except EndOfInputError:
            return found
        assert batch is not None
        found += numbers(batch)
        if ack:
            await source.ack(batch)


async def test_reads_over_segments_and_wakes_for_what_is_appended(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool)
    await source.open()
    assert await source.read() is None
    write(spool, 0, 200)
    found: list[int] = []
    while len(found) < 200:
        batch = await source.read()
        found += [] if batch is None else numbers(batch)
    waiting = asyncio.create_task(source.read())
    await asyncio.sleep(0)
    write(spool, 200, 201)
    batch = await waiting
    assert batch is not None
    assert found + numbers(batch) == list(range(201))
    await source.close()


async def test_what_was_not_acknowledged_comes_again_before_anything_new(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool, max_lines=10)
    await source.open()
    write(spool, 0, 100)
    for _ in range(4):
        batch = await source.read()
        assert batch is not None
        await source.ack(batch)
    for _ in range(2):
        assert await source.read() is not None  # read, never acknowledged
    await source.close()
    cursor, _ = load_cursor(tmp_path)
    assert cursor is not None
    again = make(tmp_path)
    source = SpoolSource(again)
    await source.open()
    write(again, 100, 110)
    assert await drain(source) == list(range(40, 110))
    await source.close()


async def test_the_cursor_carries_the_parsers_context(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.state = lambda: {"from": "header"}
    source = SpoolSource(spool)
    await source.open()
    write(spool, 0, 5)
    batch = await source.read()
    assert batch is not None
    assert batch.origin.begin_context == {"from": "header"}
    batch.origin.end_context = {"after": 5}
    await source.ack(batch)
    await source.close()
    again = make(tmp_path)
    source = SpoolSource(again)
    await source.open()
    write(again, 5, 6)
    batch = await source.read()
    assert batch is not None
    assert batch.origin.begin_context == {"after": 5}
    await source.close()


async def test_the_cursor_is_written_without_waiting_for_the_close(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool)
    await source.open()
    write(spool, 0, 5)
    batch = await source.read()
    assert batch is not None
    await source.ack(batch)
    async with asyncio.timeout(10):
        while load_cursor(tmp_path)[0] is None:
            await asyncio.sleep(0.01)
    cursor, _ = load_cursor(tmp_path)
    assert cursor is not None
    assert cursor.next_seq == 5
    await source.close()


async def test_a_lost_cursor_sends_everything_that_is_not_compressed(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool)
    await source.open()
    write(spool, 0, 60)
    await drain(source)
    await source.close()
    (tmp_path / "cursor").write_bytes(b"rubbish")
    kept = [
        int(f.raw.split()[0]) for p in list_segments(tmp_path).values() if p.suffix == ".seg" for f in iter_frames(p)
    ]
    again = SpoolSource(make(tmp_path))
    await again.open()
    assert await drain(again) == kept
    assert again.spool.notes[0][1] == "spool_cursor_lost"
    await again.close()


async def test_a_damaged_segment_is_left_at_its_last_good_frame_and_the_next_one_goes_on(tmp_path: Path) -> None:
    damaged(tmp_path)
    good = [int(frame.raw.split()[0]) for frame in iter_frames(tmp_path)]
    assert len(good) < 100
    source = SpoolSource(make(tmp_path))
    await source.open()
    await source.finish()
    found, contexts = [], []
    while True:
        try:
            batch = await source.read()
        except EndOfInputError:
            break
        assert batch is not None
        contexts.append((numbers(batch)[0], batch.origin.begin_context))
        found += numbers(batch)
    assert found == good
    assert [damage.kind for damage in source.spool.damages] == ["corrupt_frame"]
    behind = next(number for number in found if number > 0 and number - 1 not in found)
    assert (behind, {"next": behind}) in contexts  # the parser starts anew from the header
    await source.close()


@pytest.mark.parametrize("mark", [None, 30])
async def test_another_log_gets_what_is_kept_again(tmp_path: Path, mark: int | None) -> None:
    spool = make(tmp_path)

    async def first() -> str:
        return "one"

    async def second() -> str:
        return "two"

    source = SpoolSource(spool, log_id=first)
    await source.open()
    write(spool, 0, 100)
    await drain(source)
    await source.close()

    async def resend_from() -> Mark | None:
        return None if mark is None else Mark(spool.epoch, mark, 0)

    same = SpoolSource(make(tmp_path), log_id=first, resend_from=resend_from)
    await same.open()
    assert await drain(same) == []
    await same.close()
    other = SpoolSource(make(tmp_path), log_id=second, resend_from=resend_from)
    await other.open()
    found = await drain(other)
    await other.close()
    assert found == list(range(found[0], 100))
    assert found[0] == 0 if mark is None else found[0] <= mark + 1
    assert (mark is None) or found[0] > 0
    settled = SpoolSource(make(tmp_path), log_id=second)
    await settled.open()
    assert await drain(settled) == []
    await settled.close()


async def test_lines_that_are_no_longer_kept_are_told_when_another_log_wants_them(tmp_path: Path) -> None:
    spool = make(tmp_path, keep_seconds=0)
    source = SpoolSource(spool)
    await source.open()
    write(spool, 0, 100)
    await drain(source)
    await source.close()
    first_kept = next(iter_frames(tmp_path)).first_seq
    assert first_kept > 0
    told: list[tuple[Mark | None, Mark]] = []
    again = make(tmp_path, keep_seconds=0)
    source = SpoolSource(again)
    source.on_hole = lambda before, after: told.append((before, after))
    await source.open()
    source.rewind(Mark(spool.epoch, 3, 0))
    assert (await drain(source))[0] == first_kept
    assert told == [(Mark(spool.epoch, 3, 0), Mark(spool.epoch, first_kept, 0))]
    await source.close()


async def test_counts_and_sequence_numbers_of_chunks_fit_together(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool, max_lines=7)
    await source.open()
    write(spool, 0, 50)
    seq = 0
    while seq < 50:
        batch = await source.read()
        assert batch is not None
        table = batch.origin.table
        assert table[0, SEQ] == seq
        assert table[:, COUNT].sum() <= 7
        seq = batch.origin.next_seq
    await source.close()


async def test_lines_gather_while_a_batch_waits_for_its_turn(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool, pace_seconds=0.5)
    await source.open()
    write(spool, 0, 1)
    first = await source.read()
    assert first is not None
    assert numbers(first) == [0]
    write(spool, 1, 2)
    reading = asyncio.create_task(source.read())
    await asyncio.sleep(0)  # without its turn the read would take line 1 here
    write(spool, 2, 5)
    second = await reading
    assert second is not None
    assert numbers(second) == [1, 2, 3, 4]
    await source.close()


async def test_a_backlog_and_the_end_do_not_wait_for_a_turn(tmp_path: Path) -> None:
    spool = make(tmp_path, segment_bytes=1 << 22)
    source = SpoolSource(spool, pace_seconds=1e9, max_lines=1500)
    await source.open()
    write(spool, 0, 3001)
    found: list[int] = []
    for _ in range(2):
        batch = await source.read()
        assert batch is not None
        found += numbers(batch)
    assert found + await drain(source) == list(range(3001))
    await source.close()


async def test_lines_of_a_damaged_segment_are_told_as_a_hole(tmp_path: Path) -> None:
    spool = damaged(tmp_path)
    told: list[tuple[Mark | None, Mark]] = []
    source = SpoolSource(make(tmp_path))
    source.on_hole = lambda before, after: told.append((before, after))
    await source.open()
    found = await drain(source)
    missing = sorted(set(range(100)) - set(found))
    assert told == [(Mark(spool.epoch, missing[0] - 1, 0), Mark(spool.epoch, missing[-1] + 1, 0))]
    await source.close()


async def test_lines_that_wait_are_counted_within_an_epoch_and_weighed_beyond_it(tmp_path: Path) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool)
    assert source.waiting() == "", "the spool is not open"
    await source.open()
    write(spool, 0, 1200)
    assert source.waiting() == "1,200 lines wait in the spool"
    batch = await source.read()
    assert batch is not None
    await source.ack(batch)
    assert source.waiting() == f"{1200 - len(numbers(batch)):,} lines wait in the spool"
    await source.close()
    again = make(tmp_path)
    later = SpoolSource(again)
    again.open()
    assert later.waiting() == "", "the cursor is not read yet"
    await later.open()
    assert later.waiting() == f"{later.behind_bytes():,} bytes wait in the spool"
    await later.close()
    again.close()


@pytest.mark.parametrize("died", ["compressing", "before the plain file went", "in the middle of a write"])
@pytest.mark.parametrize("mark", [None, 45])
async def test_a_rewind_goes_through_a_segment_that_was_being_sealed_when_the_writer_died(
    tmp_path: Path, died: str, mark: int | None
) -> None:
    spool = make(tmp_path)
    source = SpoolSource(spool)
    await source.open()
    write(spool, 0, 100)
    assert await drain(source) == list(range(100))
    await source.close()
    for number, path in list(list_segments(tmp_path).items())[:-1]:
        if path.suffix == ".seg":  # the keeper had no time
            segment_path(tmp_path, number, kept=True).write_bytes(zstandard.compress(path.read_bytes()))
            path.unlink()
    segments = list_segments(tmp_path)
    expected = list(range(100))
    if died == "in the middle of a write":
        torn = segments[max(segments)]
        torn.write_bytes(torn.read_bytes()[:-7])
        expected.pop()
    else:
        number = next(n for n in segments if next(iter_frames(segment_path(tmp_path, n, kept=True))).first_seq > 20)
        kept, plain = segments[number], segment_path(tmp_path, number)
        plain.write_bytes(read_segment(kept))
        if died == "compressing":
            half = kept.read_bytes()[: kept.stat().st_size // 2]
            kept.with_name(kept.name + ".tmp").write_bytes(half)
            kept.unlink()
    again = make(tmp_path)
    told: list[tuple[Mark | None, Mark]] = []
    source = SpoolSource(again)
    source.on_hole = lambda before, after: told.append((before, after))
    await source.open()
    write(again, 100, 110)  # of the next epoch
    source.rewind(None if mark is None else Mark(spool.epoch, mark, 0))
    found = await drain(source)
    assert found == [*expected[found[0] :], *range(100, 110)] and told == []
    assert found[0] == 0 if mark is None else 0 < found[0] <= mark
    await source.close()
    assert not list(tmp_path.glob("*.tmp")), "nothing half written is left"
    assert [frame.first_seq for frame in iter_frames(tmp_path) if frame.epoch == spool.epoch] == expected
