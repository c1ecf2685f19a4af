"""One pipeline per database: who holds it, who waits, who takes over, and that nothing is stored twice then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from config.sections import ClickHouseConfig, Settings
from pipeline_orchestrator.errors import PermanentError, RetryableError, UncertainError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.sole_writer import LIFE_S, Holder, pipeline_id, require_sole_writer
from pipeline_orchestrator.sole_writer import rival as ask
from pipeline_orchestrator.storage.claims import Claim, LostClaimError
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.migrate import migrate
from pipeline_orchestrator.storage.tables import TABLES
from pipeline_orchestrator.topology import Wiring
from tests.doubles.clock import FakeClock
from tests.doubles.context import FakeContext
from tests.doubles.embedded import free_port
from tests.doubles.market_rows import Log, event


@pytest.fixture
async def ready(store: Store) -> AsyncIterator[Store]:
    await migrate(store)
    yield store


async def age(store: Store, seconds: int) -> None:
    """Let every claim look `seconds` older, as the server's clock sees it."""
    await store.command(f"CREATE TABLE {store.table('older')} AS {store.table('claims')}")
    await store.command(
        f"INSERT INTO {store.table('older')} SELECT * REPLACE (renewed - toIntervalSecond({seconds}) AS renewed)"
        f" FROM {store.table('claims')}"
    )
    await store.command(f"DROP TABLE {store.table('claims')}")
    await store.command(f"RENAME TABLE {store.table('older')} TO {store.table('claims')}")


async def rival(store: Store, owner: str) -> Holder | None:
    return await asyncio.to_thread(ask, store.config, owner)


def log_of(rows: int) -> Log:
    log = Log()
    for seq in range(rows):
        log.append(0, **event(seq))
    return log


async def sink_of(config: ClickHouseConfig, state_dir: Path) -> tuple[ClickHouseSink, Claim]:
    store = Store(config)
    claim = Claim(store, state_dir, 0)
    return ClickHouseSink(ClickHouseTable(store, TABLES[EVENTS], claim), state_dir=state_dir), claim


async def stored(store: Store) -> list[int]:
    return [int(row[0]) for row in await store.query(f"SELECT seq FROM {store.table('events')} ORDER BY seq")]


