"""The embedded ClickHouse answers as a server does: to curl, to the ordinary client, to KILL, to a second owner."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]  # ships no stubs
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError

from infrastructure.services import embedded_clickhouse_sql as sqltext
from infrastructure.services.embedded_clickhouse_sql import Kind
from tests.doubles.embedded import ROOT, EmbeddedClickHouseProcess, free_port
from tests.doubles.small_disk import BindMount, SmallDisk, why_no_mounts


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouseProcess]:
    pytest.importorskip("chdb", reason="the embedded engine needs the extra `demo`")
    service = EmbeddedClickHouseProcess(tmp_path_factory.mktemp("engine") / "data")
    service.start()
    service.sql("CREATE DATABASE m")
    yield service
    assert service.stop() == 0


@pytest.fixture
async def client(service: EmbeddedClickHouseProcess) -> AsyncIterator[Any]:
    client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=service.port)
    yield client
    await client.close()


def get(service: EmbeddedClickHouseProcess, path: str = "/", **query: str) -> str:
    url = f"http://127.0.0.1:{service.port}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body.decode()


def refused(service: EmbeddedClickHouseProcess, **query: str) -> tuple[int, str, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(service, **query)
    with caught.value as error:
        return error.code, error.headers["X-ClickHouse-Exception-Code"], error.read().decode()


def post(service: EmbeddedClickHouseProcess, body: bytes, headers: dict[str, str] | None = None, **query: str) -> str:
    url = f"http://127.0.0.1:{service.port}/?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=20) as answer:
        text: bytes = answer.read()
    return text.decode()


def test_a_url_in_a_browser_bar_is_answered_in_tab_separated_form(service: EmbeddedClickHouseProcess) -> None:
    assert get(service, "/ping") == "Ok.\n"
    assert get(service) == "Ok.\n"
    assert get(service, query="SELECT 1, 'a\tb', NULL") == "1\ta\\tb\t\\N\n"
    assert get(service, query="SELECT number FROM numbers(3)", default_format="JSONEachRow").count("\n") == 3
    assert json.loads(get(service, query="SELECT 1 AS one FORMAT JSON"))["data"] == [{"one": 1}]
    assert get(service, query="SELECT {x:UInt32} + 1, {s:String}", param_x="41", param_s="it's") == "42\tit\\'s\n"
    assert get(service, query="SELECT currentDatabase()", database="m") == "m\n"
    assert get(service, query="SELECT getSetting('max_threads')", max_threads="1") == "1\n"
    assert get(service, query="SELECT getSetting('max_threads')") == "2\n"


def test_errors_carry_the_engines_code_and_text(service: EmbeddedClickHouseProcess) -> None:
    assert refused(service, query="SELECT * FROM m.absent")[:2] == (404, "60")
    assert refused(service, query="SELECT 1 +")[:2] == (400, "62")
    assert refused(service, query="SELECT 1", max_treads="1")[:2] == (400, "115")
    assert refused(service, query="DROP DATABASE m")[1] == "164"  # GET changes nothing
    assert refused(service, query="SELECT 1", database="absent")[1] == "81"
    status, code, text = refused(service, query="SELECT throwIf(number = 3) FROM numbers(10)")
    assert (status, code) == (500, "395") and text.startswith("Code: 395. DB::Exception")


def test_pages_in_a_browser_and_foreign_host_names_are_refused(service: EmbeddedClickHouseProcess) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(service, b"SELECT 1", headers)
        assert caught.value.code == 403
        caught.value.close()


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "zstd", "lz4"])
def test_data_may_stand_in_the_body_compressed_or_not(service: EmbeddedClickHouseProcess, encoding: str) -> None:
    service.sql("CREATE OR REPLACE TABLE m.bodies (a Int64, b String) ENGINE = MergeTree ORDER BY a")
    data = b"1\tx\n2\ty\n"
    packed = {
        "": lambda: data,
        "gzip": lambda: gzip.compress(data),
        "deflate": lambda: zlib.compress(data),
        "zstd": lambda: zstandard.compress(data),
        "lz4": lambda: bytes(lz4.frame.compress(data)),
    }[encoding]()
    post(service, packed, {"Content-Encoding": encoding} if encoding else {}, query="INSERT INTO m.bodies FORMAT TSV")
    post(service, b"INSERT INTO m.bodies FORMAT TSV\n3\tz\n")
    post(service, b"INSERT INTO m.bodies VALUES (4, 'v'), (5, 'w')")
    post(service, b"INSERT INTO m.bodies SELECT a + 5, b FROM m.bodies")
    assert service.sql("SELECT groupArray(a) FROM (SELECT a FROM m.bodies ORDER BY a)") == "[1,2,3,4,5,6,7,8,9,10]"


def test_a_large_result_comes_whole_and_in_order(service: EmbeddedClickHouseProcess) -> None:
    found = get(service, query="SELECT number FROM numbers(2000000)")
    assert found == "".join(f"{number}\n" for number in range(2_000_000))


async def test_the_ordinary_client_inserts_and_reads(client: Any) -> None:
    await client.command("CREATE OR REPLACE TABLE m.c (a Int64, s Nullable(String)) ENGINE = MergeTree ORDER BY a")
    await client.insert("m.c", [[1, "x"], [2, None]], column_names=["a", "s"])
    summary = await client.insert_arrow("m.c", pa.table({"a": [3, 4], "s": ["y", "z"]}))
    assert summary.written_rows == 2
    found = await client.query("SELECT a, s FROM m.c WHERE a < {top:Int64} ORDER BY a", parameters={"top": 4})
    assert found.result_rows == [(1, "x"), (2, None), (3, "y")]
    assert (await client.query_arrow("SELECT count() AS n FROM m.c")).to_pylist() == [{"n": 4}]
    with pytest.raises(DatabaseError) as caught:
        await client.query("SELECT * FROM m.absent")
    assert caught.value.code == 60


def test_a_running_query_is_killed_by_its_clients_id(service: EmbeddedClickHouseProcess) -> None:
    outcome: list[tuple[int, str, str]] = []
    slow = threading.Thread(
        target=lambda: outcome.append(
            refused(
                service, query="SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(number)", query_id="slow-1"
            )
        )
    )
    slow.start()
    deadline = 200
    while service.sql("SELECT count() FROM system.processes WHERE query_id = 'slow-1'") == "0" and deadline:
        deadline -= 1
    service.sql("KILL QUERY WHERE query_id IN ('slow-1') SYNC")
    assert service.sql("SELECT count() FROM system.processes WHERE query_id = 'slow-1'") == "0"
    slow.join(20)
    assert outcome[0][1] == "394"


def test_an_id_that_was_killed_never_runs_later(service: EmbeddedClickHouseProcess) -> None:
    service.sql("CREATE OR REPLACE TABLE m.late (a Int64) ENGINE = MergeTree ORDER BY a")
    service.sql("KILL QUERY WHERE query_id = 'late-1' SYNC")
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(service, b"1\n", query="INSERT INTO m.late FORMAT TSV", query_id="late-1")
    assert caught.value.headers["X-ClickHouse-Exception-Code"] == "394"
    caught.value.close()
    assert service.sql("SELECT count() FROM m.late") == "0"


def test_a_long_read_does_not_hold_up_a_short_one(service: EmbeddedClickHouseProcess) -> None:
    outcome: list[tuple[int, str, str]] = []
    slow = threading.Thread(
        target=lambda: outcome.append(
            refused(
                service, query="SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(number)", query_id="slow-2"
            )
        )
    )
    slow.start()
    assert service.sql("SELECT 1") == "1"
    while service.sql("SELECT count() FROM system.processes WHERE query_id = 'slow-2'") == "0":
        assert slow.is_alive()
    service.sql("KILL QUERY WHERE query_id = 'slow-2' SYNC")
    slow.join(20)
    assert not slow.is_alive()


def test_a_second_owner_of_the_directory_names_the_first_and_exits_75(service: EmbeddedClickHouseProcess) -> None:
    assert service.process is not None
    command = [sys.executable, "-m", "infrastructure.services.embedded_clickhouse", "--port", str(free_port())]
    second = subprocess.run(
        [*command, "--data", str(service.directory)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 75
    assert f"data directory in use by pid {service.process.pid} (" in second.stderr
    assert service.sql("SELECT 1") == "1"


def test_what_was_acknowledged_survives_kill_9_and_leftover_files_are_swept(tmp_path: Path) -> None:
    pytest.importorskip("chdb", reason="the embedded engine needs the extra `demo`")
    service = EmbeddedClickHouseProcess(tmp_path / "data")
    service.start()
    try:
        service.sql("CREATE DATABASE m")
        service.sql("CREATE TABLE m.t (a Int64) ENGINE = MergeTree ORDER BY a")
        for number in range(20):
            service.sql(f"INSERT INTO m.t VALUES ({number})")
        service.kill()
        (tmp_path / "data" / "tmp" / "left.native").write_bytes(b"x")
        service.start()
        assert service.sql("SELECT count(), sum(a) FROM m.t") == "20\t190"
        assert not (tmp_path / "data" / "tmp" / "left.native").exists()
    finally:
        assert service.stop() == 0


def test_it_refuses_to_listen_beyond_loopback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infrastructure.services.embedded_clickhouse", "--port", "1", "--data"]
    done = subprocess.run(
        [*command, str(tmp_path), "--host", "0.0.0.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "loopback only" in done.stderr


def test_sigint_ends_it_like_sigterm(tmp_path: Path) -> None:
    pytest.importorskip("chdb", reason="the embedded engine needs the extra `demo`")
    service = EmbeddedClickHouseProcess(tmp_path / "data")
    service.start()
    assert service.process is not None
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(15) == 0


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        (b"/* c */ SELECT 1", Kind.READ),
        (b"-- c\nwith x as (select 1) select * from x", Kind.READ),
        (b"(SELECT 1) UNION ALL (SELECT 2)", Kind.READ),
        (b"insert into t values (1)", Kind.INSERT),
        (b"KILL QUERY WHERE query_id = 'a'", Kind.KILL),
        (b"SET a = 1", Kind.SESSION),
        (b"CREATE TABLE t (a Int64)", Kind.WRITE),
        (b"", Kind.WRITE),
    ],
)
def test_the_first_keyword_decides_the_lane(sql: bytes, kind: Kind) -> None:
    assert sqltext.kind_of(sql) is kind


@pytest.mark.parametrize(
    ("sql", "head", "format_", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t ", "CSV", b"1,2\n"),
        (
            b"INSERT INTO t (`FORMAT`) SETTINGS x=1 FORMAT A\r\n\xff",
            "INSERT INTO t (`FORMAT`) SETTINGS x=1 ",
            "A",
            b"\xff",
        ),
        (b"INSERT INTO t FORMAT TSV 5", "INSERT INTO t ", "TSV", b"5"),
        (b"INSERT INTO FUNCTION file('FORMAT x') FORMAT CSV\n", "INSERT INTO FUNCTION file('FORMAT x') ", "CSV", b""),
    ],
)
def test_an_insert_is_split_at_its_data(sql: bytes, head: str, format_: str, data: bytes) -> None:
    found = sqltext.split_insert(sql)
    assert found is not None
    assert (found.head, found.format, sql[found.data_at :]) == (head, format_, data)


@pytest.mark.parametrize(
    "sql", [b"INSERT INTO t VALUES (1)", b"INSERT INTO t SELECT 1 FORMAT CSV", b"INSERT INTO t FORMAT"]
)
def test_an_insert_without_data_behind_a_format_is_left_whole(sql: bytes) -> None:
    assert sqltext.split_insert(sql) is None


def test_only_the_table_of_processes_is_shown_with_client_ids() -> None:
    shown = sqltext.show_client_ids("SELECT 'system.processes', x.system.processes FROM `system`.processes p")
    assert shown.startswith("SELECT 'system.processes', x.system.processes FROM (SELECT")
    assert shown.endswith("FROM system.processes) p")
    assert sqltext.translate_ids("KILL QUERY WHERE query_id IN ('a''b', 'c')", {"a'b": "e\\1"}) == (
        "KILL QUERY WHERE query_id IN ('e\\\\1', 'c')"
    )


@pytest.mark.slow
def test_an_insert_that_a_full_disk_swallowed_is_refused_and_reads_go_on(tmp_path: Path) -> None:
    """chDB answers such an insert as if it had been written."""
    if why := why_no_mounts():
        pytest.skip(why)
    with SmallDisk(tmp_path / "data", 64 << 20) as disk:
        small = EmbeddedClickHouseProcess(disk.path)
        small.start()
        try:
            small.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
            post(small, b"1\n2\n", query="INSERT INTO t FORMAT TabSeparated")
            for number in range(2):
                disk.fill()
                with pytest.raises(urllib.error.HTTPError) as caught:
                    post(small, b"3\n4\n", query="INSERT INTO t FORMAT TabSeparated")
                with caught.value as error:
                    assert error.headers["X-ClickHouse-Exception-Code"] == "243"
                    assert b"NOT_ENOUGH_SPACE" in error.read()
                assert small.sql("SELECT sum(a) FROM t") == str(3 + 10 * number)
                disk.clear()
                post(small, b"10\n", query="INSERT INTO t FORMAT TabSeparated")
                assert small.sql("SELECT sum(a) FROM t") == str(13 + 10 * number)
        finally:
            assert small.stop() == 0


@pytest.mark.slow
def test_an_insert_into_a_read_only_directory_names_it_and_lands_once_it_is_writable(tmp_path: Path) -> None:
    if why := why_no_mounts():
        pytest.skip(why)
    with BindMount(tmp_path / "data" / "store") as parts:
        engine = EmbeddedClickHouseProcess(tmp_path / "data")
        engine.start()
        try:
            engine.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
            parts.read_only()
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(engine, b"3\n4\n", query="INSERT INTO t FORMAT TabSeparated")
            with caught.value as error:
                text = error.read().decode()
                assert "Read-only file system" in text and str(parts.path) in text, text
                assert "BAD_ARGUMENTS" not in text
            assert engine.sql("SELECT count() FROM t") == "0"
            parts.writable()
            post(engine, b"3\n4\n", query="INSERT INTO t FORMAT TabSeparated")
            assert engine.sql("SELECT sum(a) FROM t") == "7"
        finally:
            assert engine.stop() == 0
