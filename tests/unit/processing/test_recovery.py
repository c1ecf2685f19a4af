"""Snapshots: taken between batches, valid after acknowledgement, and worth exactly what the log says."""

from __future__ import annotations

import itertools
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from config.sections import ProcessingConfig, Settings
from pipeline_orchestrator.errors import ForeignLogError
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.recovery import RecoverableProcessing
from pipeline_orchestrator.processing.snapshot_codec import decode_header, decode_sections, encode, pack, unpack
from pipeline_orchestrator.processing.snapshot_store import SnapshotStore
from pipeline_orchestrator.record import Batch, LogBounds
from tests.doubles.clock import FakeClock
from tests.unit.processing.build import Feed, Row, batch_of
from tests.unit.processing.streams import NIGHTS, TOPICS, Log, random_log, run, settings_for

NEVER = ProcessingConfig(snapshot_seconds=1e9, snapshot_records=1 << 40)
ALWAYS = ProcessingConfig(snapshot_seconds=1e9, snapshot_records=1)


def bounds_of(log: Log, beginning: int = 0, log_id: str = "log") -> LogBounds:
    ends = {p: log.records[p][-1][0] + 1 if log.records.get(p) else 0 for p in range(log.partitions)}
    return LogBounds(log_id, dict.fromkeys(ends, beginning), ends)


class Worker:
    """One incarnation over a directory of snapshots, reading a log from where it is told."""

    def __init__(
        self, root: Path, config: ProcessingConfig = ALWAYS, books: Settings | None = None, **more: Any
    ) -> None:
        chosen = books or settings_for()
        self.processor = ProcessEvents(chosen, range(3), NIGHTS)
        self.recovery = RecoverableProcessing(self.processor, SnapshotStore(root), config, **more)
        self.rows: dict[str, list[Row]] = {f"{topic}/{p}": [] for topic in TOPICS for p in range(3)}
        self.positions: dict[int, int] = {}

    async def open(self, bounds: LogBounds) -> dict[int, int]:
        self.positions = await self.recovery.start_positions(bounds)
        return self.positions

    def batches(self, log: Log, size: int, log_id: str = "log") -> list[Batch]:
        """What is left of the log, some records of each partition at a time."""
        left = {p: [each for each in log.records.get(p, []) if each[0] >= self.positions[p]] for p in self.positions}
        made: list[Batch] = []
        for begin in itertools.count(0, size):
            runs = {p: records[begin : begin + size] for p, records in left.items()}
            if not any(runs.values()):
                return made
            made.append(batch_of(runs, log_id))
        return made

    def process(self, batch: Batch) -> None:
        for out in self.recovery.process(batch).outgoing:
            for row, partition in zip(out.rows.to_pylist(), out.partitions.tolist(), strict=True):
                self.rows[f"{out.topic}/{partition}"].append(row)


def without_repeats(rows: list[Row]) -> list[Row]:
    """As storage sees them: by source, the first of each."""
    kept: dict[tuple[int, int], Row] = {}
    for row in rows:
        kept.setdefault((row["src_offset"], row["out"]), row)
    return list(kept.values())


@given(seed=st.integers(0, 1 << 32), size=st.integers(1, 60), crash=st.integers(0, 200), in_flight=st.booleans())
@settings(max_examples=25, deadline=None)
async def test_a_crash_at_any_batch_changes_no_row_and_no_book(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, crash: int, in_flight: bool
) -> None:
    root = tmp_path_factory.mktemp("snapshots")
    log = random_log(seed)
    undisturbed = ProcessEvents(settings_for(), range(3), NIGHTS)
    wanted = run(log, settings_for(), [], undisturbed)
    first = Worker(root)
    await first.open(bounds_of(log))
    batches = first.batches(log, size)
    stop = crash % (len(batches) + 1)
    for number, batch in enumerate(batches[:stop]):
        first.process(batch)
        if number:
            first.recovery.acknowledged(batches[number - 1])  # one write is in flight while the next is processed
    if stop and not in_flight:
        first.recovery.acknowledged(batches[stop - 1])
    wait_for_writes(first)
    second = Worker(root)
    await second.open(bounds_of(log))
    for batch in second.batches(log, 37):
        second.process(batch)
    for name, rows in wanted.items():
        assert without_repeats(first.rows[name] + second.rows[name]) == rows
        if not in_flight:
            assert without_repeats(second.rows[name]) == second.rows[name]
    assert second.processor.digest() == undisturbed.digest()


