"""Processing against what vendors recorded themselves: interval bars of IQFeed, books of LOBSTER."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest

from config.paths import PROJECT_ROOT
from config.sections import KafkaConfig, ProcessingConfig, Settings
from manage.commands.replay import replay_lobster
from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.processing.build import Feed, one_partition

SHARED = PROJECT_ROOT.parent / "shared"
TICKS = SHARED / "fixtures/iqfeed/lookup_61_ticks_nept_2021-03-01_first3000.txt"
BARS = SHARED / "fixtures/iqfeed/lookup_61_intervals_1s_nept_2021-03-01.txt"
LOBSTER = SHARED / "data/lobster_amzn"
MESSAGES = LOBSTER / "AMZN_2012-06-21_message_5.first100000.csv.gz"
BOOKS = LOBSTER / "AMZN_2012-06-21_orderbook_5.first100000.csv.gz"
EASTERN = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micro(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=EASTERN) - EPOCH) // timedelta(microseconds=1)


def price(text: str) -> int:
    whole, _, part = text.partition(".")
    return int(whole) * 1_000_000 + int(part.ljust(6, "0"))


@pytest.mark.skipif(not TICKS.exists(), reason=f"no recorded ticks at {TICKS}")
def test_bars_of_recorded_ticks_equal_the_vendors_own() -> None:
    feed = Feed()
    for line in TICKS.read_text("ascii").splitlines():
        fields = line.split(",")
        if len(fields) < 12:
            continue
        feed.now = micro(fields[0])
        feed.trade("NEPT", price(fields[1]), int(fields[2]), fields[7], trading_date=18_687)
        if feed.seq % 7 == 0:
            feed.clock(time=feed.now - feed.now % 1_000_000)
    feed.clock(time=feed.now + 60_000_000)
    processor = ProcessEvents(Settings(), [0])
    out = {each.topic: each.rows.to_pylist() for each in processor.process(one_partition(feed.rows)).outgoing}
    newest = {row["open_time_us"]: row for row in out["market.bars"] if row["interval"] == "1s"}
    made = [
        (begin, row["high"], row["low"], row["open"], row["close"], row["volume"])
        for begin, row in sorted(newest.items())
        if row["trade_count"]
    ]
    wanted = []
    for line in BARS.read_text("ascii").splitlines():
        fields = line.split(",")
        if len(fields) >= 7:
            wanted.append((micro(fields[0]), *(price(text) for text in fields[1:5]), int(fields[6])))
    assert len(wanted) > 500
    # The ticks were cut within their last second, of which the vendor's file has no bar.
    assert made[:-1] == wanted
    assert made[-1][0] > wanted[-1][0]


def settings_for_replay(partitions: int = 16) -> Settings:
    return Settings(processing=ProcessingConfig(book_levels=5), kafka=KafkaConfig(partitions=partitions))


@pytest.mark.skipif(not MESSAGES.exists(), reason=f"no recorded order book at {LOBSTER}")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("depth", ["levels", "orders"])
def test_all_levels_equal_the_vendors_book_after_every_message(depth: str, tmp_path: Path) -> None:
    replay_lobster(settings_for_replay(), [MESSAGES], tmp_path, [], depth=depth)
    table = pq.read_table(tmp_path / "lobster_books.parquet")
    with gzip.open(BOOKS) as file:
        vendor = np.loadtxt(file, delimiter=",", dtype=np.int64)
    assert table.column("src_row").to_pylist() == list(range(1, len(vendor) + 1))
    scale = {"ask_prices": 100, "ask_sizes": 1, "bid_prices": 100, "bid_sizes": 1}
    for place, (name, factor) in enumerate(scale.items()):
        column = table.column(name).combine_chunks()
        assert column.flatten().to_pylist() == (vendor[:, place::4] * factor).reshape(-1).tolist()


@pytest.fixture
def first_rows(tmp_path: Path) -> Path:
    """The first rows of the recording as a pair of its own, with a row that changes nothing at its end."""
    if not MESSAGES.exists():
        pytest.skip(f"no recorded order book at {LOBSTER}")
    for source in (MESSAGES, BOOKS):
        with gzip.open(source, "rt") as file:
            lines = [next(file) for _ in range(3000)]
        if source == MESSAGES:
            lines.append(lines[-1].split(",")[0] + ",7,0,0,-1,-1\n")  # a trading halt
        else:
            lines.append(lines[-1])
        (tmp_path / source.name.removesuffix(".gz")).write_text("".join(lines), "ascii")
    return tmp_path / MESSAGES.name.removesuffix(".gz")


@pytest.mark.parametrize("depth", ["levels", "orders"])
def test_a_row_that_changes_nothing_has_the_book_before_it(depth: str, first_rows: Path, tmp_path: Path) -> None:
    replay_lobster(settings_for_replay(), [first_rows], tmp_path / "out", [], depth=depth)
    rows = pq.read_table(tmp_path / "out/lobster_books.parquet").to_pylist()
    assert [row["src_row"] for row in rows] == list(range(1, 3002))
    assert rows[-1] | {"src_row": 3000} == rows[-2]


@pytest.mark.parametrize("depth", ["levels", "orders"])
def test_two_replays_give_the_same_bytes_however_they_are_cut(
    depth: str, first_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = [f"market.{name}" for name in ("events", "features", "bars", "books", "gaps")]
    replay_lobster(settings_for_replay(), [first_rows], tmp_path / "one", topics, depth=depth)
    monkeypatch.setattr("pipeline_orchestrator.offline.LINES_AT_ONCE", 123)
    replay_lobster(settings_for_replay(), [first_rows], tmp_path / "two", topics, depth=depth)
    one = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert one == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert set(one) == {*(f"{topic.removeprefix('market.')}.parquet" for topic in topics), "lobster_books.parquet"}
