"""Corrections of a running feed: every revision of every bar against trades and corrections, and what `symbol` shows.

The feed plays a scenario: trades are deleted, replaced and told late, then the first symbol halts without quotes.
Processing is killed in between.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import BARS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.whole_log import WholeLog
from tests.doubles.oracle import expected_of
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealKafka
from tests.e2e.conftest import MakeSimulated

SYMBOLS = ("AAPL", "MSFT", "TSLA")
HALTED = SYMBOLS[0]
SECOND = 1_000_000
LENGTHS = {"1s": SECOND, "1m": 60 * SECOND}
FLOW: dict[str, Any] = {"rate": 150, "volatility": 4, "trades": 0.2, "corrections": 120, "correction_layout": "both"}
SCENARIO = {
    "title": "Corrections, then a halt without quotes",
    "start": "2024-03-07 10:15:00",
    "phases": [FLOW | {"duration": "80s"}, FLOW | {"duration": "39s", "halt": [HALTED], "halt_quotes": "withdrawn"}],
}

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(240)]

Key = tuple[str, str, int]  # symbol, interval, begin
Trade = dict[str, Any]


@pytest.fixture
def running(simulated: MakeSimulated, tmp_path: Path) -> tuple[Pipeline, Simulator]:
    """The pipeline and its feed."""
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps(SCENARIO))
    options = ("--scenario", str(scenario), "--speed", "10x", "--seed", "4")
    extra = {"PIPELINE_IQFEED__NEWS": "true", "PIPELINE_IQFEED__REGIONAL": "true"}
    pipeline, simulator = simulated(*options, symbols=SYMBOLS, extra=extra)
    simulator.start()
    pipeline.start()
    return pipeline, simulator


def test_corrections_make_revisions_that_trades_and_corrections_account_for(
    running: tuple[Pipeline, Simulator], own_kafka: RealKafka
) -> None:
    pipeline, simulator = running
    pipeline.wait("a revised bar", lambda: number(pipeline, "bars WHERE revision > 0") > 0)
    published = features(pipeline)
    before = pipeline.pid_of("processing/0")
    os.kill(before, signal.SIGKILL)
    pipeline.wait("processing back", lambda: pipeline.pid_of("processing/0") not in {0, before})
    last = "bars WHERE interval = '1m' AND open_time = toDateTime64('2024-03-07 15:16:00', 6, 'UTC')"
    pipeline.wait("the last minute of all symbols that trade", lambda: number(pipeline, last) >= len(SYMBOLS))
    pipeline.wait("every sent trade and correction", lambda: told(pipeline) == sent(simulator))
    pipeline.wait("the halt shown", lambda: shown(pipeline)["status"]["trading"] == "not quoted")
    document = shown(pipeline)
    text = pipeline.cli("symbol", HALTED, "-o", "table").stdout
    gauges = pipeline.status()["components"]["processing/0"]["gauges"]
    simulator.stop()
    pipeline.stop()

    records, rows = bars_in_log(own_kafka), events(pipeline)
    not_applied = assert_every_revision(records, rows)
    assert_log_and_table_agree(pipeline, records)
    assert features(pipeline, upto=published[0]) == published
    assert number(pipeline, "features") == pipeline.stored(
        "kind IN ('trade','quote','level_set','level_delete','depth_clear')"
    )
    corrected = [row for row in rows if row["kind"] == "correction"]
    assert len(corrected) > 30 and 5 < len(not_applied) < len(corrected)
    flagged = pipeline.sql(
        "SELECT gap_id FROM {db}.gaps_latest WHERE cause = 'correction_not_applied' AND state = 'unresolved'"
    )
    assert Counter(gap_id for (gap_id,) in flagged) == Counter(not_applied)
    assert gauges["corrections_not_applied"] > 0 and gauges["corrections"] > 0
    assert_shown(document, text)


def number(pipeline: Pipeline, table: str) -> int:
    """Rows; 0 while there is no table."""
    try:
        return int(pipeline.sql(f"SELECT count() FROM {{db}}.{table}")[0][0])
    except OSError:
        return 0


def features(pipeline: Pipeline, upto: int | None = None) -> tuple[int, str]:
    """The newest line of a symbol that features were made of, and a digest of all rows up to it."""
    where = "symbol = 'MSFT'" + ("" if upto is None else f" AND src_seq <= {upto}")
    ((newest, digest),) = pipeline.sql(
        f"SELECT max(src_seq), groupBitXor(cityHash64(* EXCEPT (k_off, k_idx))) FROM {{db}}.features WHERE {where}"
    )
    return int(newest), digest


def told(pipeline: Pipeline) -> dict[str, int]:
    rows = pipeline.sql(
        "SELECT kind, count() FROM {db}.events WHERE kind IN ('trade', 'correction', 'quote') GROUP BY 1"
    )
    return {kind: int(count) for kind, count in rows}


def sent(simulator: Simulator) -> dict[str, int]:
    counts = expected_of(simulator.sent_log).counts
    return {
        name: sum(n for (_, kind), n in counts.items() if kind == name) for name in ("trade", "correction", "quote")
    }


def shown(pipeline: Pipeline) -> dict[str, Any]:
    answered = pipeline.cli("symbol", HALTED, "-o", "json")
    assert answered.returncode == 0, answered.stderr
    document: dict[str, Any] = json.loads(answered.stdout)
    return document


def events(pipeline: Pipeline) -> list[Trade]:
    names = ("epoch", "seq", "kind", "symbol", "price", "size", "basis", "tick_id", "market_center", "correction")
    rows = pipeline.sql(
        f"SELECT {', '.join(names)}, toUnixTimestamp64Micro(event_time), conditions FROM {{db}}.events"
        " WHERE kind IN ('trade', 'correction') ORDER BY epoch, seq"
    )
    numbers = {"epoch", "seq", "price", "size", "tick_id", "market_center", "time"}
    found = []
    for row in rows:
        values = dict(zip((*names, "time", "conditions"), row, strict=True))
        found.append({k: None if v == "\\N" else int(v) if k in numbers else v for k, v in values.items()})
    return found


def bars_in_log(kafka: RealKafka) -> list[dict[str, Any]]:
    """Each record of market.bars once, in the order of the clock lines that published it."""
    log = WholeLog(KafkaConfig(bootstrap_servers=kafka.address))
    try:
        values = [value for _, _, value in log.records(BARS, log.extents(BARS))]
    finally:
        log.close()
    rows, refused = AvroCodec(BARS).decode(values)
    assert not refused
    # After the kill, what was not acknowledged is published again: the same record, which every reader drops.
    once = {(row["src_epoch"], row["src_seq"], row["src_partition"], row["out"]): row for row in rows.to_pylist()}
    again = Counter(json.dumps(row, default=str) for row in rows.to_pylist())
    assert len(again) == len(once), "a repeated record differs from the first"
    return sorted(once.values(), key=lambda row: (row["src_epoch"], row["src_seq"], row["symbol"], row["out"]))


def assert_every_revision(records: list[dict[str, Any]], rows: list[Trade]) -> list[str]:
    """Every record against the trades and corrections before the clock that published it; ids of those not applied."""
    trades: dict[str, list[Trade]] = {symbol: [] for symbol in SYMBOLS}
    not_applied: list[str] = []
    revisions: Counter[Key] = Counter()
    left = iter(rows)
    row = next(left, None)
    for record in records:
        while row is not None and (row["epoch"], row["seq"]) < (record["src_epoch"], record["src_seq"]):
            if not apply(row, trades[row["symbol"]]):
                not_applied.append(f"0:{row['epoch']}:{row['seq']}")
            row = next(left, None)
        key = (record["symbol"], record["interval"], record["open_time_us"])
        assert record["revision"] == revisions[key]
        revisions[key] += 1
        assert {name: record[name] for name in BAR} == bar_of(trades[record["symbol"]], key), key
    while row is not None:
        if not apply(row, trades[row["symbol"]]):
            not_applied.append(f"0:{row['epoch']}:{row['seq']}")
        row = next(left, None)
    assert max(revisions.values()) > 1
    return not_applied


def apply(row: Trade, trades: list[Trade]) -> bool:
    if row["kind"] == "trade":
        trades.append(row)
        return True
    if row["correction"] == "X":
        same = ("price", "size", "tick_id", "market_center")
        (meant,) = [trade for trade in trades if all(trade[name] == row[name] for name in same)]
        trades.remove(meant)
        return True
    basis = row["basis"] or ("C" if row["conditions"] == "01" else None)
    if row["time"] is None or basis is None:
        return False
    trades.append(row | {"basis": basis})
    return True


BAR = ("open", "high", "low", "close", "volume", "vwap", "trade_count", "odd_lot_volume", "odd_lot_count")


def bar_of(trades: list[Trade], key: Key) -> dict[str, int | None]:
    _, interval, begin = key
    inside = [trade for trade in trades if begin <= trade["time"] < begin + LENGTHS[interval]]
    odd = [trade["size"] for trade in inside if trade["basis"] == "O"]
    counted = sorted((t for t in inside if t["basis"] != "O"), key=lambda t: t["time"])  # stable: log order
    prices, volume = [trade["price"] for trade in counted], sum(trade["size"] for trade in counted)
    turnover = sum(trade["price"] * trade["size"] for trade in counted)
    values = (
        prices[0] if prices else None,
        max(prices, default=None),
        min(prices, default=None),
        prices[-1] if prices else None,
        volume,
        round(Fraction(turnover, volume)) if volume else None,
        len(prices),
        sum(odd),
        len(odd),
    )
    return dict(zip(BAR, values, strict=True))


def assert_log_and_table_agree(pipeline: Pipeline, records: list[dict[str, Any]]) -> None:
    """The view shows the newest revision; the table holds older ones until the engine merges them away."""
    newest = {(r["symbol"], r["interval"], r["open_time_us"]): r for r in records}
    columns = ", ".join(("revision", *BAR))
    rows = pipeline.sql(
        f"SELECT symbol, interval, toUnixTimestamp64Micro(open_time), {columns} FROM {{db}}.bars_latest"
    )
    found = {(s, i, int(begin)): [None if v == "\\N" else int(v) for v in values] for s, i, begin, *values in rows}
    assert found == {key: [record[name] for name in ("revision", *BAR)] for key, record in newest.items()}
    ledger = pipeline.sql("SELECT count() - uniqExact(src_epoch, src_seq, src_partition, out) FROM {db}.bars")
    assert ledger == [["0"]]


def assert_shown(document: dict[str, Any], text: str) -> None:
    status = document["status"]
    assert document["fundamentals"]["values"]["company_name"] == HALTED
    assert {quote["market_center"] for quote in document["regional"]} == {5, 11, 26}
    assert any(HALTED in story["headline"] for story in document["news"])
    assert {row["correction"] for row in document["corrections"]} <= {"I", "X"} and document["corrections"]
    assert status["quoted"]["sides"] == "no side"
    assert status["silence"]["other_trades"] > 20 and status["silence"]["other_symbols"] == len(SYMBOLS) - 1
    assert (status["link"]["state"], status["session"]["state"]) == ("connected", "open")
    assert status["account"]["service"] == "real_time"
    for part in ("status      not quoted", "corrections", "fundamentals", "regional", "news", "feed        connected"):
        assert part in text
