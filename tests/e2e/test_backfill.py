"""Trades that were missed while Level 1 was away come back from history, once, and bars have them.

What history has is asked for over a plain socket. The ingestion process is killed while it brings the trades.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

SYMBOLS = ("AAPL", "MSFT", "TSLA")
EASTERN = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MARKET = "kind IN ('trade','quote','level_set','level_delete')"
AWAY_S = 4
LENGTHS = {"1s": 1_000_000, "1m": 60_000_000}

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]

Trade = tuple[str, int, str, str, str, str]  # symbol, time, price in 1e-6, size, total volume, tick id


@pytest.fixture
def running(
    tmp_path: Path, own_kafka: RealKafka, own_clickhouse: RealClickHouse, empty_redis: RealRedis, database: str
) -> Iterator[tuple[Pipeline, Simulator]]:
    """The pipeline and its feed, from which lines are being stored; both are gone afterwards."""
    simulator = Simulator(tmp_path / "feed", "--symbols", ",".join(SYMBOLS), "--rate", "400", "--seed", "5", hold=2)
    extra = {
        **simulator.environment,
        "PIPELINE_IQFEED__BACKFILL": "true",
        "PIPELINE_IQFEED__BACKFILL_TRADES_PER_SECOND": "15",
        "PIPELINE_IQFEED__BACKFILL_ANSWER_SECONDS": "3",
        "PIPELINE_IQFEED__RECONNECT_MAX_SECONDS": "1",
        "PIPELINE_SUPERVISION__BACKOFF_MIN_SECONDS": "0.1",
    }
    pipeline = Pipeline(
        tmp_path / "pipeline", own_kafka, own_clickhouse, empty_redis, symbols=SYMBOLS, database=database, extra=extra
    )
    try:
        simulator.start()
        pipeline.start()
        pipeline.wait("lines stored", lambda: pipeline.stored(MARKET) > 500)
        yield pipeline, simulator
    finally:
        pipeline.cli("stop", "--force")
        simulator.stop()


def test_missed_trades_come_back_once_although_ingestion_is_killed(running: tuple[Pipeline, Simulator]) -> None:
    pipeline, simulator = running
    lose_level1(pipeline, simulator)
    pipeline.wait("some trades brought", lambda: pipeline.stored("source = 'H'") > 0, 90)
    partly = pipeline.stored("source = 'H'")
    before = pipeline.pid_of("ingestion/0")
    os.kill(before, signal.SIGKILL)
    pipeline.wait("ingestion back", lambda: pipeline.pid_of("ingestion/0") not in {0, before})
    pipeline.wait("every gap filled", lambda: settled(pipeline) == {"filled"}, 150, shows=lambda: gap_rows(pipeline))
    gauges = pipeline.status()["components"]["ingestion/0"]["gauges"]
    begin, end = compared_span(pipeline)
    truth = history(simulator, begin, end)
    pipeline.wait(
        "bars of all of it",
        lambda: int(pipeline.sql(f"SELECT count() FROM {{db}}.bars WHERE open_time > {us(end)}")[0][0]) > 0,
        90,
    )
    pipeline.wait("bars equal", lambda: bars(pipeline, begin, end) == bars_of(pipeline, begin, end), 60)
    stored = trades(pipeline, begin, end)
    flags = [value for name, value in gauges.items() if name.startswith("backfill_waits_for")]
    refilled = pipeline.stored("source = 'H'")
    rows = gap_rows(pipeline)
    again = pipeline.sql(
        "SELECT count(), uniqExact(symbol, event_time, tick_id, price, size, total_volume, market_center)"
        " FROM {db}.events WHERE kind = 'trade'"
    )[0]
    double = pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events")
    simulator.stop()
    pipeline.stop()

    assert stored == truth, ((truth - stored).most_common(5), (stored - truth).most_common(5))
    assert again[0] == again[1] and double == [["0"]]
    assert 0 < partly < refilled, "the kill was not in between"
    kinds = pipeline.sql("SELECT DISTINCT kind, port FROM {db}.events WHERE source = 'H'")
    assert kinds == [["trade", "lookup"]]
    assert flags == [None]
    whole = [json.loads(row[-1]) for row in rows if row[1] != "\\N"]
    assert {each["volume"] for each in whole} == {"whole"} and sum(each["rows"] for each in whole) >= refilled
    assert int(pipeline.sql("SELECT count() FROM {db}.bars WHERE revision > 0")[0][0]) > 0


def test_what_history_does_not_have_or_does_not_say_is_unresolved(running: tuple[Pipeline, Simulator]) -> None:
    pipeline, simulator = running
    say(simulator, "history_holes,span=000000-235959,duration=0")
    lose_level1(pipeline, simulator)
    pipeline.wait(
        "unresolved by volume", lambda: settled(pipeline) == {"unresolved"}, 120, shows=lambda: gap_rows(pipeline)
    )
    holes = [json.loads(row[-1]) for row in gap_rows(pipeline) if row[1] != "\\N"]
    assert len(holes) == len(SYMBOLS) and all(hole["volume"] > 0 and hole["rows"] == 0 for hole in holes), holes
    assert pipeline.stored("source = 'H'") == 0

    say(simulator, "end,fault=history_holes")
    say(simulator, "slow_history,seconds=3600,duration=0")
    done = len(gap_rows(pipeline))
    lose_level1(pipeline, simulator)
    pipeline.wait("another gap shown as waiting", lambda: waits(pipeline).startswith("HTT"), 90)
    pipeline.wait(
        "unresolved in time",
        lambda: len(gap_rows(pipeline)) > done and settled(pipeline) == {"unresolved"},
        200,
        shows=lambda: gap_rows(pipeline),
    )
    reasons = [json.loads(row[-1])["why"] for row in gap_rows(pipeline) if row[1] != "\\N"]
    assert sum("does not answer in time" in reason for reason in reasons) == len(SYMBOLS), reasons


def waits(pipeline: Pipeline) -> str:
    gauges = pipeline.status()["components"]["ingestion/0"]["gauges"]
    return next((str(value) for name, value in gauges.items() if name.startswith("backfill_waits_for")), "")


def say(simulator: Simulator, fault: str) -> None:
    with socket.create_connection(("127.0.0.1", simulator.admin), timeout=10) as admin, admin.makefile("rwb") as lines:
        lines.write(f"S,SIMULATE FEED,{fault}\r\n".encode())
        lines.flush()
        for line in lines:
            assert not line.startswith(b"E,"), line
            if line.startswith(b"S,SIMULATE FEED"):
                return


def lose_level1(pipeline: Pipeline, simulator: Simulator) -> None:
    """The feed closes Level 1 and lets nobody in for a while; the gap that this makes is closed."""
    gaps = len(gap_rows(pipeline))
    say(simulator, f"refuse,port=level1,duration={AWAY_S}")
    pipeline.wait("a gap of all", lambda: len(gap_rows(pipeline)) > gaps)
    pipeline.wait("no gap is open", lambda: "open" not in settled(pipeline), shows=lambda: gap_rows(pipeline))


def gap_rows(pipeline: Pipeline) -> list[list[str]]:
    try:
        return pipeline.sql(
            "SELECT gap_id, symbol, cause, state, from_time, to_time, detail FROM {db}.gaps_latest"
            " WHERE port = 'level1' ORDER BY 1, 2"
        )
    except OSError:
        return []


def settled(pipeline: Pipeline) -> set[str]:
    return {row[3] for row in gap_rows(pipeline)}


def us(moment: int) -> str:
    return f"fromUnixTimestamp64Micro({moment})"


def compared_span(pipeline: Pipeline) -> tuple[int, int]:
    """From the first whole second after the first trades to one after the last gap."""
    ((first,),) = pipeline.sql(
        "SELECT max(t) FROM (SELECT min(toUnixTimestamp64Micro(event_time)) AS t FROM {db}.events"
        " WHERE kind = 'trade' AND source = 'L' GROUP BY symbol)"
    )
    ((last,),) = pipeline.sql("SELECT toUnixTimestamp64Micro(max(to_time)) FROM {db}.gaps_latest WHERE port = 'level1'")
    return (int(first) // 1_000_000 + 1) * 1_000_000, (int(last) // 1_000_000 + 1) * 1_000_000


def trades(pipeline: Pipeline, begin: int, end: int) -> Counter[Trade]:
    rows = pipeline.sql(
        "SELECT symbol, toUnixTimestamp64Micro(event_time), price, size, total_volume, tick_id FROM {db}.events"
        f" WHERE kind = 'trade' AND event_time >= {us(begin)} AND event_time < {us(end)}"
    )
    return Counter((row[0], int(row[1]), row[2], row[3], row[4], row[5]) for row in rows)


def history(simulator: Simulator, begin: int, end: int) -> Counter[Trade]:
    """Every trade of [begin, end) that the Lookup port has."""
    found: Counter[Trade] = Counter()
    first, last = (
        (EPOCH + timedelta(microseconds=at)).astimezone(EASTERN).strftime("%Y%m%d %H%M%S") for at in (begin, end)
    )
    with socket.create_connection(("127.0.0.1", simulator.lookup), timeout=30) as peer, peer.makefile("rwb") as lines:
        lines.write(b"S,SET PROTOCOL,6.2\r\n")
        for symbol in SYMBOLS:
            lines.write(f"HTT,{symbol},{first},{last},,,,1,{symbol},100\r\n".encode())
            lines.flush()
            for line in lines:
                fields = line.decode().strip().split(",")
                if "!ENDMSG!" in fields:
                    break
                if fields[:2] != [symbol, "LH"]:
                    continue
                local = datetime.strptime(fields[2], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=EASTERN)
                moment = (local.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
                if begin <= moment < end:
                    price = str(round(float(fields[3]) * 1_000_000))
                    found[(symbol, moment, price, fields[4], fields[5], fields[8])] += 1
    return found


Bars = dict[tuple[str, str, int], tuple[int, ...]]


def bars(pipeline: Pipeline, begin: int, end: int) -> Bars:
    """The newest revisions of the bars that lie inside."""
    rows = pipeline.sql(
        "SELECT symbol, interval, toUnixTimestamp64Micro(open_time), ifNull(open, 0), ifNull(high, 0), ifNull(low, 0),"
        " ifNull(close, 0), volume, trade_count, odd_lot_volume, odd_lot_count FROM {db}.bars_latest"
    )
    return {
        (row[0], row[1], int(row[2])): tuple(map(int, row[3:]))
        for row in rows
        if begin <= int(row[2]) and int(row[2]) + LENGTHS[row[1]] <= end
    }


def bars_of(pipeline: Pipeline, begin: int, end: int) -> Bars:
    """Bars made anew of all stored trades: earliest and latest by time, equal times in the order of the log."""
    rows = pipeline.sql(
        "SELECT symbol, toUnixTimestamp64Micro(event_time) AS t, price, size, basis FROM {db}.events"
        f" WHERE kind = 'trade' AND event_time >= {us(begin)} AND event_time < {us(end)}"
        " ORDER BY t, k_part, k_off, k_idx"
    )
    made: Bars = {}
    for interval, length in LENGTHS.items():
        members: dict[int, dict[str, list[tuple[int, int, str]]]] = {}
        for symbol, time, price, size, basis in rows:
            of = members.setdefault(int(time) // length * length, {})
            of.setdefault(symbol, []).append((int(price), int(size), basis))
        for opened, of_symbols in members.items():
            if opened < begin or opened + length > end:
                continue
            for symbol, those in of_symbols.items():
                whole = [each for each in those if each[2] != "O"]
                odd = [each for each in those if each[2] == "O"]
                prices = [each[0] for each in whole] or [0]
                made[(symbol, interval, opened)] = (
                    *(prices[0], max(prices), min(prices), prices[-1]),
                    *(sum(each[1] for each in whole), len(whole), sum(each[1] for each in odd), len(odd)),
                )
    return made
