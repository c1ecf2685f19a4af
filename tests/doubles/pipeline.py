"""The product as a user runs it: manage_pipeline.py in processes of its own, with settings from the environment.

Nothing here looks inside: answers come from the command line, ClickHouse's HTTP port, Redis and the files that the
documents name.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from config.paths import PROJECT_ROOT
from infrastructure.services.plan import free_port
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

POLL_S = 0.1


class Simulator:
    """`manage_pipeline.py simulate` on free ports."""

    def __init__(self, directory: Path, *options: str, hold: int = 1) -> None:
        self.directory = directory
        self.level1, self.level2, self.lookup, self.admin = (free_port() for _ in range(4))
        self.sent_log = directory / "sent.log"
        self._options = options
        self._hold = hold
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What points ingestion to it."""
        return {
            "PIPELINE_IQFEED__HOST": "127.0.0.1",
            "PIPELINE_IQFEED__PORT": str(self.level2),
            "PIPELINE_IQFEED__LEVEL1_PORT": str(self.level1),
            "PIPELINE_IQFEED__LOOKUP_PORT": str(self.lookup),
            "PIPELINE_IQFEED__ADMIN_PORT": str(self.admin),
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = ["--level1-port", str(self.level1), "--level2-port", str(self.level2)]
        ports += ["--lookup-port", str(self.lookup), "--admin-port", str(self.admin)]
        command = [sys.executable, "manage_pipeline.py", "simulate", *ports, "--hold", str(self._hold)]
        command += ["--sent-log", str(self.sent_log), *self._options]
        with (self.directory / "simulator.out").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def misbehave(self, fault: str) -> None:
        """Do a fault of fault_kinds.py, e.g. `duplicate,share=0.2`. Fails where the simulator refuses it."""
        with socket.create_connection(("127.0.0.1", self.admin), timeout=30) as admin, admin.makefile("rwb") as lines:
            lines.write(f"S,SIMULATE FEED,{fault}\r\n".encode())
            lines.flush()
            answer = next(line for line in lines if line.startswith((b"E,", b"S,SIMULATE FEED")))
        assert not answer.startswith(b"E,"), answer

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Pipeline:
    """One state directory with its daemon; the environment carries the addresses of services and feed."""

    def __init__(
        self,
        directory: Path,
        kafka: RealKafka,
        clickhouse: RealClickHouse,
        redis: RealRedis,
        *,
        symbols: Sequence[str],
        database: str = "market_data",
        extra: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.logs = directory / "logs"
        self.clickhouse, self.redis, self.database = clickhouse, redis, database
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")},
            "PIPELINE_SERVICES__MODE": "external",
            "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": kafka.address,
            "PIPELINE_CLICKHOUSE__HOST": clickhouse.host,
            "PIPELINE_CLICKHOUSE__PORT": str(clickhouse.port),
            "PIPELINE_CLICKHOUSE__DATABASE": database,
            "PIPELINE_REDIS__HOST": redis.host,
            "PIPELINE_REDIS__PORT": str(redis.port),
            "PIPELINE_LOGGING__DIRECTORY": str(self.logs),
            "PIPELINE_SYMBOLS": json.dumps(list(symbols)),
            # Most tests compare what was read with what is stored; those about the backfill switch it on.
            "PIPELINE_IQFEED__BACKFILL": "false",
            **(extra or {}),
        }

    def cli(self, *arguments: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        """One command in a pipe; the state directory is added."""
        return subprocess.run(
            [sys.executable, "manage_pipeline.py", *arguments, "--state-dir", str(self.state)],
            cwd=PROJECT_ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *options: str) -> dict[str, Any]:
        """`start`; fails with everything it said."""
        done = self.cli("start", "--no-validate", *options)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log_tail()}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stop(self, *options: str) -> dict[str, Any]:
        """`stop`; fails with everything it said."""
        done = self.cli("stop", *options)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log_tail()}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def status(self) -> dict[str, Any]:
        """The JSON of `status`, whatever its exit code."""
        document: dict[str, Any] = json.loads(self.cli("status").stdout)
        return document

    def sql(self, statement: str, timeout_s: float = 60) -> list[list[str]]:
        """Rows of a query as text; `{db}` is the database. Raises OSError where the store does not answer."""
        query = urllib.parse.urlencode({"query": statement.replace("{db}", self.database) + " FORMAT TabSeparated"})
        with urllib.request.urlopen(f"http://{self.clickhouse.address}/?{query}", timeout=timeout_s) as answer:
            text = answer.read().decode()
        return [row.split("\t") for row in text.splitlines()]

    def command(self, statement: str, timeout_s: float = 60) -> None:
        """Run a statement without rows; `{db}` is the database. Raises OSError."""
        body = statement.replace("{db}", self.database).encode()
        with urllib.request.urlopen(f"http://{self.clickhouse.address}/", data=body, timeout=timeout_s) as answer:
            answer.read()

    def stored(self, where: str = "1") -> int:
        """Rows of `events` so far; 0 while there is no table."""
        try:
            return int(self.sql(f"SELECT count() FROM {{db}}.events WHERE {where}")[0][0])
        except OSError:
            return 0

    def gap_intervals(self) -> list[tuple[str, str, int | None, int | None]]:
        """Gaps of symbols: symbol, port, from and to in microseconds UTC (None = not known, or open still)."""
        rows = self.sql(
            "SELECT symbol, port, toUnixTimestamp64Micro(from_time), toUnixTimestamp64Micro(to_time) "
            "FROM {db}.gaps_latest WHERE symbol IS NOT NULL"
        )
        return [(name, port, _number(begin), _number(end)) for name, port, begin, end in rows]

    def wait(
        self, what: str, holds: Callable[[], bool], timeout_s: float = 60, *, shows: Callable[[], object] = str
    ) -> None:
        """Poll from outside until it holds; fails naming it, with what `shows` gives and the newest status."""
        limit = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < limit, f"not within {timeout_s:g} s: {what} {shows()}\n{self.describe()}"
            threading.Event().wait(POLL_S)  # polled: another process has no event to wait on

    def describe(self) -> str:
        """States, causes and the log's end, for a failing test."""
        components = self.status().get("components", {})
        lines = [
            f"{name}: {c['state']} {c.get('cause', '')} {c.get('rates')} {c.get('gauges')}"
            for name, c in components.items()
        ]
        return "\n".join([*lines, self.log_tail()])

    def log_tail(self, lines: int = 40) -> str:
        """End of the main log."""
        path = self.logs / "pipeline_orchestrator.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "no log"

    def pid_of(self, component: str) -> int:
        """Process of one component; 0 while it has none."""
        return int(self.status()["components"][component]["pid"] or 0)


def _number(cell: str) -> int | None:
    return None if cell == "\\N" else int(cell)
