"""A store without room: what is said of it, and that it is worth another try."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from config.sections import ClickHouseConfig
from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError, Store


class FullServer:
    """A client whose server has no room; it tells of its disk where `tells`."""

    def __init__(self, *, tells: bool) -> None:
        self.tells = tells

    async def command(self, sql: str, settings: dict[str, Any]) -> None:
        raise _no_room()

    async def raw_insert(self, *args: Any, **more: Any) -> None:
        raise _no_room()

    async def query(self, sql: str) -> SimpleNamespace:
        if not self.tells:
            raise OSError("gone")
        return SimpleNamespace(result_rows=[("/var/lib/clickhouse/", 4096, 62_914_560)])


def _no_room() -> DatabaseError:
    error = DatabaseError("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)")
    error.code = 243
    return error


@pytest.mark.parametrize("verb", ["insert", "command"])
async def test_a_full_store_is_named_with_its_disk_and_tried_again(verb: str) -> None:
    store = Store(ClickHouseConfig(host="10.0.0.1", port=8123))
    store._client = FullServer(tells=True)  # type: ignore[assignment]  # a stand-in of the library's client
    with pytest.raises(RetryableError, match="storage full") as raised:
        if verb == "insert":
            await store.insert("events", pa.record_batch({"a": [1]}), "id-0", "token-0")
        else:
            await store.command("INSERT INTO claims VALUES (1)")
    assert not isinstance(raised.value, RowsRefusedError)
    assert raised.value.dependency == "clickhouse" and raised.value.next_step
    assert str(raised.value) == (
        "storage full: ClickHouse at 10.0.0.1:8123 has no room (code 243):"
        " disk /var/lib/clickhouse/ has 4096 of 62914560 bytes free"
    )


async def test_a_full_store_that_does_not_tell_of_its_disk_is_still_said_to_be_full() -> None:
    store = Store(ClickHouseConfig())
    store._client = FullServer(tells=False)  # type: ignore[assignment]  # a stand-in of the library's client
    with pytest.raises(RetryableError, match=r"storage full.*its free space is unknown"):
        await store.command("INSERT INTO claims VALUES (1)")
