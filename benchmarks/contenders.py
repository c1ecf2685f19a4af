"""The pipelines under test behind one face: started against a feed and services, stopped, their processes named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from config.paths import PROJECT_ROOT
from infrastructure.services.processes import dies_with_parent

START_LIMIT_S = 90


class Contender:
    """One running pipeline. `settings` as JSON; Any: values of settings."""

    name = ""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.pid = 0

    def start(self) -> None:
        """Start it; on return it may still connect."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it and wait for its end."""
        raise NotImplementedError

    def processes(self) -> dict[int, str]:
        """Pid -> role, of its own processes (services and feed apart)."""
        raise NotImplementedError


class Naive(Contender):
    """benchmarks/naive."""

    name = "naive"

    def start(self) -> None:
        own = self.settings
        job = {
            "feed_host": own["iqfeed"]["host"],
            "level1_port": own["iqfeed"]["level1_port"],
            "level2_port": own["iqfeed"]["port"],
            "kafka": own["kafka"]["bootstrap_servers"],
            "clickhouse_host": own["clickhouse"]["host"],
            "clickhouse_port": own["clickhouse"]["port"],
            "database": own["clickhouse"]["database"],
            "redis_host": own["redis"]["host"],
            "redis_port": own["redis"]["port"],
            "symbols": own["symbols"],
            "partitions": own["kafka"]["partitions"],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.naive", json.dumps(job)],
            cwd=PROJECT_ROOT,
            preexec_fn=dies_with_parent(os.getpid()),  # noqa: PLW1509  # one system call
        )
        self.pid = self._process.pid

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def processes(self) -> dict[int, str]:
        return {child.pid: child.cmdline()[-1] for child in psutil.Process(self.pid).children()}


class Product(Contender):
    """The daemon, started and stopped as a person does it."""

    name = "product"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.directory = Path(settings["state_dir"]).parent

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "pipeline.json"
        self.config.write_text(json.dumps(self.settings), encoding="utf-8")
        self.pid = self._manage("start")["pid"]

    def stop(self) -> None:
        self._manage("stop")

    def status(self) -> dict[str, Any]:
        """The daemon's own snapshot. Any: JSON."""
        return self._manage("status")

    def processes(self) -> dict[int, str]:
        found = {self.pid: "daemon"}
        for name, component in self.status()["components"].items():
            if component.get("pid") and component["pid"] != self.pid:
                found[component["pid"]] = name
        for child in psutil.Process(self.pid).children(recursive=True):
            found.setdefault(child.pid, "seed")
        return found

    def _manage(self, verb: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "manage_pipeline.py", verb, "--config", str(self.config), "--json"],
            cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=START_LIMIT_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{verb} ended with {done.returncode}: {done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


CONTENDERS: dict[str, type[Contender]] = {"naive": Naive, "product": Product}
