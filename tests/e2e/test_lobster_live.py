"""A recorded day through the live pipeline: the stored books are the vendor's after every message."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.flow.spool_reader import iter_frames
from pipeline_orchestrator.market.events import PORT
from tests.doubles.oracle import sent_lines
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

DAY = PROJECT_ROOT.parent / "shared" / "data" / "lobster_amzn"
ROWS = 20_000

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not DAY.exists(), reason=f"recorded LOBSTER data is not at {DAY}"),
]

Side = list[tuple[int, int]]  # (price in 1e-6, size), best first


def cut(directory: Path) -> Path:
    """The first rows of the recorded pair, under the names that the simulator reads; the message file."""
    directory.mkdir()
    for source in sorted(DAY.glob("AMZN_*.csv.gz")):
        target = directory / source.name.replace(".first100000", "").removesuffix(".gz")
        with gzip.open(source, "rt") as whole, target.open("w") as part:
            part.writelines(islice(whole, ROWS))
    return next(directory.glob("*_message_*"))


def vendor_books(message_file: Path) -> list[tuple[Side, Side]]:
    """(bids, asks) after each row of the vendor's book file."""
    with message_file.with_name(message_file.name.replace("_message_", "_orderbook_")).open() as file:
        rows = [[int(field) for field in row] for row in csv.reader(file)]
    return [
        (
            [(row[at + 2] * 100, row[at + 3]) for at in range(0, 20, 4)],
            [(row[at] * 100, row[at + 1]) for at in range(0, 20, 4)],
        )
        for row in rows
    ]


def spooled_depth(state: Path) -> Iterator[tuple[tuple[int, int], str]]:
    """((epoch, seq), text) of every Level 2 line in the order of reading."""
    for frame in iter_frames(state / "spool" / "0"):
        if frame.port == PORT["level2"]:
            for number, line in enumerate(bytes(frame.raw).split(b"\n")[: frame.count]):
                yield (frame.epoch, frame.first_seq + number), line.decode().rstrip("\r")


def test_every_stored_book_equals_the_vendors(
    tmp_path: Path, kafka_broker: RealKafka, clickhouse_server: RealClickHouse, redis_server: RealRedis, database: str
) -> None:
    message_file = cut(tmp_path / "day")
    simulator = Simulator(tmp_path / "feed", "--replay", str(message_file), "--speed", "max", hold=2)
    pipeline = Pipeline(
        tmp_path / "pipeline",
        kafka_broker,
        clickhouse_server,
        redis_server,
        symbols=["AMZN"],
        database=database,
        extra=simulator.environment,
    )
    try:
        simulator.start()
        pipeline.start()
        seen: list[int] = []

        def still() -> bool:
            seen.append(pipeline.stored())
            return len(seen) > 20 and seen[-1] > ROWS and len(set(seen[-20:])) == 1

        pipeline.wait("the whole day stored", still, 120)
        pipeline.stop()
    finally:
        pipeline.cli("stop", "--force")
        simulator.stop()
    rows = pipeline.sql(
        "SELECT src_epoch, src_seq, bid_prices, bid_sizes, ask_prices, ask_sizes FROM {db}.books "
        "ORDER BY src_epoch, src_seq, out"
    )
    books = {(int(epoch), int(seq)): [json.loads(column) for column in columns] for epoch, seq, *columns in rows}
    sent = [(row, text) for _, port, _, row, text in sent_lines(simulator.sent_log) if port == "level2"]
    spooled = list(spooled_depth(pipeline.state))
    assert [text for _, text in spooled] == [text for _, text in sent]

    after: dict[int, tuple[Side, Side]] = {}
    book: tuple[Side, Side] = ([], [])
    for (identity, _), (src_row, text) in zip(spooled, sent, strict=True):
        if identity in books:
            bid_prices, bid_sizes, ask_prices, ask_sizes = books[identity]
            book = (list(zip(bid_prices, bid_sizes, strict=True)), list(zip(ask_prices, ask_sizes, strict=True)))
        if src_row or text.startswith("7,"):  # the snapshot at the watch is the book after the first row
            after[max(src_row, 1)] = book
    expected = vendor_books(message_file)
    shown: tuple[Side, Side] = ([], [])
    for row, vendor in enumerate(expected, start=1):
        shown = after.get(row, shown)
        assert shown == vendor, f"after vendor row {row}"
