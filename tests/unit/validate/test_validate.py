import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from config.sections import Settings
from config.settings import load, settings_from
from validate import probes
from validate.check import Check, CheckResult, Verdict
from validate.checks import config as config_checks
from validate.checks import infrastructure
from validate.runner import all_checks, run_checks, text_lines, write_report

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[int]:
    """A server on a free port; every conversation has ended before this returns."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, EOFError):
            return
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(answer: bytes, *, after: int = 1) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(after):
            await reader.read(1 << 16)
        writer.write(answer)
        await writer.drain()
        await reader.read(1 << 16)

    return talk


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        continue


KAFKA_ANSWER = b"\x00\x00\x00\x0a\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00"


def settings_at(port: int, **sections: dict[str, Any]) -> Settings:
    return settings_from(
        {
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}", **sections.get("kafka", {})},
            "clickhouse": {"port": port, **sections.get("clickhouse", {})},
            "redis": {"port": port, **sections.get("redis", {})},
            "iqfeed": {"level1_port": port},
            "services": sections.get("services", {"mode": "external"}),
        }
    )


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ask(name: str, settings: Settings, timeout: float = 2.0) -> probes.Answer:
    section = getattr(settings, name)
    answer: probes.Answer = await getattr(probes, f"probe_{name}")(section, timeout)
    return answer


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("kafka", KAFKA_ANSWER),
        ("clickhouse", b"HTTP/1.1 200 OK\r\n\r\n1\n"),
        ("redis", b"+PONG\r\n"),
        ("iqfeed", b""),
    ],
)
async def test_service_that_answers_as_itself_is_there(name: str, answer: bytes) -> None:
    async with serving(saying(answer)) as port:
        found = await ask(name, settings_at(port))
    assert found.ok and found.round_trip_ms is not None and found.address == f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("name", "answer", "detail"),
    [
        ("kafka", b"HTTP/1.1 400 Bad Request\r\n\r\n", "not Kafka"),
        ("clickhouse", b"+PONG\r\n", "not ClickHouse"),
        ("clickhouse", b"HTTP/1.1 403 Forbidden\r\n\r\nCode: 516. AUTHENTICATION_FAILED", "user 'default' is refused"),
        ("clickhouse", b"HTTP/1.1 500 Internal\r\n\r\n", "HTTP 500"),
        ("redis", b"-NOAUTH Authentication required.\r\n", "wants a password"),
        ("redis", b"HTTP/1.1 400\r\n", "not Redis"),
        ("kafka", b"", "ended without an answer"),
    ],
)
async def test_anything_else_at_the_address_is_named(name: str, answer: bytes, detail: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(answer)
        await writer.drain()

    async with serving(talk) as port:
        found = await ask(name, settings_at(port))
    assert not found.ok and detail in found.detail


@pytest.mark.parametrize("name", ["kafka", "clickhouse", "redis", "iqfeed"])
async def test_absence_and_silence_are_told_apart(name: str) -> None:
    assert (await ask(name, settings_at(unused_port()))).detail == "connection refused"
    if name != "iqfeed":
        async with serving(silent) as port:
            assert (await ask(name, settings_at(port), 0.1)).detail == "no answer for 0.1 s"


async def test_redis_password_is_used_and_a_wrong_one_named() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1 << 16))
        writer.write(b"-WRONGPASS invalid\r\n")
        await reader.read(1)

    async with serving(talk) as port:
        found = await ask("redis", settings_at(port, redis={"password": "pw", "username": "me"}))
    assert heard == [b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n"]
    assert not found.ok and found.detail == "the password is refused" and "pw" not in repr(found)


async def test_second_bootstrap_server_counts() -> None:
    async with serving(saying(KAFKA_ANSWER)) as port:
        servers = f"127.0.0.1:{unused_port()},127.0.0.1:{port}"
        found = await ask("kafka", settings_from({"kafka": {"bootstrap_servers": servers}}))
    assert found.ok
    assert (
        await ask("kafka", settings_from({"kafka": {"bootstrap_servers": "nowhere"}}))
    ).detail == "host:port is meant"


async def test_encrypted_port_that_is_not_is_named() -> None:
    assert ssl.HAS_TLSv1_3
    async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        found = await ask("clickhouse", settings_at(port, clickhouse={"secure": True}))
    assert not found.ok and found.detail.startswith("TLS:")


async def test_missing_service_fails_with_the_command_and_the_feed_only_warns() -> None:
    settings = settings_at(unused_port(), services={"mode": "local"})
    validation = await run_checks(settings, infrastructure.checks())
    verdicts = {result.name: result.verdict for result in validation.results}
    assert verdicts == {
        "kafka": Verdict.FAILED,
        "clickhouse": Verdict.FAILED,
        "redis": Verdict.FAILED,
        "iqfeed": Verdict.WARNING,
    }
    assert validation.exit_code == 69
    assert "manage_pipeline.py services up" in validation.failed[0].next_step
    assert validation.failed[0].evidence["setting"] == "kafka.bootstrap_servers"


async def test_embedded_services_are_skipped_not_passed() -> None:
    validation = await run_checks(settings_at(1, services={"mode": "embedded"}), infrastructure.checks()[:3])
    assert {result.verdict for result in validation.results} == {Verdict.SKIPPED}
    assert (validation.exit_code, validation.verdict) == (0, "passed")


async def test_settings_outrank_services_in_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = settings_from(
        {
            "state_dir": str(tmp_path / "file" / "state"),
            "iqfeed": {"port": 5009},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{unused_port()}"},
        }
    ).model_copy(update={"symbols": ()})
    validation = await run_checks(settings, [*config_checks.checks(), *infrastructure.checks()[:1]])
    assert {result.name for result in validation.failed} >= {"state directory", "feed ports", "kafka"}
    assert next(result for result in validation.results if result.name == "symbols").verdict is Verdict.WARNING
    assert validation.exit_code == 78


async def test_check_that_breaks_or_hangs_has_failed_and_hides_no_other() -> None:
    async def broken(_: Settings) -> CheckResult:
        raise RuntimeError("no such luck")

    async def hanging(_: Settings) -> CheckResult:
        await asyncio.Event().wait()
        raise AssertionError

    async def fine(_: Settings) -> CheckResult:
        return CheckResult("fine", Verdict.PASSED, "is")

    checks = [
        Check("broken", "other", broken),
        Check("hanging", "other", hanging, timeout=0.05),
        Check("fine", "other", fine),
    ]
    validation = await run_checks(Settings(), checks)
    assert [result.verdict for result in validation.results] == [Verdict.FAILED, Verdict.FAILED, Verdict.PASSED]
    assert "no such luck" in validation.results[0].message and "0.05 s" in validation.results[1].message
    assert validation.exit_code == 99


async def test_report_and_log_hold_every_result(tmp_path: Path) -> None:
    settings = settings_at(unused_port())
    validation = write_report(await run_checks(settings, infrastructure.checks()), tmp_path / "logs")
    assert validation.report is not None
    assert validation.report.name.startswith("pipeline_validation_report_")
    report = validation.report.read_text()
    assert report.splitlines() == text_lines(validation)
    log = (tmp_path / "logs" / "pipeline_validation.log").read_text()
    for name in ("kafka", "clickhouse", "redis", "iqfeed"):
        assert f"name={name}" in log and name in report
    assert log.count(" ERROR ") == 3


async def test_report_that_cannot_be_written_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    assert write_report(await run_checks(Settings(), []), tmp_path / "logs").report is None


def test_script_reports_and_exits_like_start(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    port = unused_port()
    document = {
        "kafka": {"bootstrap_servers": f"127.0.0.1:{port}"},
        "clickhouse": {"port": port},
        "redis": {"port": port},
        "logging": {"directory": str(tmp_path / "logs")},
    }
    config.write_text(json.dumps(document))
    script = [sys.executable, str(PROJECT_ROOT / "validate_data_pipeline.py"), "--config", str(config)]
    done = subprocess.run([*script, "--state-dir", str(tmp_path / "s")], capture_output=True, text=True, check=False)
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 69
    assert f"report: {tmp_path}/logs/pipeline_validation_report_" in done.stderr
    config.write_text('{"kafka": 5}')
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 78 and f"{config}:1:2: kafka: expected an object" in done.stderr


async def test_an_embedded_redis_without_a_server_to_run_is_found_before_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_from({"services": {"mode": "embedded"}})
    assert (await infrastructure.check_redis(settings)).verdict is Verdict.SKIPPED
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = await infrastructure.check_redis(settings)
    assert result.verdict is Verdict.FAILED
    assert "apt-get install -y redis-server" in result.next_step


WRONG = {
    "redis": b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    "clickhouse": b"HTTP/1.1 403 Forbidden\r\n\r\nCode: 516. DB::Exception: AUTHENTICATION_FAILED",
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_refused_credentials_lead_to_where_they_were_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = {"redis": "Redis", "clickhouse": "ClickHouse"}[name]
    async with serving(saying(WRONG[name])) as port:
        program = {name: {"port": port}, "services": {"mode": "local"}}
        monkeypatch.setenv(f"PIPELINE_{name.upper()}__PASSWORD", "hunter2")
        by_variable = load(program=program)
        checks = [check for check in all_checks(by_variable.origins) if check.name == name]
        (result,) = (await run_checks(by_variable.settings, checks)).results
        assert result.verdict is Verdict.FAILED
        assert result.message.startswith(f"{spoken} at 127.0.0.1:{port} refuses the credentials (")
        assert result.next_step == f"correct {name}.password (environment PIPELINE_{name.upper()}__PASSWORD)"
        assert "hunter2" not in repr(result)

        monkeypatch.delenv(f"PIPELINE_{name.upper()}__PASSWORD")
        custom = tmp_path / "c.json"
        custom.write_text(f'{{\n "{name}": {{\n  "password": "hunter2"}}}}')
        custom.chmod(0o600)
        by_file = load(config=custom, program=program)
        checks = [check for check in all_checks(by_file.origins) if check.name == name]
        (result,) = (await run_checks(by_file.settings, checks)).results
        assert result.next_step == f"correct {name}.password (project file {custom}:3:3)"

        unknown = [check for check in all_checks() if check.name == name]
        (result,) = (await run_checks(by_file.settings, unknown)).results
        assert result.next_step == "manage_pipeline.py config show --origin"


async def test_a_password_that_is_wanted_and_not_set_is_asked_for() -> None:
    async with serving(saying(b"-NOAUTH Authentication required.\r\n")) as port:
        loaded = load(program={"redis": {"port": port}, "services": {"mode": "local"}})
        checks = [check for check in all_checks(loaded.origins) if check.name == "redis"]
        (result,) = (await run_checks(loaded.settings, checks)).results
    assert result.message.endswith("refuses the credentials (it wants a password, none is set)")
    assert result.next_step == "set PIPELINE_REDIS__PASSWORD or redis.password_file"


async def test_a_redis_that_still_loads_does_not_refuse_the_password() -> None:
    async with serving(saying(b"-LOADING Redis is loading the dataset in memory\r\n")) as port:
        found = await ask("redis", settings_at(port, redis={"password": "pw"}))
    assert not found.ok and not found.refused and found.detail == "it answers LOADING"


async def test_the_disk_is_judged_by_the_quota_of_all_ingestion_instances(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    given = {"state_dir": str(tmp_path), "spool": {"quota_bytes": free * 2 // 3}}
    one = await config_checks.check_space(settings_from({**given, "ingestion": {"instances": 1}}))
    two = await config_checks.check_space(settings_from({**given, "ingestion": {"instances": 2}}))
    assert (one.verdict, two.verdict) == (Verdict.PASSED, Verdict.WARNING)
    assert two.evidence["spool_quota_bytes"] == 2 * (free * 2 // 3)
    assert "ingestion.instances" in two.next_step
