"""The embedded Redis answers, says why it cannot, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from infrastructure.services.embedded_data_dir import DataDirInUseError
from infrastructure.services.embedded_redis import RedisStartError, build
from tests.doubles.context import FakeContext
from tests.doubles.embedded import ROOT, free_port


async def until_ready(context: FakeContext, run: asyncio.Task[None]) -> None:
    ready = asyncio.create_task(context.became_ready.wait())
    await asyncio.wait({run, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    ready.cancel()
    if run.done():
        run.result()


async def test_it_serves_until_drain_and_its_port_is_free_afterwards(tmp_path: Path) -> None:
    port, context = free_port(), FakeContext(tmp_path)
    run = asyncio.create_task(build({"port": port, "data_dir": str(tmp_path / "redis")}).run(context))
    await until_ready(context, run)
    client = Redis(port=port)
    assert await client.ping() is True
    await client.aclose()
    context.drain.set()
    await asyncio.wait_for(run, 10)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert context.done == 0 and "component" not in context.counts


async def test_a_password_is_asked_for_and_shown_nowhere(tmp_path: Path) -> None:
    port, context, secret = free_port(), FakeContext(tmp_path), 'se"cr\\et ä'
    config = {"port": port, "data_dir": str(tmp_path / "redis"), "password": secret}
    run = asyncio.create_task(build(config).run(context))
    await until_ready(context, run)
    known = Redis(port=port, password=secret)
    assert await known.ping() is True
    await known.aclose()
    unknown = Redis(port=port)
    with pytest.raises(AuthenticationError):
        await unknown.ping()
    await unknown.aclose()
    children = psutil.Process().children()
    assert all("cr" + "\\" not in argument for child in children for argument in child.cmdline())
    context.drain.set()
    await asyncio.wait_for(run, 10)


async def test_a_taken_port_is_an_error_with_the_servers_words(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    with pytest.raises(RedisStartError, match="did not answer"):
        await asyncio.wait_for(build({"port": port, "data_dir": str(tmp_path / "r")}).run(FakeContext(tmp_path)), 20)
    taken.close()
    await taken.wait_closed()


async def test_a_directory_belongs_to_one_server(tmp_path: Path) -> None:
    config = {"port": free_port(), "data_dir": str(tmp_path / "redis")}
    context = FakeContext(tmp_path)
    run = asyncio.create_task(build(config).run(context))
    await until_ready(context, run)
    with pytest.raises(DataDirInUseError, match=f"pid {os.getpid()}"):
        await build({**config, "port": free_port()}).run(FakeContext(tmp_path))
    context.drain.set()
    await asyncio.wait_for(run, 10)


async def test_the_server_dies_with_its_owner(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from infrastructure.services.embedded_redis import build\n"
        "from tests.doubles.context import FakeContext\n"
        "async def main():\n"
        "    context = FakeContext(Path(sys.argv[2]))\n"
        "    run = asyncio.create_task(build({'port': int(sys.argv[1]), 'data_dir': sys.argv[2]}).run(context))\n"
        "    await context.became_ready.wait()\n"
        "    sys.stdout.write('ready\\n'); sys.stdout.flush()\n"
        "    await run\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(port), str(tmp_path / "redis")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        (server,) = psutil.Process(owner.pid).children()
        owner.kill()
    assert server.wait(10) is None  # gone; its status belongs to init
