"""infrastructure/scripts/health-check.sh tells services that answer from those that do not."""

from __future__ import annotations

import os
import subprocess

from config.paths import PROJECT_ROOT
from infrastructure.services.plan import free_port
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

SCRIPT = PROJECT_ROOT / "infrastructure/scripts/health-check.sh"


def _run(kafka: str, clickhouse: str, redis: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KAFKA": kafka, "CLICKHOUSE": clickhouse, "REDIS": redis}
    return subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_all_answer(kafka_broker: RealKafka, clickhouse_server: RealClickHouse, redis_server: RealRedis) -> None:
    done = _run(kafka_broker.address, clickhouse_server.address, redis_server.address)
    assert (done.returncode, done.stdout.count("✓"), done.stderr) == (0, 3, "")


def test_the_wrong_service_at_an_address_does_not_count(
    kafka_broker: RealKafka, clickhouse_server: RealClickHouse, redis_server: RealRedis
) -> None:
    done = _run(clickhouse_server.address, redis_server.address, kafka_broker.address)
    assert (done.returncode, done.stdout.count("✗")) == (69, 3)


def test_a_missing_and_a_frozen_service_are_named(clickhouse_server: RealClickHouse, own_redis: RealRedis) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    own_redis.freeze()
    done = _run(nowhere, clickhouse_server.address, own_redis.address)
    own_redis.thaw()
    assert done.returncode == 69
    assert f"✗ kafka does not answer at {nowhere}" in done.stdout
    assert f"✓ clickhouse answers at {clickhouse_server.address}" in done.stdout
    assert f"✗ redis does not answer at {own_redis.address}" in done.stdout
    assert "make services" in done.stderr
