"""Gaps that are asked about together, and slices of many trades: one holds up neither the others nor the reader."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.ingestion import backfill as module
from pipeline_orchestrator.ingestion import backfill_job as job_module
from pipeline_orchestrator.ingestion.backfill import WaitError
from pipeline_orchestrator.ingestion.backfill_job import Result
from pipeline_orchestrator.ingestion.context import ParserContext
from tests.doubles.fake_lookup import FakeLookup, LookupPeer
from tests.unit.ingestion.test_backfill import (
    END,
    ROWS,
    SECOND,
    TEN,
    TRADES,
    Stand,
    Tables,
    gap,
    known,
    local_us,
    standing,
)


async def test_a_gap_whose_request_ends_the_connection_holds_up_no_other(tmp_path: Path) -> None:
    async def cut(peer: LookupPeer, _fields: list[str]) -> None:
        peer.cut()

    tables = Tables(gap("A"), gap("B"))
    async with FakeLookup(on=lambda fields: cut if fields[1] == "A" else ROWS + END) as lookup:
        stand = Stand(tmp_path, tables, lookup.port)
        stand.open()
        try:
            await stand.look()
            assert stand.said() == [("B", "filled", {"rows": 4, "volume": "whole"})]
            tables.take(stand.facts())
            for seconds in (70, 80):
                stand.journal.context = ParserContext(clock1=local_us(TEN + seconds * SECOND))
                with pytest.raises(WaitError, match="was lost"):
                    await stand.look()
            symbol, state, detail = stand.said()[1]
        finally:
            stand.journal.close()
    assert (symbol, state, detail["rows"]) == ("A", "unresolved", 0)
    assert detail["why"].startswith("history closes the connection: HTT A")


async def test_what_is_asked_again_one_by_one_waits_where_the_port_is_gone_meanwhile(tmp_path: Path) -> None:
    async def cut_and_close(peer: LookupPeer, _fields: list[str]) -> None:
        lookup._server.close()
        peer.cut()

    tables = Tables(gap("A"), gap("B"))
    async with FakeLookup(on=lambda fields: cut_and_close) as lookup:
        stand = Stand(tmp_path, tables, lookup.port)
        stand.open()
        try:
            for _ in range(4):
                with pytest.raises(WaitError, match="no Lookup port"):
                    await stand.look()
            assert stand.said() == []
        finally:
            stand.journal.close()


async def test_long_work_is_not_done_by_the_loop_and_no_call_makes_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return work(*arguments)

        return noted

    for owner, name in ((module, "_missing"), (Result, "add"), (Result, "verdict")):
        monkeypatch.setattr(owner, name, noting(getattr(owner, name)))
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(job_module, "SPANS_AT_ONCE", 3)
    tables = Tables(gap())
    tables.known = [known(TRADES[2])]
    async with standing(tmp_path, tables) as (stand, _):
        await stand.look()
        assert stand.brought() == [TRADES[0], TRADES[1], TRADES[3]]
        assert stand.said() == [("A", "filled", {"rows": 3, "volume": "whole"})]
    assert len(threads) == 3 and threading.current_thread() not in threads
