"""Rows that the store refused, stored again: once, under their own identity and position."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.market.events import BOOKS, EVENTS, TOPICS, arrow_schema, enum_symbols
from pipeline_orchestrator.record import DeadLetter, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError, Store
from pipeline_orchestrator.storage.insert_rows import insert_rows
from pipeline_orchestrator.storage.late_rows import LateRow
from pipeline_orchestrator.storage.ledger import Ledger, Position, Recheck
from pipeline_orchestrator.storage.refused import refused_letter, refused_row
from pipeline_orchestrator.storage.replay_rows import ReplayRows
from pipeline_orchestrator.storage.tables import TABLES
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.dead_letter import dead_letter_rows
from tests.doubles.market_rows import Log, event, table_of
from tests.unit.storage.test_clickhouse_sink import opened, stored

IMPOSSIBLE = 9_999_999  # a date that the table's type cannot hold


def decoded(topic: str, value: bytes) -> pa.RecordBatch:
    rows, bad = AvroCodec(topic).decode([value])
    if bad:
        raise ValueError("still cannot be decoded")
    return rows


async def put_letters(store: Store, letters: list[DeadLetter]) -> list[str]:
    """Into the table as storage would; the ids."""
    rows = dead_letter_rows(letters, "storage/0", log_id="log-1")
    offsets = pa.array(range(len(letters)), pa.int64()).to_numpy()
    await store.insert("dlq", insert_rows(rows.rows, "log-d", rows.partitions, offsets), "q-dlq", "t-dlq")
    return [f"{row['writer']}:{row['src_partition']}:{row['src_offset']}" for row in rows.rows.to_pylist()]


async def make(store: Store, state_dir: Path, log: Log) -> tuple[ClickHouseSink, list[DeadLetter], dict[int, int]]:
    refused: list[DeadLetter] = []

    async def keep(letters: list[DeadLetter]) -> None:
        refused.extend(letters)

    sink, starts = await opened(store, state_dir, log, on_refused=keep)
    return sink, refused, starts


async def test_a_refused_row_lands_once_after_the_fix_and_the_recount_expects_it(store: Store, state_dir: Path) -> None:
    log = Log()
    for seq in range(20):
        log.append(0, **event(seq, raw=b"\xff\x00", trading_date=IMPOSSIBLE if seq in (7, 12) else 20_000))
    sink, refused, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    assert await stored(store) == [seq for seq in range(20) if seq not in (7, 12)], refused[:1]
    assert sink.stats.refused_by_store == 2
    ids = await put_letters(store, refused)
    rows = ReplayRows(store, {EVENTS: sink}, decoded)
    assert {each["code"] for each in await rows.replay(ids)} == {"refused_again"}
    await store.command(f"ALTER TABLE {store.table('events')} MODIFY COLUMN trading_date Nullable(Int32)")
    (first,) = (await rows.answer("replay", {"ids": [ids[0], ids[0]]}))["outcomes"]
    assert first == {"id": ids[0], "as": f"{EVENTS}:0:7", "table": "events"}
    assert [each["code"] for each in await rows.replay([ids[0]])] == ["replayed_before"]
    columns = "seq, hex(raw), trading_date, k_log, k_part, k_off"
    assert (await stored(store, columns))[7] == (7, "FF00", IMPOSSIBLE, "log-1", 0, 7)
    await sink.close()

    again, _ = await opened(store, state_dir, log)
    assert not again.audits.required  # one row more than was sealed, and it is known
    rows = ReplayRows(store, {EVENTS: again}, decoded)
    assert [each.get("code") for each in await rows.replay(ids)] == ["replayed_before", None]  # after a restart, too
    assert await stored(store) == list(range(20))
    await again.close()


async def test_a_record_that_can_be_decoded_now_lands_unless_its_event_is_there(store: Store, state_dir: Path) -> None:
    log = Log()
    for seq in range(4):
        log.append(0, **event(seq))
    for seq in range(60):  # clock events, which no row is made of: what cannot be decoded moves the position likewise
        log.append(0, **event(100 + seq, kind="clock", symbol=None))
    sink, _, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    rows = [event(2), event(40), event(41, kind="clock", symbol=None)]
    batch = pa.RecordBatch.from_pylist([{**row} for row in rows], schema=arrow_schema(EVENTS))
    values = [*AvroCodec(EVENTS).encode(batch), b"\x00\x00nothing"]
    letters = [
        DeadLetter("undecodable_record: unknown schema", value, {"topic": EVENTS, "partition": 0, "offset": at}, EVENTS)
        for at, value in enumerate(values, start=50)
    ]
    ids = await put_letters(store, letters)
    outcomes = await ReplayRows(store, {EVENTS: sink}, decoded).replay([*ids, "storage/0@none:0:1"])
    codes = ["replayed_before", None, "refused_again", "refused_again", "not_found"]
    assert [each.get("code") for each in outcomes] == codes, outcomes
    assert await stored(store, "seq, k_off") == [(0, 0), (1, 1), (2, 2), (3, 3), (40, 51)]
    await sink.close()


async def test_a_row_is_not_landed_while_the_stage_may_still_insert_its_offset_itself(
    store: Store, state_dir: Path
) -> None:
    log = Log()
    for seq in range(20):
        log.append(0, **event(seq, trading_date=IMPOSSIBLE if seq == 7 else 20_000))
    sink, refused, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    await sink.close()
    await store.command(f"DROP DATABASE `{store.database}` SYNC")
    again, starts = await opened(store, state_dir, log)
    ids = await put_letters(store, refused)  # `dlq` is filled again first
    await store.command(f"ALTER TABLE {store.table('events')} MODIFY COLUMN trading_date Nullable(Int32)")
    rows = ReplayRows(store, {EVENTS: again}, decoded)
    await again.write(Output(log.batch(starts, {0: 5})))
    (early,) = await rows.replay(ids)
    assert early["code"] == "no_answer" and "has not come to offset 7 yet" in early["why"]
    await again.write(Output(log.batch({0: 5})))
    assert [each["code"] for each in await rows.replay(ids)] == ["replayed_before"]
    assert await stored(store) == list(range(20))
    await again.close()


def test_a_row_of_a_partition_that_is_read_again_waits_and_rechecks_of_another_log_hold_up_nothing() -> None:
    sure = Position("log-1", 20, rechecks=(Recheck("log-0", 0, 5),))
    Ledger("events", EVENTS, 0, positions={0: sure}).check_landable("log-1", 0, 19)
    unsure = replace(sure, rechecks=(Recheck("log-1", 15, 30),))
    for positions in ({1: sure}, {0: unsure}):
        with pytest.raises(RetryableError, match="storage"):
            Ledger("events", EVENTS, 0, positions=positions).check_landable("log-1", 0, 7)


async def test_a_row_of_a_log_that_was_replaced_says_so_instead_of_try_later(store: Store, state_dir: Path) -> None:
    log = Log()
    for seq in range(20):
        log.append(0, **event(seq, trading_date=IMPOSSIBLE if seq == 7 else 20_000))
    sink, refused, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    ids = await put_letters(store, refused)
    await sink.start_positions(Log("market.events", "log-2", log.partitions).bounds)
    (outcome,) = await ReplayRows(store, {EVENTS: sink}, decoded).replay(ids)
    assert outcome["code"] == "log_replaced" and "log log-1, which was replaced by log log-2" in outcome["why"]
    await sink.close()


async def test_many_letters_are_landed_with_one_insert_and_one_that_is_refused_again_holds_up_no_other(
    store: Store, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, poison = Log(), (3, 7, 12, 30, 31)
    for seq in range(40):
        symbol = None if seq == 30 else f"S{seq % 3}"
        log.append(seq % 2, **event(seq, symbol=symbol, trading_date=IMPOSSIBLE if seq in poison else 20_000))
    sink, refused, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    bad = refused.pop(0)  # one whose cause is not mended
    inserts, insert = [], sink.table.insert

    async def seen(rows: pa.RecordBatch, query_id: str, token: str) -> None:
        inserts.append(rows.num_rows)
        await insert(rows, query_id, token)

    monkeypatch.setattr(sink.table, "insert", seen)
    mended = [event(letter.event_id.seq, symbol="S1") for letter in refused if letter.event_id is not None]
    mended[-1]["symbol"] = None
    late = [
        LateRow(table_of(EVENTS, [row]), "log-1", letter.position["partition"], letter.position["offset"])
        for row, letter in zip(mended, refused, strict=True)
    ]
    still = LateRow(refused_row(EVENTS, bad.raw), "log-1", bad.position["partition"], bad.position["offset"])
    assert [type(outcome) for outcome in await sink.land([still])] == [RowsRefusedError]
    assert await sink.land(late[:3]) == [True] * 3
    assert inserts == [1, 3]
    outcomes = await sink.land([late[0], still, late[3], late[3]])
    assert [outcome if isinstance(outcome, bool) else type(outcome) for outcome in outcomes] == [
        False, RowsRefusedError, True, False,
    ]  # fmt: skip
    assert sorted(await stored(store)) == [
        seq for seq in range(40) if (seq % 2, seq // 2) != (still.partition, still.offset)
    ]
    assert sum(at.rows or 0 for at in sink.positions.values()) == 39
    await sink.close()
    again, _ = await opened(store, state_dir, log)
    assert not again.audits.required
    await again.close()


async def test_a_row_that_came_with_another_log_is_found_by_its_identity(store: Store, state_dir: Path) -> None:
    log = Log()
    for seq in range(20):
        log.append(0, **event(seq, symbol=None if seq == 5 else "AAPL"))
    sink, _, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    again = Log(log_id="log-2")
    for seq in range(30):
        again.append(0, **event(seq, symbol=None if seq == 5 else "AAPL"))
    await sink.write(Output(again.batch(await sink.start_positions(again.bounds))))
    for seqs in ((4, 6), (4, 5, 6)):  # with a row that has no symbol, too
        late = [LateRow(again.batch({0: seq}, {0: seq + 1}).rows, "log-2", 0, seq) for seq in seqs]
        assert await sink.land(late) == [False] * len(seqs)
    odd = [
        LateRow(table_of(EVENTS, [event(seq, event_time_us=at)]), "log-2", 0, seq) for seq, at in ((7, -5), (8, 2**62))
    ]
    assert await sink.land(odd) == [False, False]
    assert await stored(store) == list(range(30))
    await sink.close()


async def test_a_start_waits_for_a_row_that_is_landing(
    store: Store, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    for seq in range(20):
        log.append(0, **event(seq, trading_date=IMPOSSIBLE if seq == 7 else 20_000))
    sink, refused, starts = await make(store, state_dir, log)
    await sink.write(Output(log.batch(starts)))
    ids = await put_letters(store, refused)
    await store.command(f"ALTER TABLE {store.table('events')} MODIFY COLUMN trading_date Nullable(Int32)")
    inserting, go_on, insert = asyncio.Event(), asyncio.Event(), sink.table.insert

    async def slow(*arguments: Any) -> None:
        inserting.set()
        await go_on.wait()
        await insert(*arguments)

    monkeypatch.setattr(sink.table, "insert", slow)
    landing = asyncio.create_task(ReplayRows(store, {EVENTS: sink}, decoded).replay(ids))
    await inserting.wait()
    starting = asyncio.create_task(sink.start_positions(log.bounds))
    done, _ = await asyncio.wait([starting], timeout=0.5)
    assert not done
    go_on.set()
    assert "as" in (await landing)[0]
    assert await starting == {0: 19}
    assert sink.positions[0].rows == 20  # the landed row is still counted
    await sink.close()


@pytest.mark.parametrize("topic", TOPICS)
def test_a_row_comes_back_from_its_letter_as_it_was(topic: str) -> None:
    log = Log(topic=topic)
    fields = arrow_schema(topic)
    values: dict[str, object] = {}
    for field in fields:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name in enum_symbols(topic):
            values[field.name] = enum_symbols(topic)[field.name][-1]
        elif pa.types.is_string(kind):
            values[field.name] = "x"
        elif pa.types.is_binary(kind):
            values[field.name] = b"\xff\x00"
        elif pa.types.is_list(kind):
            values[field.name] = [1, 2**62]
        elif pa.types.is_floating(kind):
            values[field.name] = 0.1
        else:
            values[field.name] = True if pa.types.is_boolean(kind) else 1
    log.append(3, **values)
    batch = log.batch({3: 0})
    letter = refused_letter(TABLES[topic], batch, 0, "why")
    assert refused_row(topic, letter.raw).to_pylist() == batch.rows.to_pylist()
    assert letter.position == {"topic": topic, "partition": 3, "offset": 0}


def test_a_letter_that_is_no_row_of_its_topic_says_so() -> None:
    with pytest.raises(ValueError, match=r"no row of market\.books"):
        refused_row(BOOKS, b'{"symbol": "A"}')