def test_a_state_directory_keeps_its_id_and_another_has_another(tmp_path: Path) -> None:
    one = pipeline_id(tmp_path / "a")
    assert pipeline_id(tmp_path / "a") == one != pipeline_id(tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["pipeline.id"]


async def test_a_second_pipeline_is_refused_with_the_name_of_the_first(ready: Store, tmp_path: Path) -> None:
    first, second = Claim(ready, tmp_path / "a", 0), Claim(ready, tmp_path / "b", 0)
    await first.hold()
    with pytest.raises(
        RetryableError, match=rf"written to by .* storage pid \d+, state directory {tmp_path / 'a'}"
    ) as refused:
        await second.hold()
    assert f"stop --state-dir {tmp_path / 'a'}" in refused.value.next_step
    found = await rival(ready, pipeline_id(tmp_path / "b"))
    assert found is not None and 0 < found.left_s <= LIFE_S
    assert await rival(ready, pipeline_id(tmp_path / "a")) is None
    await first.release()
    await second.hold()
    await second.release()


async def test_the_same_state_directory_never_waits_for_its_old_claim(ready: Store, tmp_path: Path) -> None:
    await Claim(ready, tmp_path / "a", 0).hold()  # killed: never released
    await Claim(ready, tmp_path / "a", 0).hold()
    await Claim(ready, tmp_path / "a", 1).hold()  # another storage instance of the same pipeline
    assert await rival(ready, pipeline_id(tmp_path / "a")) is None
    found = await rival(ready, pipeline_id(tmp_path / "b"))
    assert found is not None and found.state_dir == str(tmp_path / "a")
    living = (
        f"SELECT instance FROM {ready.table('claims')} WHERE NOT asked AND alive GROUP BY instance ORDER BY instance"
    )
    assert [int(row[0]) for row in await ready.query(living)] == [0, 1]


async def test_a_claim_that_is_not_renewed_dies_by_the_servers_clock(ready: Store, tmp_path: Path) -> None:
    await Claim(ready, tmp_path / "a", 0).hold()
    second = Claim(ready, tmp_path / "b", 0)
    await age(ready, LIFE_S - 10)
    with pytest.raises(RetryableError):
        await second.hold()
    await age(ready, 11)
    await second.hold()


async def test_of_many_who_ask_at_once_at_most_one_holds(ready: Store, tmp_path: Path) -> None:
    claims = [Claim(ready, tmp_path / str(number), 0) for number in range(5)]
    held: set[int] = set()
    for _ in range(4):
        answers = await asyncio.gather(*(claim.hold() for claim in claims), return_exceptions=True)
        held |= {number for number, answer in enumerate(answers) if answer is None}
        assert len(held) <= 1
        assert all(answer is None or isinstance(answer, RetryableError) for answer in answers)


async def test_a_wiped_table_is_made_again_and_the_claim_in_it(ready: Store, tmp_path: Path) -> None:
    first = Claim(ready, tmp_path / "a", 0)
    await first.hold()
    await ready.command(f"DROP TABLE {ready.table('claims')}")
    await first.hold(within=0.0)
    assert await rival(ready, "somebody else") is not None
    await ready.command(f"DROP DATABASE `{ready.database}`")
    with pytest.raises(PermanentError) as told:
        await first.hold(within=0.0)
    assert not isinstance(told.value, LostClaimError)
    assert await rival(ready, "somebody else") is None
    await migrate(ready)
    await first.hold(within=0.0)
    assert await rival(ready, "somebody else") is not None


async def test_keeping_renews_survives_a_wipe_and_ends_at_drain(ready: Store, tmp_path: Path) -> None:
    claim, ctx = Claim(ready, tmp_path / "a", 0), FakeContext(tmp_path)
    await claim.hold()
    await age(ready, LIFE_S + 1)
    ctx.drain.set()
    await claim.keep(ctx)
    assert await rival(ready, "somebody else") is None
    ctx.drain.clear()
    keeping = asyncio.create_task(claim.keep(ctx))
    while await rival(ready, "somebody else") is None:
        await asyncio.sleep(0.01)
    ctx.drain.set()
    await keeping
    await ready.command(f"DROP DATABASE `{ready.database}`")
    ctx.drain.clear()
    keeping = asyncio.create_task(claim.keep(ctx))
    while not ctx.events:
        await asyncio.sleep(0.01)
    assert ctx.events[0][:2] == ("WARNING", "claim_not_renewed")
    ctx.drain.set()
    await keeping


async def test_one_that_slept_over_its_claim_learns_that_another_wrote(ready: Store, tmp_path: Path) -> None:
    clock = FakeClock()
    sleeper, other = Claim(ready, tmp_path / "a", 0, clock=clock), Claim(ready, tmp_path / "b", 0)
    await sleeper.hold()
    await age(ready, LIFE_S + 1)
    await other.hold()
    await sleeper.hold()  # by its own clock no time has passed
    clock.advance(LIFE_S + 1)
    with pytest.raises(LostClaimError, match="written to by"):
        await sleeper.hold()
    await other.release()
    with pytest.raises(LostClaimError, match="meanwhile"):
        await sleeper.hold()


async def test_the_second_writes_nothing_then_takes_over_and_nothing_is_stored_twice(
    config: ClickHouseConfig, store: Store, tmp_path: Path
) -> None:
    log = log_of(10)
    first, claim = await sink_of(config, tmp_path / "a")
    await first.open()
    await first.write(Output(log.batch(await first.start_positions(log.bounds))))
    second, claim_of_second = await sink_of(config, tmp_path / "b")
    with pytest.raises(RetryableError, match="is written to by"):
        await second.open()
    await first.close()
    await claim.release()
    for seq in range(10, 20):
        log.append(0, **event(seq))
    await second.open()
    await second.write(Output(log.batch(await second.start_positions(log.bounds))))
    assert await stored(store) == list(range(20))
    await second.close()
    await claim_of_second.release()
    for seq in range(20, 25):
        log.append(0, **event(seq))
    third, claim = await sink_of(config, tmp_path / "a")  # its ledger knows nothing of 10..19
    await third.open()
    await third.write(Output(log.batch(await third.start_positions(log.bounds))))
    assert await stored(store) == list(range(25))
    await third.close()
    await claim.release()


async def test_after_an_insert_in_doubt_the_claim_is_left_to_expire(
    config: ClickHouseConfig, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(3)
    first, claim = await sink_of(config, tmp_path / "a")
    await first.open()
    starts = await first.start_positions(log.bounds)

    async def unknown(*_: object) -> None:
        raise UncertainError("no answer")

    monkeypatch.setattr(claim.store, "insert", unknown)
    with pytest.raises(UncertainError):
        await first.write(Output(log.batch(starts)))
    await first.close()
    await claim.release()
    with pytest.raises(RetryableError, match="is written to by"):
        await Claim(store, tmp_path / "b", 0).hold()


async def test_a_start_is_refused_while_another_pipeline_renews_its_claim(ready: Store, tmp_path: Path) -> None:
    settings = Settings(clickhouse=ready.config)
    first, heard, clock = Claim(ready, tmp_path / "a", 0), list[str](), LookingClock()
    await require_sole_writer(settings, tmp_path / "b", heard.append)
    await first.hold()
    clock.then = lambda: first.hold(within=0.0)
    with pytest.raises(RetryableError, match=f"state directory {tmp_path / 'a'}"):
        await require_sole_writer(settings, tmp_path / "b", heard.append, clock)
    assert len(heard) == 1
    await require_sole_writer(settings, tmp_path / "a", heard.append)
    await first.release()
    await require_sole_writer(settings, tmp_path / "b", heard.append)
    assert len(heard) == 1


async def test_a_start_waits_for_the_end_of_a_dead_ones_claim(ready: Store, tmp_path: Path) -> None:
    await Claim(ready, tmp_path / "a", 0).hold()
    clock = LookingClock()
    clock.then = lambda: age(ready, LIFE_S + 1)
    await require_sole_writer(Settings(clickhouse=ready.config), tmp_path / "b", clock=clock)
    assert clock.looks == 1


async def test_a_start_goes_on_where_nobody_can_tell(config: ClickHouseConfig, tmp_path: Path) -> None:
    absent = config.model_copy(update={"port": free_port()})
    heard, clock = list[str](), LookingClock()
    for nobody in (config, absent):  # no such database, no such server
        await require_sole_writer(Settings(clickhouse=nobody), tmp_path / "b", heard.append, clock)
    assert heard == [] and clock.looks == 0


async def test_ingestion_sends_nothing_while_another_pipeline_holds_the_database(
    ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, declared = Claim(ready, tmp_path / "a", 0), list[Wiring]()

    async def topics(wiring: Wiring) -> None:
        declared.append(wiring)

    monkeypatch.setattr(Wiring, "topics", topics)
    own, other = (Wiring(Settings(clickhouse=ready.config), 0, tmp_path / name) for name in "ab")
    await first.hold()
    await own.alone()
    with pytest.raises(RetryableError, match="is written to by"):
        await other.alone()
    await first.release()
    await other.alone()
    assert declared == [own, other]


class LookingClock(FakeClock):
    """Instead of sleeping it lets something happen."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.then: Callable[[], Awaitable[None]] | None = None

    async def sleep(self, seconds: float) -> None:
        self.looks += 1
        if self.then is not None:
            await self.then()
