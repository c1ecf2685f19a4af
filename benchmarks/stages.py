"""Stage by stage on one core: the parser, the codec and the book against what one would write by hand.

Each figure is the best of several runs over the same recorded bytes in the same process; the ratio is what counts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import numpy as np

from benchmarks.naive import lines as naive_lines
from benchmarks.naive.process import Process as NaiveProcess
from benchmarks.naive.wire import encode as naive_encode
from benchmarks.order_books import order_books
from benchmarks.recorded import Recorded, record
from benchmarks.report import Report, table
from config.paths import SCHEMA_DIR
from config.sections import Settings
from pipeline_orchestrator import pandas_block
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS, PORT
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.record import Batch, OffsetRange
from pipeline_orchestrator.transport.avro_codec import AvroCodec

LINES = 200_000
RUNS = 5
CHUNK = 64 << 10
Row = tuple[str, float, float, float, str]


def best(work: Callable[[], object], count: int) -> float:
    """Records per second of the best run."""
    took = []
    for _ in range(RUNS):
        gc.collect()
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return count / min(took)


def frames(data: bytes, port: str) -> list[Frame]:
    """The bytes as reads of at most CHUNK, cut at line ends."""
    made, seq, start = [], 0, 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + CHUNK) + 1
        raw = data[start:end]
        count = raw.count(b"\n")
        made.append(Frame(0, PORT[port], 1, seq, count, 1_800_000_000_000_000, raw))
        seq, start = seq + count, end
    return made


def level1_tuple(line: bytes) -> tuple[object, ...]:
    """The ten fields a small script would keep."""
    f = line.split(b",")
    return f[1], float(f[2]), int(f[3]), f[5], f[10], float(f[13]), int(f[14]), float(f[16]), int(f[17]), f[12]


def level2_tuple(line: bytes) -> tuple[object, ...]:
    """Symbol, side, price, size, time."""
    f = line.split(b",")
    if f[0] == b"9":
        return f[1], f[2], float(f[3]), 0, f[4]
    return f[1], f[2], float(f[3]), int(f[4]), f[7]


def parser(recorded: Recorded) -> list[Row]:
    """Lines to columns against `split` to tuple, and against counting line ends."""
    rows: list[Row] = []
    context = ParserContext(layout=tuple(recorded.layout))
    for name, data, by_hand, to_event in (
        ("level1", recorded.level1, level1_tuple, lambda line: naive_lines.level1(line, recorded.layout)),
        ("level2", recorded.level2, level2_tuple, naive_lines.level2),
    ):
        lines = data.splitlines()
        reads = frames(data, name)

        def ours(reads: list[Frame] = reads) -> None:
            subject = LineParser(context)
            for read in reads:
                events, refused = subject.parse([read])
                assert events.num_rows == read.count, refused[:1]

        ours()
        mine = best(ours, len(lines))
        peer = best(lambda lines=lines, by_hand=by_hand: [by_hand(line) for line in lines], len(lines))  # type: ignore[misc]
        event = best(lambda lines=lines, to_event=to_event: [to_event(line.decode()) for line in lines], len(lines))  # type: ignore[misc]
        floor = best(lambda data=data: data.count(b"\n"), len(lines))  # type: ignore[misc]
        rows.append((f"parse {name} -> event columns (64 KiB reads)", mine, peer, mine / peer, "split -> tuple"))
        rows.append((f"parse {name}, the same job", mine, event, mine / event, "dict per event (naive)"))
        rows.append((f"parse {name}, against the limit", mine, floor, mine / floor, "counting line ends"))
    return rows


def codec(recorded: Recorded) -> list[Row]:
    """Event columns to framed Avro and back against fastavro with parsed schemas."""
    context = ParserContext(layout=tuple(recorded.layout))
    events = LineParser(context).parse(frames(recorded.level2, "level2")[:30])[0]
    subject = AvroCodec(EVENTS)
    values = subject.encode(events)
    records = events.to_pylist()
    parsed = fastavro.parse_schema(json.loads((SCHEMA_DIR / f"{EVENTS}.avsc").read_text()))
    assert [naive_encode(EVENTS, one) for one in records[:500]] == values[:500], "both must write the same bytes"
    count = len(values)
    mine = best(lambda: subject.encode(events), count)
    peer = best(lambda: [naive_encode(EVENTS, one) for one in records], count)
    rows: list[Row] = [("encode market.events, one value per row", mine, peer, mine / peer, "fastavro, parsed schema")]

    def read_all() -> None:
        for value in values:
            buffer = BytesIO(value)
            buffer.seek(5)
            fastavro.schemaless_reader(buffer, parsed, None)

    mine = best(lambda: subject.decode(values), count)
    peer = best(read_all, count)
    rows.append(("decode market.events into columns", mine, peer, mine / peer, "fastavro, parsed schema"))
    return rows


class Sent:
    """Stands for a producer: counts what would be sent."""

    def __init__(self) -> None:
        self.records = 0

    async def send(self, *_: object, **__: object) -> None:
        """Nothing goes anywhere."""
        self.records += 1


class NaiveFeatures(NaiveProcess):
    """The naive processing without its Avro, so that books and features are compared and nothing else."""

    async def send(self, topic: str, event: dict[str, Any], row: dict[str, Any]) -> None:  # Any: Avro values
        await self.producer.send(topic, row)


def processing(recorded: Recorded) -> list[Row]:
    """Depth events to books, features and book rows: kernels over batches against dicts."""
    cut = next(m.start() for m in re.finditer(rb"^[89],", recorded.level2, re.MULTILINE))
    data = recorded.level2[:cut] + recorded.clock + recorded.level2[cut:]
    parse = LineParser(ParserContext(layout=tuple(recorded.layout)))
    events = parse.parse(frames(data, "level2"))[0]
    rows: list[Row] = []
    sent = Sent()

    def peer() -> None:
        subject = NaiveFeatures(sent)
        asyncio.run(_feed(subject, records))

    records = [row | {"partition": 0, "offset": i} for i, row in enumerate(events.to_pylist())]
    theirs = best(peer, len(records))
    for size in (100, 1_000, 10_000):
        batches = []
        for start in range(0, events.num_rows, size):
            part = events.slice(start, size)
            offsets = np.arange(start, start + part.num_rows, dtype=np.int64)
            place = OffsetRange(EVENTS, 0, int(offsets[0]), int(offsets[-1]), 0, part.num_rows)
            batches.append(Batch(rows=part, ranges=(place,), offsets=offsets, log_id="bench"))

        def ours(batches: list[Batch] = batches) -> int:
            subject = ProcessEvents(Settings(), [0])
            return sum(out.rows.num_rows for batch in batches for out in subject.process(batch).outgoing)

        sent.records = 0
        peer()
        # The naive books differ in when they count as complete; a job of another size would be no peer.
        assert abs(ours() - sent.records) < 0.02 * sent.records, f"{ours()} rows against {sent.records}"
        mine = best(ours, len(records))
        rows.append((f"depth -> book, features ({size:,} rows a batch)", mine, theirs, mine / theirs, "dicts (naive)"))
    return rows


async def _feed(subject: NaiveProcess, records: list[dict[str, Any]]) -> None:  # Any: Avro values
    for event in records:
        if event["kind"] == "clock":
            await subject.clock(event)
        else:
            await subject.one(event)


def main() -> None:
    """All stages, one table."""
    pandas_block.install()
    report = Report("stages", "Stages, one core, records per second")
    recorded = record(LINES)
    rows = [*parser(recorded), *codec(recorded), *processing(recorded), *order_books(best, LINES)]
    report.add(table(("stage", "product /s", "peer /s", "ratio", "peer"), rows))
    report.write()


if __name__ == "__main__":
    main()
