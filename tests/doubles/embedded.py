"""Embedded services as real processes of their own, for tests: free port, own directory, stopped by pid."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedClickHouseProcess:
    """`start()` returns when /ping answers; `kill()` is SIGKILL, `stop()` SIGTERM; it may be started again."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory.parent / f"{directory.name}.log"

    def start(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "infrastructure.services.embedded_clickhouse",
                    "--port",
                    str(self.port),
                    "--data",
                    str(self.directory),
                    "--die-with-parent",
                ],
                cwd=ROOT,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=2).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"embedded ClickHouse did not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)  # readiness of another process: there is nothing to wait on

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process is not None else 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)

    def sql(self, statement: str) -> str:
        """One statement over plain HTTP; the answer as text. Raises urllib.error.HTTPError."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data=statement.encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            text: bytes = answer.read()
        return text.decode().rstrip("\n")
