"""Embedded services as real processes of their own, for tests: free port, own directory, stopped by pid."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedClickHouseProcess:
    """`start()` returns when it is ready; `kill()` is SIGKILL, `stop()` SIGTERM; it may be started again."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self.log = directory.parent / f"{directory.name}.log"

    def start(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
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
            stderr=subprocess.PIPE,
        )
        told = threading.Event()  # ready, or ended
        self._listener = threading.Thread(target=self._listen, args=(self.process, told), daemon=True)
        self._listener.start()
        if not told.wait(40) or self.process.poll() is not None:
            raise RuntimeError(f"embedded ClickHouse did not start: {self.log.read_text()[-2000:]}")

    def _listen(self, process: subprocess.Popen[bytes], told: threading.Event) -> None:
        """Copy what it says into the log file until it ends."""
        assert process.stderr is not None
        with self.log.open("ab") as log, process.stderr as said:
            for line in said:
                log.write(line)
                log.flush()
                if b" ready on " in line:
                    told.set()
        told.set()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._heard_out()

    def stop(self) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self._heard_out()
        return int(self.process.returncode)

    def _heard_out(self) -> None:
        if self._listener is not None:
            self._listener.join(10)

    def sql(self, statement: str) -> str:
        """One statement over plain HTTP; the answer as text. Raises urllib.error.HTTPError."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data=statement.encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            text: bytes = answer.read()
        return text.decode().rstrip("\n")
