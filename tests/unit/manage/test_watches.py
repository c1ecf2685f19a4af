import asyncio
import json
import socket
from pathlib import Path

import pytest

from config.settings import settings_from
from manage.budget_watch import BudgetWatch, Growth, budget_of, size_of
from manage.composition import SIMULATOR, effective_settings, simulator_spec
from manage.daemon import Request
from manage.service_watch import ServiceWatch, feed_status, judged
from pipeline_orchestrator.status import Budget, ComponentStatus, PipelineSnapshot, ServiceStatus
from pipeline_orchestrator.volume import Volume
from validate.probes import Answer

FEED = {
    "level1": "127.0.0.1:5009", "level2": "127.0.0.1:9200", "lookup": "127.0.0.1:9100", "admin": "127.0.0.1:9300",
}  # fmt: skip


class Board:
    def __init__(self, snapshot: PipelineSnapshot | None = None) -> None:
        self.services: dict[str, ServiceStatus] = {}
        self.budgets: dict[str, Budget] = {}
        self.shown = snapshot or PipelineSnapshot("now", "running")

    def report_service(self, name: str, status: ServiceStatus) -> None:
        self.services[name] = status

    def report_budget(self, name: str, budget: Budget) -> None:
        self.budgets[name] = budget

    def snapshot(self) -> PipelineSnapshot:
        return self.shown


def ingestion(**gauges: object) -> PipelineSnapshot:
    component = ComponentStatus("ingestion/0", "stage", "running", "now", gauges=gauges)
    return PipelineSnapshot("now", "running", components={"ingestion/0": component})


def test_answers_become_states() -> None:
    assert judged(Answer("kafka", "a:1", True, 3.0), "local").state == "ok"
    assert judged(Answer("kafka", "a:1", True, 900.0), "local").state == "slow"
    gone = judged(Answer("kafka", "a:1", False, None, "connection refused"), "local")
    assert (gone.state, gone.round_trip_ms, gone.detail) == ("unreachable", None, "connection refused")


def test_feed_is_what_its_connections_say() -> None:
    settings = settings_from({})
    assert feed_status(settings, ingestion()).state == "unknown"
    up = ingestion(**{"feed_connected{connection=level1}": 1, "feed_connected{connection=level2}": 1})
    assert feed_status(settings, up).state == "ok"
    half = ingestion(**{"feed_connected{connection=level1}": 1, "feed_connected{connection=level2}": 0})
    assert feed_status(settings, half) == ServiceStatus(
        "unreachable", "external", "127.0.0.1:5009", None, 0.0, "1 of 2 connections up", FEED
    )


def test_the_feed_is_told_with_all_its_ports_whatever_else_is_unknown_of_it() -> None:
    settings = settings_from({"iqfeed": {"level1_port": 7, "lookup_port": 8, "level1": False}})
    told = feed_status(settings, PipelineSnapshot("now", "starting"))
    assert (told.state, told.address) == ("unknown", "127.0.0.1:9200")
    assert told.addresses == {
        "level1": "127.0.0.1:7", "level2": "127.0.0.1:9200", "lookup": "127.0.0.1:8", "admin": "127.0.0.1:9300",
    }  # fmt: skip


async def test_where_the_feed_listens_is_told_before_any_service_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    board, asked = Board(), asyncio.Event()

    async def silent(_: ServiceWatch) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ServiceWatch, "look", silent)
    watch = asyncio.create_task(ServiceWatch(settings_from({}), board).run())
    async with asyncio.timeout(20):
        await asked.wait()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert board.services["iqfeed"].addresses == FEED


def test_symbols_that_the_feed_does_not_serve_are_told_with_its_state() -> None:
    refused, quiet = "level1: 1 of 3 symbols refused: 1 unknown: NOPE", "level2: 1 of 3 symbols without depth now: IBM"
    snapshot = ingestion(
        **{
            "feed_connected{connection=level1}": 1,
            "feed_refused_symbols{connection=level1,part=reader}": refused,
            "feed_refused_symbols{connection=level2,part=reader}": None,
            "feed_without_depth_symbols{connection=level2,part=reader}": quiet,
        }
    )
    found = feed_status(settings_from({}), snapshot)
    assert (found.state, found.detail) == ("ok", f"1 of 1 connections up; {refused}; {quiet}")


async def test_every_service_is_asked_each_round() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        settings = settings_from(
            {
                "kafka": {"bootstrap_servers": f"127.0.0.1:{port}"},
                "clickhouse": {"port": port},
                "redis": {"port": port},
                "services": {"mode": "local"},
            }
        )
        board = Board()
        await ServiceWatch(settings, board).look()
    states = {name: status.state for name, status in board.services.items()}
    assert states == {"kafka": "unreachable", "clickhouse": "unreachable", "redis": "unreachable", "iqfeed": "unknown"}
    assert board.services["redis"].detail == "connection refused"


def growth(*samples: tuple[float, int]) -> tuple[float, float] | None:
    watched = Growth()
    for at, used in samples:
        watched.add(at, used)
    return watched.seen()


def test_growth_needs_a_minute_and_reaches_a_day_after_a_quarter_of_an_hour() -> None:
    assert growth((0.0, 1000)) is None
    assert growth((0.0, 1000), (30.0, 1500)) is None, "half a minute tells nothing"
    short = growth((0.0, 1000), (30.0, 1500), (100.0, 2000))
    assert short == (10.0, 100.0)
    assert budget_of(2000, 12_000, short) == Budget(2000, 12_000, None, 1000.0), "a thousand seconds ahead, no day"
    assert budget_of(2000, 12_000_000, short).seconds_to_full is None, "further than 100 s can tell"
    long = growth((0.0, 1000), (1000.0, 11_000))
    assert budget_of(11_000, 12_000, long) == Budget(11_000, 12_000, 10.0 * 86_400, 100.0)
    assert budget_of(11_000, None, long).seconds_to_full is None
    assert budget_of(5, 12_000, growth((0.0, 5), (1000.0, 5))) == Budget(5, 12_000, 0.0, None)


