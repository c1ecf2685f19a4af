"""What every transport must do: subclass with a `seam` fixture."""

from __future__ import annotations

import asyncio
import json
import random
import re

import numpy as np
import pytest

from pipeline_orchestrator.errors import EndOfInputError, ForeignLogError, PermanentError
from pipeline_orchestrator.market.events import BARS, DLQ, EVENTS
from pipeline_orchestrator.record import DeadLetter, LogBounds, Outgoing
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.partitioning import partition_of
from tests.doubles.seams import Seam, event, events, nothing, output, read_all
from tests.unit.transport.rows import random_rows

SYMBOLS = ("AAPL", "MSFT", "BRK.B", "@ES#", "TSLA", "GOOGL")


class SeamContract:
    async def test_rows_come_back_equal_and_in_order_per_partition(self, seam: Seam) -> None:
        rng = random.Random(1)
        rows = events([event(seq, symbol=rng.choice(SYMBOLS), bid=seq) for seq in range(500)])
        sink = seam.sink()
        await sink.open()
        for start in range(0, 500, 100):
            await sink.write(output(rows.slice(start, 100)))
        await sink.close()
        written = rows.to_pylist()
        for batch in await read_all(seam.source(EVENTS)):
            batch.rows.validate(full=True)
            decoded = batch.rows.to_pylist()
            assert [part.partition for part in batch.ranges] == sorted(part.partition for part in batch.ranges)
            for part in batch.ranges:
                run = decoded[part.start : part.start + part.rows]
                expected = [row for row in written if partition_of(row["symbol"], seam.partitions) == part.partition]
                assert run == expected[part.first : part.last + 1]
                offsets = batch.offsets[part.start : part.start + part.rows].tolist()
                assert offsets == list(range(part.first, part.last + 1))
            written_times = [row["recv_time_us"] for row in decoded]
            assert batch.stamps.oldest_recv_us == min(written_times)
            assert batch.stamps.newest_recv_us == max(written_times)

    async def test_record_has_the_symbol_as_key_and_lies_where_java_would_put_it(self, seam: Seam) -> None:
        sink = seam.sink()
        await sink.open()
        await sink.write(output(events([event(n, symbol=symbol) for n, symbol in enumerate(SYMBOLS)])))
        await sink.close()
        codec = AvroCodec(EVENTS)
        for symbol in SYMBOLS:
            records = await seam.raw_read(EVENTS, partition_of(symbol, seam.partitions))
            (value,) = [value for key, value in records if key == symbol.encode()]
            assert value is not None and value[:5] == b"\x00" + codec.schema_id.to_bytes(4, "big")
            assert codec.decode([value])[0].column("symbol").to_pylist() == [symbol]

    async def test_facts_of_an_instance_go_to_every_partition_and_others_without_symbol_to_the_first(
        self, seam: Seam
    ) -> None:
        rows = [
            event(0, symbol=None, kind="connected", raw=b"{}"),
            event(1, symbol="AAPL"),
            event(2, symbol=None, kind="other", raw=b"S,KEY,1"),
            event(3, symbol=None, kind="clock"),
            event(4, symbol="AAPL", kind="gap", raw=b"{}"),
            event(5, symbol="AAPL"),
        ]
        sink = seam.sink()
        await sink.open()
        await sink.write(output(events(rows)))
        await sink.close()
        codec = AvroCodec(EVENTS)
        home = partition_of("AAPL", seam.partitions)
        for partition in range(seam.partitions):
            records = await seam.raw_read(EVENTS, partition)
            seqs = codec.decode([value for _, value in records])[0].column("seq").to_pylist()
            expected = {0, 3} | ({1, 4, 5} if partition == home else set()) | ({2} if partition == 0 else set())
            assert seqs == sorted(expected)
            keyed = {seq for seq, (key, _) in zip(seqs, records, strict=True) if key == b"AAPL"}
            assert keyed == expected & {1, 4, 5}
            assert all(key is None for seq, (key, _) in zip(seqs, records, strict=True) if seq in (0, 2, 3))

    async def test_a_given_partition_is_kept_and_keys_may_be_absent(self, seam: Seam) -> None:
        rows = random_rows(BARS, 6, 3)
        places = [seam.partitions - 1, 0, 0, seam.partitions - 1, 0, 0]
        sink = seam.sink()
        await sink.open()
        await sink.write(nothing(outgoing=[Outgoing(BARS, rows, np.array(places, np.int32), None)]))
        await sink.close()
        (last,) = await read_all(seam.source(BARS, partitions=[seam.partitions - 1]))
        assert last.rows.to_pylist() == [rows.to_pylist()[0], rows.to_pylist()[3]]
        assert [key for key, _ in await seam.raw_read(BARS, 0)] == [None] * 4

    async def test_a_partition_that_does_not_exist_is_refused(self, seam: Seam) -> None:
        sink = seam.sink()
        await sink.open()
        rows = random_rows(BARS, 1, 3)
        with pytest.raises(PermanentError):
            await sink.write(nothing(outgoing=[Outgoing(BARS, rows, np.array([seam.partitions], np.int32), None)]))
        await sink.close()

    async def test_source_starts_where_its_owner_says(self, seam: Seam) -> None:
        sink = seam.sink()
        await sink.open()
        await sink.write(output(events([event(seq) for seq in range(10)])))
        await sink.close()
        home = partition_of("AAPL", seam.partitions)
        seen: list[LogBounds] = []

        async def start(bounds: LogBounds) -> dict[int, int]:
            seen.append(bounds)
            return bounds.beginning | {home: 7}

        (batch,) = await read_all(seam.source(EVENTS, start))
        assert batch.rows.column("seq").to_pylist() == [7, 8, 9]
        assert seen[0].end[home] == 10 and seen[0].beginning[home] == 0
        assert batch.log_id == seen[0].log_id != ""

    async def test_a_position_behind_the_end_is_a_foreign_log(self, seam: Seam) -> None:
        async def start(bounds: LogBounds) -> dict[int, int]:
            return {partition: end + 1 for partition, end in bounds.end.items()}

        source = seam.source(EVENTS, start)
        with pytest.raises(ForeignLogError):
            await source.open()
        await source.close()

    async def test_records_that_cannot_be_decoded_are_dead_and_their_neighbours_live(self, seam: Seam) -> None:
        good = AvroCodec(EVENTS).encode(events([event(1), event(2)]))
        await seam.raw_write(EVENTS, 1, [(b"A", good[0]), (b"A", b"rubbish"), (None, good[1]), (b"A", good[1][:-1])])
        batches = await read_all(seam.source(EVENTS, partitions=[1]))
        assert [seq for batch in batches for seq in batch.rows.column("seq").to_pylist()] == [1, 2]
        assert [offset for batch in batches for offset in batch.offsets.tolist()] == [0, 2]
        dead = [letter for batch in batches for letter in batch.dead]
        assert [letter.raw for letter in dead] == [b"rubbish", good[1][:-1]]
        assert [letter.position for letter in dead] == [
            {"topic": EVENTS, "partition": 1, "offset": offset} for offset in (1, 3)
        ]
        assert all(letter.reason.startswith("undecodable_record: ") for letter in dead)
        assert batches[-1].ranges[-1].last == 3

    async def test_dead_letters_become_rows_of_the_dead_letter_topic(self, seam: Seam) -> None:
        position = {"topic": EVENTS, "partition": 2, "offset": 77}
        letters = [
            DeadLetter("unparsable_line: field 3 is no price", b"Q,AAPL,x", {"spool": [0, 5, 9]}, "spool"),
            DeadLetter("undecodable_record: truncated", b"\x00", position, EVENTS, headers={"trace": "1"}),
        ]
        sink = seam.sink()
        await sink.open()
        await sink.write(nothing(letters, log_id="ABCDEFGHIJKLMNOP"))
        await sink.close()
        rows = [row for batch in await read_all(seam.source(DLQ)) for row in batch.rows.to_pylist()]
        line, record = rows
        assert (line["writer"], line["epoch"], line["seq"], line["raw"]) == ("test/0", 5, 9, b"Q,AAPL,x")
        assert (line["reason"], line["detail"]) == ("unparsable_line", "field 3 is no price")
        assert re.fullmatch("test/0@[0-9a-f]{8}", record["writer"])
        assert (record["epoch"], record["seq"]) == (0, 77)
        assert (record["src_partition"], record["src_offset"]) == (2, 77)
        assert json.loads(record["headers"]) == {"trace": "1", "log_id": "ABCDEFGHIJKLMNOP"}
        assert len(await seam.raw_read(DLQ, 0)) == 1 and len(await seam.raw_read(DLQ, 2)) == 1

    async def test_an_empty_output_writes_nothing(self, seam: Seam) -> None:
        sink = seam.sink()
        await sink.open()
        await sink.write(output(events([])))
        await sink.close()
        assert await seam.raw_read(EVENTS, 0) == []

    async def test_a_cancelled_read_loses_nothing(self, seam: Seam) -> None:
        source, sink = seam.source(EVENTS), seam.sink()
        await source.open()
        await sink.open()
        got: list[int] = []
        for seq in range(20):
            reading = asyncio.create_task(source.read())
            await sink.write(output(events([event(seq)])))
            reading.cancel()
            (result,) = await asyncio.gather(reading, return_exceptions=True)
            if result is not None and not isinstance(result, BaseException):
                got.extend(result.rows.column("seq").to_pylist())
        await source.finish()
        with pytest.raises(EndOfInputError):
            while True:
                batch = await source.read()
                got.extend(batch.rows.column("seq").to_pylist() if batch is not None else [])
        assert got == list(range(20))
        await source.close()
        await sink.close()

    async def test_read_without_records_is_none_and_finish_ends_at_the_end_of_now(self, seam: Seam) -> None:
        source = seam.source(EVENTS)
        await source.open()
        assert await source.read() is None
        await source.finish()
        await source.finish()
        with pytest.raises(EndOfInputError):
            await source.read()
        await source.close()
        await source.close()

    async def test_a_source_without_partitions_reads_nothing(self, seam: Seam) -> None:
        source = seam.source(EVENTS, partitions=[])
        await source.open()
        assert await source.read() is None
        await source.finish()
        with pytest.raises(EndOfInputError):
            await source.read()
        await source.close()

    async def test_probe_answers(self, seam: Seam) -> None:
        for probe in (await seam.source(EVENTS).probe(), await seam.sink().probe()):
            assert probe.ok is True and probe.round_trip_ms is not None
