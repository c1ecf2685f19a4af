"""Numbered migrations: `infrastructure/clickhouse/NNNN_name.sql`, applied once, in order, checksums recorded.

Statements end with `;` at a line's end; `{database}` is the configured name. All of them are idempotent, so two
migrators at once, or one killed half way, do no harm. A recorded migration whose file changed, or that no file
explains, is refused: the store was made by other code.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.tables import TABLES

MIGRATIONS = PROJECT_ROOT / "infrastructure" / "clickhouse"
_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_TTL = re.compile(r"TTL toDateTime\(sort_time\) \+ (?:toIntervalDay\((\d+)\)|INTERVAL (\d+) DAY)")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text and the SHA-256 of the text."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, before names are filled in."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def statements(self, database: str) -> list[str]:
        """The statements with the database's name filled in, comments kept."""
        filled = self.text.replace("{database}", f"`{database}`")
        return [part.strip() for part in re.split(r";[ \t]*$", filled, flags=re.MULTILINE) if _has_code(part)]


def _has_code(text: str) -> bool:
    return any(line.strip() and not line.strip().startswith("--") for line in text.splitlines())


def load(directory: Path = MIGRATIONS) -> list[Migration]:
    """The migrations of a directory in order. Raises PermanentError for a number used twice."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise PermanentError(f"cannot use migration {path}: its name is not NNNN_name.sql")
        found.append(Migration(int(match.group(1)), match.group(2), path.read_text(encoding="utf-8")))
    if len({migration.version for migration in found}) != len(found):
        raise PermanentError(f"two migrations in {directory} carry the same number")
    return found


def missing(migrations: list[Migration], applied: dict[int, set[str]]) -> list[Migration]:
    """Those not applied yet. Raises PermanentError on drift: a changed file, or one that is unknown here."""
    known = {migration.version: migration for migration in migrations}
    for version, checksums in sorted(applied.items()):
        if version not in known:
            raise PermanentError(
                f"the store has migration {version:04d}, which this version does not know",
                next_step="run the version that made the store, or point clickhouse.database to another one",
            )
        if checksums != {known[version].checksum}:
            raise PermanentError(
                f"migration {version:04d}_{known[version].name}.sql changed after it was applied",
                next_step="restore the file; changes to the tables go into a new migration",
            )
    return [migration for migration in migrations if migration.version not in applied]


async def migrate(store: Store, directory: Path = MIGRATIONS) -> list[str]:
    """Bring the store up to date and set the TTL; returns the names of what was applied now.

    Raises PermanentError on drift, otherwise what `Store.query` raises.
    """
    database = f"`{store.database}`"
    await store.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    await store.command(
        f"CREATE TABLE IF NOT EXISTS {database}.schema_migrations (version UInt32, name String, checksum String,"
        " applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY version"
    )
    rows = await store.query(
        f"SELECT version, groupUniqArray(checksum) FROM {database}.schema_migrations GROUP BY version"
    )
    applied = {int(version): set(checksums) for version, checksums in rows}
    done = []
    for migration in missing(load(directory), applied):
        for statement in migration.statements(store.database):
            await store.command(statement)
        await store.command(
            f"INSERT INTO {database}.schema_migrations (version, name, checksum)"
            f" VALUES ({migration.version}, '{migration.name}', '{migration.checksum}')",
            {"async_insert": 0},
        )
        done.append(f"{migration.version:04d}_{migration.name}")
    await set_ttl(store, store.config.ttl_days)
    return done


async def set_ttl(store: Store, days: int) -> None:
    """Make every table keep rows for `days` days after their sort time; 0 = for ever. Changes only what differs."""
    names = ", ".join(f"'{spec.table}'" for spec in TABLES.values())
    rows = await store.query(
        "SELECT name, create_table_query FROM system.tables"
        f" WHERE database = {{database:String}} AND name IN ({names})",
        {"database": store.database},
    )
    for name, definition in rows:
        match = _TTL.search(definition)
        found = int(match.group(1) or match.group(2)) if match else 0
        if found == days:
            continue
        change = f"MODIFY TTL toDateTime(sort_time) + toIntervalDay({days})" if days else "REMOVE TTL"
        await store.command(f"ALTER TABLE {store.table(name)} {change}")