def test_use_that_shrinks_has_no_rate() -> None:
    shrunk = growth((0.0, 400 << 30), (1000.0, 396 << 30))
    assert shrunk is None
    assert budget_of(396 << 30, 500 << 30, shrunk) == Budget(396 << 30, 500 << 30, None, None)


def test_budgets_measure_what_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "spool" / "0").mkdir(parents=True)
    (tmp_path / "spool" / "0" / "1.seg").write_bytes(b"x" * 1000)
    (tmp_path / "spool" / "link").symlink_to("/")
    settings = settings_from({"services": {"mode": "embedded"}})
    found = BudgetWatch(settings, tmp_path, tmp_path / "logs", Board()).measure()
    assert set(found) == {"spool", "snapshots", "logs", "clickhouse", "disk"}
    assert 1000 <= (found["spool"].used_bytes or 0) < 1100
    assert found["spool"].limit_bytes == settings.spool.quota_bytes
    assert found["snapshots"].used_bytes == 0
    for budget in found.values():
        lies_on = Volume.of(tmp_path)
        assert budget.volume == str(lies_on.mount)
        assert 0 < (budget.free_bytes or 0) <= lies_on.total_bytes
    assert size_of(tmp_path / "none") == 0


def test_the_limit_of_the_spool_is_that_of_all_instances(tmp_path: Path) -> None:
    settings = settings_from({"ingestion": {"instances": 3}, "spool": {"quota_bytes": 1 << 20}})
    assert BudgetWatch(settings, tmp_path, tmp_path / "logs", Board()).measure()["spool"].limit_bytes == 3 << 20


def test_a_removed_instance_whose_spool_is_still_needed_has_its_share_of_the_limit(tmp_path: Path) -> None:
    (tmp_path / "spool" / "1").mkdir(parents=True)
    (tmp_path / "spool" / "1" / "000000000001.seg").write_bytes(b"x")
    settings = settings_from({"ingestion": {"instances": 1}, "spool": {"quota_bytes": 1 << 20}})
    assert BudgetWatch(settings, tmp_path, tmp_path / "logs", Board()).measure()["spool"].limit_bytes == 2 << 20


@pytest.mark.parametrize(("assign", "hold"), [([["A"], ["B"], []], 4), ([["A", "B"], [], []], 2)])
def test_a_replay_begins_when_every_reader_with_symbols_watches_on_both_ports(
    assign: list[list[str]], hold: int
) -> None:
    settings = settings_from({"symbols": ["A", "B"], "ingestion": {"instances": 3, "assign": assign}})
    spec = simulator_spec(settings, {"replay": ["A_2012-06-21_message_5.csv"]}, ["ingestion/0", "ingestion/1"])
    assert json.loads(spec.config)["hold"] == hold and spec.depends_on == ("ingestion/0", "ingestion/1")


def test_embedded_services_get_addresses_and_a_log_of_their_own(tmp_path: Path) -> None:
    wished = settings_from({"services": {"mode": "embedded"}, "redis": {"password": "x"}})
    first = effective_settings(Request(wished, tmp_path, options={"simulate": {}}))
    second = effective_settings(Request(wished, tmp_path))
    assert first.kafka.bootstrap_servers != wished.kafka.bootstrap_servers
    assert first.kafka.log_id.startswith("embedded-") and first.kafka.log_id != second.kafka.log_id
    assert first.redis.password.get_secret_value() == ""
    assert first.iqfeed.level1_port != 5009 and second.iqfeed.level1_port == 5009
    assert first.iqfeed.lookup_port != 9100 and second.iqfeed.lookup_port == 9100
    assert first.state_dir == str(tmp_path)


def test_local_services_keep_their_addresses_under_a_simulated_feed(tmp_path: Path) -> None:
    wished = settings_from({"services": {"mode": "local"}})
    made = effective_settings(Request(wished, tmp_path, options={"simulate": {"rate": 5}}))
    assert (made.kafka, made.clickhouse, made.redis) == (wished.kafka, wished.clickhouse, wished.redis)


def test_a_simulated_feed_trades_at_any_hour(tmp_path: Path) -> None:
    wished = settings_from({"market": {"calendar": "CME"}})
    assert effective_settings(Request(wished, tmp_path, options={"simulate": {}})).market.calendar == "24x7"
    assert effective_settings(Request(wished, tmp_path)).market.calendar == "CME"


def test_simulator_stops_before_the_stages_it_feeds() -> None:
    settings = settings_from({"symbols": ["AAPL"]})
    spec = simulator_spec(settings, {"rate": 50.0, "speed": None}, ["kafka/0", "ingestion/0", "storage/0"])
    assert (spec.id, spec.depends_on) == (SIMULATOR, ("ingestion/0",))
    assert json.loads(spec.config)["lookup_port"] == settings.iqfeed.lookup_port == 9100
    assert '"rate": 50.0' in spec.config and "speed" not in spec.config and '"AAPL"' in spec.config


async def test_watch_ends_when_cancelled() -> None:
    watch = asyncio.create_task(ServiceWatch(settings_from({}), Board()).run())
    await asyncio.sleep(0)
    watch.cancel()
    assert (await asyncio.gather(watch, return_exceptions=True))[0].__class__ is asyncio.CancelledError
