"""The sink against a real engine: every row once, whatever happens between INTEND and SEAL."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from config.sections import ClickHouseConfig
from pipeline_orchestrator.errors import ForeignLogError, RetryableError
from pipeline_orchestrator.market.events import EVENTS, FEATURES
from pipeline_orchestrator.record import DeadLetter, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.embedded import EmbeddedClickHouseProcess
from tests.doubles.market_rows import Log, event, feature
from tests.doubles.tcp_proxy import FaultProxy


def log_of(rows: int, partitions: Sequence[int] = (0, 1), start: int = 0) -> Log:
    log = Log()
    for seq in range(start, start + rows):
        log.append(partitions[seq % len(partitions)], **event(seq, symbol=f"S{seq % 7}"))
    return log


async def opened(store: Store, state_dir: Path, log: Log, **more: Any) -> tuple[ClickHouseSink, dict[int, int]]:
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[log.topic]), state_dir=state_dir, **more)
    await sink.open()
    return sink, await sink.start_positions(log.bounds)


async def stored(store: Store, columns: str = "seq", table: str = "events") -> list[Any]:
    rows = await store.query(f"SELECT {columns} FROM {store.table(table)} ORDER BY {columns}")
    return [row[0] if len(row) == 1 else row for row in rows]


async def test_a_batch_lands_once_and_a_second_start_goes_on_behind_it(store: Store, state_dir: Path) -> None:
    log = log_of(100)
    sink, starts = await opened(store, state_dir, log)
    assert starts == {0: 0, 1: 0}
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    for seq in range(100, 120):
        log.append(seq % 2, **event(seq, symbol=f"S{seq % 7}"))
    again, starts = await opened(store, state_dir, log)
    assert starts == {0: 49, 1: 49}  # the last stored row is read again and compared
    await again.write(Output(log.batch(starts)))
    assert await stored(store) == list(range(120))
    assert again.stats.rows == 20
    assert again.next_offsets == {0: 60, 1: 60}
    await again.close()


async def test_values_arrive_under_the_tables_names_and_units(store: Store, state_dir: Path) -> None:
    log = Log()
    log.append(0, **event(1, price=-1_250_000, order_id=-1, raw=b"\xff\x00", trading_date=20_000, side="ask"))
    log.append(0, **event(2, kind="other", symbol=None, event_time_us=None, price=None))
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    columns = "seq, kind, symbol, price, toString(price_decimal), order_id, hex(raw), toString(trading_date), side"
    columns += ", toString(event_time), toString(sort_time), k_log, k_part, k_off, k_idx"
    assert await stored(store, columns) == [
        (1, "trade", "AAPL", -1_250_000, "-1.25", 2**64 - 1, "FF00", "2024-10-04", "ask", "2025-10-09 08:53:20.000001",
         "2025-10-09 08:53:20.000001", "log-1", 0, 0, 0),
        (2, "other", None, None, None, None, None, None, None, None, "2025-10-09 08:53:20.000052", "log-1", 0, 1, 0),
    ]  # fmt: skip


async def test_repeats_in_the_log_are_dropped_by_their_marks(store: Store, state_dir: Path) -> None:
    log = log_of(50, partitions=(0,))
    for seq in range(30, 60):  # a resend from 30, then new lines
        log.append(0, **event(seq))
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts, {0: 65})))
    await sink.write(Output(log.batch({0: 65})))
    assert await stored(store) == list(range(60))
    assert sink.stats.repeats == 20
    await sink.close()


async def test_clock_events_are_counted_and_instance_facts_stored_from_partition_0_only(
    store: Store, state_dir: Path
) -> None:
    log = Log()
    for partition in (0, 1):
        log.append(partition, **event(0, kind="connected", symbol=None))
        log.append(partition, **event(1, kind="clock", symbol=None))
        log.append(partition, **event(2, kind="gap", symbol=None))
        log.append(partition, **event(3, kind="gap", symbol=f"S{partition}"))
    log.append(0, **event(4, kind="other", symbol=None))
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    assert await stored(store, "k_part, seq") == [(0, 0), (0, 2), (0, 3), (0, 4), (1, 3)]
    assert (sink.stats.clock_events, sink.stats.instance_copies) == (2, 2)
    assert sink.next_offsets == {0: 5, 1: 4}
    await sink.close()


async def test_a_batch_without_rows_to_store_moves_the_position(store: Store, state_dir: Path) -> None:
    log = Log()
    for seq in range(5):
        log.append(0, **event(seq, kind="clock", symbol=None))
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    again, starts = await opened(store, state_dir, log)
    assert starts == {0: 4}
    assert sink.stats.inserts == 0
    await again.close()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda raw: raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 4]) + raw[len(raw) // 2 + 1 :],
    "truncated": lambda raw: raw[: len(raw) // 3],
    "emptied": lambda raw: b"",
    "zeroed": lambda raw: bytes(len(raw)),
    "another version": lambda raw: raw.replace(b'"format": 1', b'"format": 0', 1),
}


@pytest.mark.parametrize("lost", ["gone", *DAMAGE])
async def test_a_lost_ledger_is_rebuilt_from_the_table(store: Store, state_dir: Path, lost: str) -> None:
    log = log_of(200)
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts, {0: 60, 1: 60})))
    await sink.write(Output(log.batch({0: 60, 1: 60})))
    await sink.close()
    ledger = state_dir / "ledger" / "events-0.json"
    raw = ledger.read_bytes()
    if lost == "gone":
        ledger.unlink()
    else:
        ledger.write_bytes(DAMAGE[lost](raw))
        assert ledger.read_bytes() != raw
    # a hole as a killed insert over several partitions of the table leaves it
    await store.command(f"DELETE FROM {store.table('events')} WHERE k_part = 1 AND k_off IN (95, 97)")
    again, starts = await opened(store, state_dir, log, rebuild_window=20)
    assert starts == {0: 80, 1: 80}
    told = [note.text for note in again.notes if note.event == "ledger_rebuilt"]
    assert len(told) == 2 and all(re.search(r"rebuilt from the table in \d+\.\d\d s", text) for text in told)
    kept = [path.read_bytes() for path in ledger.parent.glob("*.bad-*")]
    assert kept == ([] if lost == "gone" else [DAMAGE[lost](raw)])
    assert again.audits.required
    assert (lost != "gone") == any(note.event == "ledger_damaged" for note in again.notes)
    await again.write(Output(log.batch(starts)))
    assert await stored(store) == list(range(200))
    assert again.stats.rows == 2
    await again.close()


async def test_another_log_is_read_from_its_beginning_and_marks_survive(store: Store, state_dir: Path) -> None:
    old = log_of(40)
    sink, starts = await opened(store, state_dir, old)
    await sink.write(Output(old.batch(starts)))
    await sink.close()
    new = Log(log_id="log-2")
    for seq in range(20, 60):  # ingestion resends what it kept
        new.append(seq % 2, **event(seq))
    again, starts = await opened(store, state_dir, new)
    assert starts == {0: 0, 1: 0}
    assert [note.event for note in again.take_notes()] == ["new_log", "new_log"]
    await again.write(Output(new.batch(starts)))
    assert await stored(store) == list(range(60))
    assert again.stats.repeats == 20
    await again.close()


async def test_a_wiped_store_is_noticed_and_filled_from_the_logs_beginning(store: Store, state_dir: Path) -> None:
    log = log_of(40)
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    await store.command(f"DROP DATABASE `{store.database}` SYNC")
    again, starts = await opened(store, state_dir, log)
    assert starts == {0: 0, 1: 0}
    assert "store_wiped" in {note.event for note in again.notes}
    await again.write(Output(log.batch(starts)))
    assert await stored(store) == list(range(40))
    await again.close()


async def test_rows_missing_behind_the_seal_are_found_said_and_refilled(store: Store, state_dir: Path) -> None:
    log = log_of(40)
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    await store.command(f"DELETE FROM {store.table('events')} WHERE k_part = 0 AND k_off IN (3, 11)")
    again, starts = await opened(store, state_dir, log)
    assert starts == {0: 0, 1: 19}
    assert again.audits.required
    await again.write(Output(log.batch(starts)))
    assert await stored(store) == list(range(40))
    await again.close()


async def test_a_recreated_topic_under_the_same_id_is_refused(store: Store, state_dir: Path) -> None:
    log = log_of(40)
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    shorter = log_of(10)
    other = ClickHouseSink(ClickHouseTable(store, TABLES[EVENTS]), state_dir=state_dir)
    await other.open()
    with pytest.raises(ForeignLogError, match="another log under the same id"):
        await other.start_positions(shorter.bounds)
    longer = log_of(60, start=1000)
    starts = await other.start_positions(longer.bounds)
    with pytest.raises(ForeignLogError, match="is not the one that was stored"):
        await other.write(Output(longer.batch(starts)))
    await other.close()


async def test_offsets_removed_before_they_were_stored_are_said(store: Store, state_dir: Path) -> None:
    log = log_of(40, partitions=(0,))
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts, {0: 10})))
    await sink.close()

    class Trimmed(Log):
        @property
        def beginning(self) -> dict[int, int]:
            return {0: 25}

    trimmed = Trimmed(partitions=log.partitions)
    again, starts = await opened(store, state_dir, trimmed)
    assert starts == {0: 25}
    assert again.notes[0].text == "market.events/0: offsets 10..24 were removed before they were stored"
    await again.close()


async def test_a_row_that_the_server_refuses_becomes_a_dead_letter_and_its_neighbours_land(
    store: Store, state_dir: Path
) -> None:
    log = Log()
    for seq in range(50):
        log.append(0, **event(seq, trading_date=9_999_999 if seq in (17, 40) else 20_000))
    refused: list[DeadLetter] = []

    async def keep(letters: list[DeadLetter]) -> None:
        refused.extend(letters)

    sink, starts = await opened(store, state_dir, log, on_refused=keep)
    batch = log.batch(starts)
    undecodable = DeadLetter("undecodable_record", b"?", {"topic": EVENTS, "partition": 0, "offset": 30}, EVENTS)
    await sink.write(Output(batch, dead=[undecodable]))
    assert await stored(store) == [seq for seq in range(50) if seq not in (17, 40)]
    assert [letter.position["offset"] for letter in refused] == [17, 30, 40]  # in the log's order
    assert refused[0].event_id is not None and refused[0].event_id.seq == 17
    assert sink.stats.refused == 3
    await sink.close()
    again, starts = await opened(store, state_dir, log)
    assert not again.audits.required  # the refused rows are not expected
    await again.close()


async def test_dead_letters_that_cannot_be_kept_stop_the_seal(store: Store, state_dir: Path) -> None:
    log = log_of(10, partitions=(0,))
    letter = DeadLetter("undecodable_record", b"?", {"topic": EVENTS, "partition": 0, "offset": 4}, EVENTS)
    kept: list[DeadLetter] = []
    broken = True

    async def keep(letters: list[DeadLetter]) -> None:
        if broken:
            raise RetryableError("no dead letter topic yet")
        kept.extend(letters)

    sink, starts = await opened(store, state_dir, log, on_refused=keep)
    output = Output(log.batch(starts), dead=[letter])
    with pytest.raises(RetryableError):
        await sink.write(output)
    assert sink.next_offsets == {0: 0}
    broken = False
    await sink.write(output)
    assert kept == [letter]
    assert await stored(store) == list(range(10))
    assert sink.next_offsets == {0: 10}
    await sink.close()


async def test_another_storage_instance_takes_partitions_over(store: Store, state_dir: Path) -> None:
    log = log_of(40)
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts, {0: 15, 1: 15})))
    await sink.close()
    only = Log(partitions={1: log.partitions[1]})
    second, starts = await opened(store, state_dir, only, instance=1)
    assert starts == {1: 14}
    await second.write(Output(only.batch(starts)))
    await second.close()
    first, starts = await opened(store, state_dir, log)  # back to one instance
    assert starts == {0: 14, 1: 19}
    await first.write(Output(log.batch(starts)))
    assert await stored(store) == list(range(40))
    await first.close()


async def test_two_writers_of_one_table_cannot_be_open_at_once(store: Store, state_dir: Path) -> None:
    log = log_of(2)
    sink, _ = await opened(store, state_dir, log)
    with pytest.raises(Exception, match="held by pid"):
        await opened(store, state_dir, log)
    await sink.close()


@pytest.mark.parametrize("cuts", [1, 3])
async def test_an_answer_that_never_comes_leaves_every_row_once(
    clickhouse: EmbeddedClickHouseProcess, config: ClickHouseConfig, state_dir: Path, cuts: int
) -> None:
    proxy = FaultProxy(clickhouse.port)
    proxy.start()
    store = Store(config.model_copy(update={"port": proxy.port}))
    log = log_of(500)
    sink, starts = await opened(store, state_dir, log)
    proxy.cut_answers(cuts, b"INSERT+INTO")
    await sink.write(Output(log.batch(starts, {0: 100, 1: 100})))
    await sink.write(Output(log.batch({0: 100, 1: 100})))
    assert proxy.cuts >= 1
    assert sink.stats.uncertain >= 1
    assert await stored(store) == list(range(500))
    await sink.close()
    proxy.stop()


async def test_features_are_stored_by_identity_of_their_event_and_output_number(store: Store, state_dir: Path) -> None:
    log = Log(topic=FEATURES)
    for seq in range(10):
        log.append(0, **feature(seq))
        log.append(0, **feature(seq, out=1))
    for seq in range(5, 10):
        log.append(0, **feature(seq, out=1))
    sink, starts = await opened(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    assert len(await stored(store, "src_seq, out", "features")) == 20
    assert sink.stats.repeats == 5
    assert sink.stats.rows == 20
    await sink.close()
