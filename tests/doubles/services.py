"""Real Kafka, ClickHouse and Redis as test doubles of production: own ports, own directory, stopped by their own pid.

Each is a `RealService`: start, stop (SIGTERM), kill (SIGKILL), freeze, thaw and restart act on the process that this
object started and on no other. `wipe` removes the data of a stopped service, as a reinstalled one would have lost it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.paths import PROJECT_ROOT
from infrastructure.services import jars
from infrastructure.services.kafka_node import KafkaNode
from infrastructure.services.plan import free_port, redis_server
from infrastructure.services.probes import ProbeError, round_trip_ms
from infrastructure.services.processes import dies_with_parent

READY_S = 120.0  # a broker that was killed, on a busy machine
STOP_S = 15.0


class RealService:
    """One server process on loopback; `host` and `port` stay the same over restarts."""

    name = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = "127.0.0.1"
        self.port = free_port()
        self.log = directory / f"{self.name}.out"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def command(self) -> list[str]:
        """Argv of the server; called at each start."""
        raise NotImplementedError

    def start(self) -> None:
        """Start and wait until it answers in its own protocol; blocks (in a coroutine: `launch`, `answering`)."""
        self.launch()
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """`answering` outside of a coroutine."""
        with ThreadPoolExecutor(1) as waiting:  # a loop may run in this thread
            waiting.submit(asyncio.run, self.answering()).result()

    def launch(self) -> None:
        """Start only. From the main thread: the server dies with the thread that started it."""
        assert self._process is None, f"{self.name} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT_ROOT,
                process_group=0,
                preexec_fn=dies_with_parent(os.getpid()),  # noqa: PLW1509  # one system call; a dead test leaves no server
            )

    async def answering(self) -> None:
        """Wait until it answers in its own protocol. Fails with the end of its log if it dies or takes too long."""
        limit = time.monotonic() + READY_S
        while True:
            assert self._process is not None
            try:
                await round_trip_ms(self.name, self.host, self.port)
                return
            except ProbeError as error:
                died = self._process.poll()
                if died is not None or time.monotonic() > limit:
                    said = self.log.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{self.name} is not there: {error}, exit code {died}\n{said}") from error
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it takes too long. Nothing happens when it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, and reap it."""
        assert self._process is not None, f"{self.name} is not running"
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP: the process holds its sockets and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill and start again on the same port with the same data."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Remove all data; only while stopped."""
        assert self._process is None, f"stop {self.name} before its data is removed"
        shutil.rmtree(self.directory)


class RealKafka(RealService):
    """Apache Kafka, one KRaft node."""

    name = "kafka"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._node = KafkaNode(directory, self.host, self.port, free_port(), jars.kafka_jars(), jars.java())

    def advertise(self, port: int) -> None:
        """Clients are told this port of a proxy from the next start on."""
        self._node = dataclasses.replace(self._node, advertised_port=port)

    def command(self) -> list[str]:
        self._node.prepare()
        return self._node.command()

    def java_tool(self, class_name: str, *arguments: str, timeout_s: float = 30) -> str:
        """Standard output of one of Kafka's own tools, e.g. org.apache.kafka.tools.consumer.ConsoleConsumer."""
        command = [self._node.java, "-Xmx256m", "-cp", f"{self._node.jars}/*", class_name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
        return done.stdout


class RealClickHouse(RealService):
    """The ClickHouse engine in its own HTTP process."""

    name = "clickhouse"

    def command(self) -> list[str]:
        module = "infrastructure.services.embedded_clickhouse"
        data = str(self.directory / "data")
        return [sys.executable, "-m", module, "--port", str(self.port), "--data", data]


class RealRedis(RealService):
    """redis-server without persistence."""

    name = "redis"

    def command(self) -> list[str]:
        options = ["--bind", self.host, "--port", str(self.port), "--dir", str(self.directory)]
        return [redis_server(), *options, "--save", "", "--appendonly", "no"]
