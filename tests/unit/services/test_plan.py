"""From settings to commands: loopback only, secrets out of argv, Kafka as one quick durable node."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from config.sections import ClickHouseConfig, KafkaConfig, RedisConfig, ServicesConfig, Settings
from infrastructure.services import jars
from infrastructure.services.errors import ServicesError
from infrastructure.services.group import Planned, read_plan
from infrastructure.services.kafka_node import KafkaNode, new_cluster_id
from infrastructure.services.plan import _redis, addresses, services_directory, write_plan


def test_addresses_come_from_the_settings() -> None:
    settings = Settings(
        kafka=KafkaConfig(bootstrap_servers="localhost:19092,localhost:19093"),
        clickhouse=ClickHouseConfig(port=18123),
        redis=RedisConfig(host="127.0.0.2", port=16379),
    )
    assert addresses(settings) == {
        "kafka": ("127.0.0.1", 19092),
        "clickhouse": ("127.0.0.1", 18123),
        "redis": ("127.0.0.2", 16379),
    }


@pytest.mark.parametrize("host", ["kafka.example.com", "10.0.0.7", "0.0.0.0"])
def test_another_machine_is_refused_with_the_key(host: str) -> None:
    with pytest.raises(ServicesError, match=r"kafka\.bootstrap_servers") as refused:
        addresses(Settings(kafka=KafkaConfig(bootstrap_servers=f"{host}:9092")))
    assert refused.value.exit_code == 78


def test_directory_is_the_settings_or_the_projects(tmp_path: Path) -> None:
    assert services_directory(Settings(services=ServicesConfig(directory=str(tmp_path)))) == tmp_path
    assert services_directory(Settings()).name == "services"


def test_redis_gets_its_password_by_standard_input_only(tmp_path: Path) -> None:
    settings = Settings.model_validate({"redis": {"password": 'a"b\\c'}})
    planned = _redis(settings, tmp_path, "127.0.0.1", 6379)
    assert 'requirepass "a\\"b\\\\c"' in planned.stdin
    assert not any("a" + '"' in word for word in planned.argv)


def test_plan_file_is_private_and_comes_back(tmp_path: Path) -> None:
    planned = [Planned("redis", ("redis-server", "-"), "127.0.0.1", 1, "log", "requirepass x\n")]
    write_plan(tmp_path, planned)
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == 0o600
    assert read_plan(tmp_path / "plan.json") == planned


def test_kafka_node_is_single_durable_and_quick_to_return(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, "127.0.0.1", 9092, 9093, Path("lib"), "java")
    node.data.mkdir()
    (node.data / "meta.properties").touch()  # formatted
    node.prepare()
    lines = dict(line.split("=", 1) for line in (tmp_path / "server.properties").read_text().splitlines())
    assert lines["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert {lines[key] for key in lines if key.endswith(("replication.factor", "min.isr"))} == {"1"}
    assert lines["auto.create.topics.enable"] == "false"
    assert lines["log.message.timestamp.type"] == "LogAppendTime"
    assert int(lines["broker.session.timeout.ms"]) <= 1500  # a killed broker is back in 4 s, not 13
    assert "-Xmx512m" in node.command()


def test_cluster_ids_look_like_kafkas_own() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", new_cluster_id()) for _ in range(500))


def test_pom_and_module_name_one_version() -> None:
    found = re.search(r"<kafka.version>(.*)</kafka.version>", jars.POM.read_text())
    assert found is not None
    assert found[1] == jars.KAFKA_VERSION
    sums = jars.locked_sums(jars.LOCK_FILE.read_text())
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in sums


def test_a_missing_a_changed_and_a_foreign_jar_are_each_named(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"a")
    (tmp_path / "b.jar").write_bytes(b"changed")
    (tmp_path / "z.jar").write_bytes(b"z")
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    sums = {"a.jar": digest, "b.jar": digest, "c.jar": digest}
    assert jars.differences(tmp_path, sums) == [
        "c.jar is missing",
        "z.jar is not in jars.sha256",
        "b.jar has another SHA-256 than jars.sha256 says",
    ]
    assert jars.differences(tmp_path, {}) != []


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.1\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.setattr(jars, "SETUP", Path("/bin/false"))
    with pytest.raises(ServicesError, match="cannot start Kafka"):
        jars.java()
