"""Who yields takes nothing new while the first are behind, and loses nothing by it."""

from __future__ import annotations

import pytest

from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.flow import precedence as module
from pipeline_orchestrator.flow.batcher import BatchingSource
from pipeline_orchestrator.flow.precedence import REST, TURN_S, Precedence, YieldingSource
from tests.unit.flow.test_batcher import Scripted, batches


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.0)


class Stand:
    """Two that go first, and one that yields; `now` is the clock."""

    def __init__(self, cuts: list[int]) -> None:
        self.lags: dict[str, float | None] = {"events": 0.0, "gaps": None}
        self.now = 100.0
        precedence = Precedence(1.5)
        precedence.first = {"events": lambda: self.lags["events"], "gaps": lambda: self.lags["gaps"]}
        self.inner = Scripted(batches(cuts))
        self.source = YieldingSource(self.inner, precedence, lambda: self.now)

    async def rows(self) -> int | None:
        batch = await self.source.read()
        return None if batch is None else len(batch)


async def test_it_reads_on_while_the_first_keep_up_or_are_not_known() -> None:
    stand = Stand([1, 2, 3])
    assert await stand.rows() == 1
    stand.lags["events"] = 1.5
    assert await stand.rows() == 2
    stand.lags = {"events": None, "gaps": None}
    assert await stand.rows() == 3
    assert stand.source.yields_to == ""


async def test_it_takes_nothing_while_one_of_the_first_is_behind_and_goes_on_where_it_stood() -> None:
    stand = Stand([1, 2, 3])
    assert await stand.rows() == 1
    stand.lags["gaps"] = 1.6
    for _ in range(5):
        assert await stand.rows() is None
    assert stand.source.yields_to == "gaps"
    assert len(stand.inner.script) == 2  # nothing was even asked for
    stand.lags["events"] = 60.0
    assert await stand.rows() is None
    assert stand.source.yields_to == "events, gaps"
    stand.lags = {"events": 0.0, "gaps": 0.0}
    assert [await stand.rows(), await stand.rows()] == [2, 3]
    assert stand.source.yields_to == ""


async def test_it_never_comes_to_a_standstill() -> None:
    stand = Stand([1, 2, 3])
    stand.lags["events"] = 3600.0
    given: list[int] = []
    for took, rest in ((1.0, TURN_S), (10.0, 10.0 * REST), (0.0, TURN_S)):
        batch = await stand.source.read()
        assert batch is not None
        given.append(len(batch))
        stand.now += took
        assert await stand.rows() is None  # one at a time
        await stand.source.ack(batch)
        stand.now += rest - 0.01
        assert await stand.rows() is None
        stand.now += 0.02
    assert given == [1, 2, 3]


async def test_a_drain_is_not_held_up() -> None:
    stand = Stand([1, 2, 3])
    stand.lags["events"] = 3600.0
    assert [await stand.rows(), await stand.rows()] == [1, None]
    await stand.source.finish()
    assert [await stand.rows(), await stand.rows()] == [2, 3]
    with pytest.raises(EndOfInputError):
        await stand.source.read()


async def test_what_was_joined_before_is_kept() -> None:
    stand = Stand([])
    parts = batches([2, 3, 4])
    stand.source.source = joined = BatchingSource(Scripted(parts), max_rows=5, max_age=60.0)
    assert await stand.rows() == 5
    stand.lags["events"] = 9.0
    assert await stand.rows() is None
    stand.lags["events"] = 0.0
    batch = await stand.source.read()
    assert batch is not None
    assert batch.rows.column("seq").to_pylist() == [5, 6, 7, 8]
    await stand.source.ack(batch)
    assert joined.source.acked == parts[2:]  # type: ignore[attr-defined]  # a Scripted
