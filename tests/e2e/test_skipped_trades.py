"""Trades that the feed leaves out on a connection that stays: found by the day's volume, said as gaps, refilled.

Neither corrections nor duplicates nor lines out of order nor quotes are taken for it.
"""

from __future__ import annotations

import json

import pytest

from tests.doubles.pipeline import Pipeline
from tests.e2e.conftest import MakeSimulated
from tests.e2e.test_backfill import compared_span, history, trades

SYMBOLS = ("AAPL", "MSFT", "TSLA")
RATE = 400
FAULT_S = 8
SETTINGS = {"PIPELINE_IQFEED__BACKFILL": "true", "PIPELINE_IQFEED__BACKFILL_ANSWER_SECONDS": "3"}

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]


def skipped(pipeline: Pipeline) -> list[tuple[str, str, int, int, str]]:
    """Newest rows of such gaps: symbol, state, from and to in microseconds, detail."""
    try:
        rows = pipeline.sql(
            "SELECT symbol, state, toUnixTimestamp64Micro(from_time), toUnixTimestamp64Micro(to_time), detail"
            " FROM {db}.gaps_latest WHERE cause = 'volume_skipped' ORDER BY 1, 3"
        )
    except OSError:
        return []
    return [(symbol, state, int(begin), int(end), detail) for symbol, state, begin, end, detail in rows]


def fault_is_over(pipeline: Pipeline) -> None:
    """Twice as many lines as the fault's time has are stored."""
    wanted = pipeline.stored() + 2 * FAULT_S * RATE
    pipeline.wait("lines behind the fault", lambda: pipeline.stored() > wanted, 180)


def test_skipped_trades_are_gaps_of_their_symbol_and_come_back_from_history(simulated: MakeSimulated) -> None:
    pipeline, simulator = simulated("--rate", str(RATE), "--seed", "5", symbols=SYMBOLS, extra=SETTINGS)
    simulator.start()
    pipeline.start()
    pipeline.wait("lines stored", lambda: pipeline.stored("kind = 'trade'") > 500, 180)
    assert skipped(pipeline) == []
    simulator.misbehave(f"skip,port=level1,share=0.1,duration={FAULT_S}")
    pipeline.wait("gaps of each symbol", lambda: {row[0] for row in skipped(pipeline)} == set(SYMBOLS), 90)
    fault_is_over(pipeline)
    pipeline.wait(
        "every gap filled",
        lambda: {row[1] for row in skipped(pipeline)} == {"filled"},
        150,
        shows=lambda: skipped(pipeline),
    )
    begin, end = compared_span(pipeline)
    truth, stored, found = history(simulator, begin, end), trades(pipeline, begin, end), skipped(pipeline)
    assert stored == truth, ((truth - stored).most_common(5), (stored - truth).most_common(5))
    details = [json.loads(row[-1]) for row in found]
    assert {each["volume"] for each in details} == {"whole"}
    assert pipeline.stored("source = 'H'") > 0
    assert all(low <= high for _, _, low, high, _ in found)
    twice = pipeline.sql("SELECT gap_id, state, count() FROM {db}.gaps GROUP BY 1, 2 HAVING count() > 1")
    assert twice == []


@pytest.mark.long_fault
def test_nothing_else_is_taken_for_it(simulated: MakeSimulated) -> None:
    pipeline, simulator = simulated(
        "--rate", str(RATE), "--seed", "6", "--corrections", "0.02", symbols=SYMBOLS, extra=SETTINGS
    )
    simulator.start()
    pipeline.start()
    pipeline.wait("lines stored", lambda: pipeline.stored("kind = 'trade'") > 500, 180)
    for fault in ("duplicate,port=level1,share=0.3,lag=50", "reorder,port=level1,window=300"):
        simulator.misbehave(f"{fault},duration={FAULT_S}")
        fault_is_over(pipeline)
    assert pipeline.stored("kind = 'correction'") > 0
    assert skipped(pipeline) == []
