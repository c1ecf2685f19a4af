"""Migrations are applied once, in order, and a store that other code made is refused."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from config.sections import ClickHouseConfig
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import TOPICS, arrow_schema
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.migrate import MIGRATIONS, Migration, load, migrate, missing
from pipeline_orchestrator.storage.tables import TABLES, column_name


async def test_every_table_and_view_is_there_after_a_migration_and_a_second_does_nothing(store: Store) -> None:
    applied = await migrate(store)
    assert applied == [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]
    assert await migrate(store) == []
    rows = await store.query(
        "SELECT name FROM system.tables WHERE database = {database:String} ORDER BY name", {"database": store.database}
    )
    assert [row[0] for row in rows] == [
        "bars",
        "bars_latest",
        "books",
        "canaries",
        "claims",
        "dlq",
        "events",
        "features",
        "gaps",
        "gaps_latest",
        "schema_migrations",
    ]


async def test_each_topic_has_its_columns_in_its_table(store: Store) -> None:
    await migrate(store)
    for topic in TOPICS:
        rows = await store.query(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}",
            {"database": store.database, "table": TABLES[topic].table},
        )
        expected = {column_name(name) for name in arrow_schema(topic).names} | {"k_log", "k_part", "k_off", "k_idx"}
        assert expected <= {row[0] for row in rows}


async def test_prices_are_shown_to_people_as_decimals(store: Store) -> None:
    await migrate(store)
    await store.command(
        f"INSERT INTO {store.table('books')} (src_instance, symbol, recv_time, bid_prices, k_log) VALUES"
        " (0, 'A', now64(6), [1000001, -2500000], 'l')"
    )
    await store.command(
        f"INSERT INTO {store.table('bars')} (symbol, interval, open_time, open, revision) VALUES"
        " ('A', '1s', '2025-01-01 00:00:00', 100, 0), ('A', '1s', '2025-01-01 00:00:00', 250000, 1)"
    )
    assert await store.query(f"SELECT toString(bid_prices_decimal) FROM {store.table('books')}") == [
        ("[1.000001,-2.5]",)
    ]
    assert await store.query(f"SELECT toString(open_decimal), revision FROM {store.table('bars_latest')}") == [
        ("0.25", 1)
    ]


async def test_bars_of_an_older_store_are_in_no_known_session(store: Store, tmp_path: Path) -> None:
    for path in MIGRATIONS.glob("000[1-8]_*.sql"):
        shutil.copy(path, tmp_path)
    await migrate(store, tmp_path)
    insert = f"INSERT INTO {store.table('bars')} (symbol, interval, open_time, open, revision"
    await store.command(f"{insert}) VALUES ('A', '1s', '2025-01-01 00:00:00', 100, 0)")
    await migrate(store)
    await store.command(f"{insert}, session) VALUES ('A', '1s', '2025-01-01 00:00:01', 100, 0, 'open')")
    query = f"SELECT session, toString(open_decimal) FROM {store.table('bars_latest')} ORDER BY open_time"
    assert await store.query(query) == [("unknown", "0.0001"), ("open", "0.0001")]


async def test_migrators_at_the_same_time_do_no_harm(config: ClickHouseConfig) -> None:
    stores = [Store(config) for _ in range(3)]
    for store in stores:
        await store.connect()
    await asyncio.gather(*(migrate(store) for store in stores))
    assert await migrate(stores[0]) == []
    for store in stores:
        await store.release()


async def test_ttl_follows_the_setting(store: Store) -> None:
    await migrate(store)

    async def definition() -> str:
        query = f"SELECT create_table_query FROM system.tables WHERE database = '{store.database}' AND name = 'events'"
        return str((await store.query(query))[0][0])

    assert "TTL" not in await definition()
    for days in (30, 7):
        store.config = store.config.model_copy(update={"ttl_days": days})
        await migrate(store)
        assert f"TTL toDateTime(sort_time) + toIntervalDay({days})" in await definition()
    store.config = store.config.model_copy(update={"ttl_days": 0})
    await migrate(store)
    assert "TTL" not in await definition()


async def test_a_changed_file_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text(
        "CREATE TABLE IF NOT EXISTS {database}.a (x Int64) ENGINE = MergeTree ORDER BY x;\n"
    )
    assert await migrate(store, tmp_path) == ["0001_a"]
    (tmp_path / "0001_a.sql").write_text(
        "CREATE TABLE IF NOT EXISTS {database}.a (y Int64) ENGINE = MergeTree ORDER BY y;\n"
    )
    with pytest.raises(PermanentError, match=r"0001_a\.sql changed after it was applied"):
        await migrate(store, tmp_path)


def test_a_store_of_a_newer_version_is_refused() -> None:
    known = [Migration(1, "a", "SELECT 1;")]
    assert missing(known, {}) == known
    assert missing(known, {1: {known[0].checksum}}) == []
    with pytest.raises(PermanentError, match="migration 0002, which this version does not know"):
        missing(known, {1: {known[0].checksum}, 2: {"x"}})


def test_names_and_numbers_of_files_are_checked(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("-- only a comment\n")
    (tmp_path / "0001_b.sql").write_text("SELECT 1;\n-- comment\nSELECT ';', 2;\n")
    with pytest.raises(PermanentError, match="same number"):
        load(tmp_path)
    (tmp_path / "0001_a.sql").unlink()
    assert load(tmp_path)[0].statements("db") == ["SELECT 1", "-- comment\nSELECT ';', 2"]
    (tmp_path / "first.sql").write_text("SELECT 1;")
    with pytest.raises(PermanentError, match="not NNNN_name"):
        load(tmp_path)