def wait_for_writes(worker: Worker) -> None:
    """End of the writing thread without the last snapshot of a clean end."""
    thread, worker.recovery._thread = worker.recovery._thread, None
    if thread is not None:
        thread.shutdown(wait=True)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=15, deadline=None)
def test_packed_state_unpacks_to_the_same_state(seed: int) -> None:
    log = random_log(seed, 400)
    whole, half = ProcessEvents(settings_for(), range(3), NIGHTS), Log(3)
    for partition, records in log.records.items():
        half.records[partition] = records[: len(records) // 2]
    half.sequence = [p for p, records in half.records.items() for _ in records]
    run(half, settings_for(), [], whole)
    copy = ProcessEvents(settings_for(), range(3), NIGHTS)
    for partition in random.Random(seed).sample(range(3), 3):
        raw = b"".join(encode(*pack(whole, partition)))
        header = decode_header(raw)
        unpack(copy, partition, header, decode_sections(raw, header))
    assert copy.digest() == whole.digest()
    for partition in range(3):
        assert copy.marks(partition) == whole.marks(partition)
        # The links' indices differ with the order of restoring; packed again, nothing does.
        one, other = pack(copy, partition), pack(whole, partition)
        assert one[0] | {"instances": []} == other[0] | {"instances": []}
        for name in ("levels", "keys", "sizes", "chains", "queues", "orders", "trades"):
            assert getattr(one[1], name).tolist() == getattr(other[1], name).tolist()
    rest = Log(3)
    for partition, records in log.records.items():
        rest.records[partition] = records[len(records) // 2 :]
    rest.sequence = [p for p, records in rest.records.items() for _ in records]
    assert run(rest, settings_for(), [], copy) == run(rest, settings_for(), [], whole)


async def test_a_snapshot_waits_for_the_last_batch_that_is_in_it(tmp_path: Path) -> None:
    log = random_log(1)
    config = ProcessingConfig(snapshot_seconds=1e9, snapshot_records=25)
    worker = Worker(tmp_path, config, clock=FakeClock())  # packing takes no time: all partitions before one batch
    await worker.open(bounds_of(log))
    one, two, three = worker.batches(log, 20)[:3]
    for batch in (one, two, three):
        worker.process(batch)  # the third finds 40 records behind the last snapshot
    worker.recovery.acknowledged(one)
    wait_for_writes(worker)
    assert list(tmp_path.rglob("*.snap")) == []
    worker.recovery.acknowledged(two)
    wait_for_writes(worker)
    ends = {part.partition: part.last + 1 for part in two.ranges}
    headers = [decode_header(path.read_bytes()) for path in tmp_path.rglob("*.snap")]
    assert {header["partition"]: header["next_offset"] for header in headers} == ends


async def test_a_clean_end_leaves_nothing_to_read_again_but_the_last_record(tmp_path: Path) -> None:
    log = random_log(2)
    first = Worker(tmp_path, NEVER)
    await first.open(bounds_of(log))
    for batch in first.batches(log, 50):
        first.process(batch)
        first.recovery.acknowledged(batch)
    first.recovery.close()
    second = Worker(tmp_path, NEVER)
    positions = await second.open(bounds_of(log))
    assert positions == {p: records[-1][0] for p, records in log.records.items()}
    for batch in second.batches(log, 50):
        second.process(batch)
    assert not any(second.rows.values())
    assert second.processor.digest() == first.processor.digest()


async def filled(root: Path, log: Log, config: Settings | None = None, **more: Any) -> Worker:
    worker = Worker(root, NEVER, config, **more)
    await worker.open(bounds_of(log))
    for batch in worker.batches(log, 1000):
        worker.process(batch)
        worker.recovery.acknowledged(batch)
    worker.recovery.close()
    return worker


def gaps_of(worker: Worker) -> list[tuple[str, int]]:
    rows = [row for name, rows in worker.rows.items() if "gaps" in name for row in rows]
    return [(row["cause"], row["src_partition"]) for row in rows if "/" in row["gap_id"]]


async def test_another_log_is_never_resumed_into(tmp_path: Path) -> None:
    log = random_log(5)
    before = await filled(tmp_path, log)
    after = Worker(tmp_path, NEVER)
    assert set((await after.open(bounds_of(log, log_id="another"))).values()) == {0}
    for batch in after.batches(log, 1000, "another"):
        after.process(batch)
    assert gaps_of(after) == [("log_lost", 0), ("log_lost", 1), ("log_lost", 2)]
    told = [row for name, rows in after.rows.items() if "gaps" in name for row in rows if "/" in row["gap_id"]]
    assert {(row["from_epoch"], row["from_seq"]) for row in told} == {(None, None)}  # the log holds these lines again
    kinds = [row["src_offset"] for row in after.rows["market.features/0"]]
    assert kinds == [row["src_offset"] for row in before.rows["market.features/0"]]  # nothing is dropped as a repeat
    said = {event for _, event, _ in after.recovery.notices}
    assert said == {"snapshot_not_current", "processing_state_lost", "processing_state_rebuilt"}


async def test_a_log_that_ends_before_the_snapshot_is_another_one(tmp_path: Path) -> None:
    log = random_log(5)
    await filled(tmp_path, log)
    shorter = Log(3, {p: records[:10] for p, records in log.records.items()})
    after = Worker(tmp_path, NEVER)
    await after.open(bounds_of(shorter))
    after.process(after.batches(shorter, 100)[0])
    assert gaps_of(after)[0] == ("log_lost", 0)


async def test_a_snapshot_older_than_the_log_keeps_marks_and_distrusts_books(tmp_path: Path) -> None:
    feed = Feed()
    feed.book("A", [(10, 1)], [(20, 1)])
    log = Log(3, {0: list(enumerate(feed.rows)), 1: [], 2: []})
    await filled(tmp_path, log)
    feed.level("A", "bid", 11, 1)
    feed.level("A", "bid", 12, 1)
    log.records[0] = list(enumerate(feed.rows))[5:]
    bounds = LogBounds("log", {0: 5, 1: 0, 2: 0}, {0: 6, 1: 0, 2: 0})
    after = Worker(tmp_path, NEVER)
    assert (await after.open(bounds))[0] == 5
    after.process(after.batches(log, 100)[0])
    assert gaps_of(after) == [("log_truncated", 0)]
    (feature,) = after.rows["market.features/0"]
    assert (feature["book_state"], feature["null_reason"]) == ("stale", "book_stale")
    (gap,) = after.rows["market.gaps/0"]
    assert (gap["from_seq"], gap["to_seq"], gap["state"]) == (3, 5, "closed")


async def test_other_settings_rebuild_the_state_in_silence_up_to_the_snapshot(tmp_path: Path) -> None:
    log = random_log(6)
    half = Log(3, {p: records[: len(records) // 2] for p, records in log.records.items()})
    await filled(tmp_path, half)
    other = settings_for(levels=2)
    after = Worker(tmp_path, NEVER, other)
    await after.open(bounds_of(log))
    for batch in after.batches(log, 30):
        after.process(batch)
    undisturbed = ProcessEvents(other, range(3), NIGHTS)
    wanted = run(Log(3, log.records, [p for p in log.records for _ in log.records[p]]), other, [], undisturbed)
    for name, rows in wanted.items():
        if "gaps" in name:
            continue
        border = half.records[int(name[-1])][-1][0]
        assert after.rows[name] == [row for row in rows if row["src_offset"] > border]
    assert after.processor.digest() == undisturbed.digest()


@pytest.mark.parametrize("change", [{"version": 1}, {"layout": "of an older program"}])
async def test_a_snapshot_of_an_older_state_is_replaced_by_a_silent_replay(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    log = random_log(6)
    half = Log(3, {p: records[: len(records) // 2] for p, records in log.records.items()})
    await filled(tmp_path, half)
    for path in tmp_path.rglob("*.snap"):
        path.write_bytes(rewritten(path.read_bytes(), change))
    after = Worker(tmp_path, NEVER)
    assert set((await after.open(bounds_of(log))).values()) == {0}
    for batch in after.batches(log, 30):
        after.process(batch)
    undisturbed = ProcessEvents(settings_for(), range(3), NIGHTS)
    wanted = run(Log(3, log.records, [p for p in log.records for _ in log.records[p]]), settings_for(), [], undisturbed)
    for name in (name for name in wanted if "gaps" not in name):
        border = half.records[int(name[-1])][-1][0]
        assert after.rows[name] == [row for row in wanted[name] if row["src_offset"] > border]
    assert after.processor.digest() == undisturbed.digest()


def rewritten(raw: bytes, change: dict[str, Any]) -> bytes:
    """The snapshot with another header, as an older program might have written it."""
    header = json.dumps(decode_header(raw) | change).encode()
    length = struct.unpack_from("<I", raw, 8)[0]
    body = raw[:8] + struct.pack("<I", len(header)) + header + raw[12 + length : -4]
    return body + struct.pack("<I", crc32c(body))


async def test_a_recreated_derived_topic_gets_all_outputs_again(tmp_path: Path) -> None:
    log = random_log(7)

    async def ids(name: str = "one") -> dict[str, str]:
        return {"market.features": name}

    before = await filled(tmp_path, log, derived_ids=ids)
    after = Worker(tmp_path, NEVER, derived_ids=lambda: ids("two"))
    await after.open(bounds_of(log))
    for batch in after.batches(log, 1000):
        after.process(batch)
    assert after.rows == before.rows
    same = Worker(tmp_path, NEVER, derived_ids=ids)
    await same.open(bounds_of(log))
    assert not list(same.recovery.notices)


async def test_a_foreign_record_behind_the_snapshot_stops_the_start(tmp_path: Path) -> None:
    log = random_log(8)
    await filled(tmp_path, log)
    after = Worker(tmp_path, NEVER)
    await after.open(bounds_of(log))
    offset, row = log.records[0][-1]
    log.records[0][-1] = (offset, row | {"seq": row["seq"] + 1})
    with pytest.raises(ForeignLogError):
        after.process(after.batches(log, 10)[0])
    again = Worker(tmp_path, NEVER)
    assert (await again.open(bounds_of(log)))[0] == 0


async def test_a_lost_beginning_without_a_snapshot_is_said_once(tmp_path: Path) -> None:
    log = random_log(9)
    for records in log.records.values():
        records[:] = [(offset + 1000, row) for offset, row in records]
    worker = Worker(tmp_path, NEVER)
    await worker.open(bounds_of(log, beginning=1000))
    for batch in worker.batches(log, 40):
        worker.process(batch)
    assert sorted(gaps_of(worker)) == [("state_lost", 0), ("state_lost", 1), ("state_lost", 2)]


async def test_a_reconnect_goes_on_from_memory_and_refuses_another_log(tmp_path: Path) -> None:
    log = random_log(10)
    worker = Worker(tmp_path, NEVER)
    await worker.open(bounds_of(log))
    batch = worker.batches(log, 20)[0]
    worker.process(batch)
    worker.recovery.acknowledged(batch)
    positions = await worker.open(bounds_of(log))
    assert positions == {part.partition: part.last + 1 for part in batch.ranges}
    with pytest.raises(ForeignLogError):
        await worker.open(bounds_of(log, log_id="another"))


async def test_bytes_behind_a_snapshot_are_bounded_and_a_full_disk_is_said(tmp_path: Path) -> None:
    log = random_log(11)
    worker = Worker(tmp_path / "snapshots", NEVER, max_bytes=300)
    await worker.open(bounds_of(log))
    (tmp_path / "snapshots").write_text("not a directory")
    for batch in worker.batches(log, 10):
        worker.process(batch)
        worker.recovery.acknowledged(batch)
    worker.recovery.close()
    assert worker.recovery.snapshots_written == 0
    said = {event for _, event, _ in worker.recovery.notices}
    assert said == {"snapshot_not_written", "processing_state_rebuilt"}  # this log was there before the first start
