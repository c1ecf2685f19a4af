"""Runs components as tasks of the calling loop: tests, notebooks, light services of the daemon itself."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from pipeline_orchestrator.channel import Channel, Command, Launch, Report
from pipeline_orchestrator.supervisor.dumps import Dumps
from pipeline_orchestrator.supervisor.events import Exited, Heard, Started
from pipeline_orchestrator.supervisor.launcher import Handle, Post

Run = Callable[[Launch, Channel], Awaitable[int]]
"""`worker.run_component`: runs until its end and returns an exit code; never raises but CancelledError."""


class DirectChannel:
    """A channel of direct calls; implements channel.Channel."""

    def __init__(self, on_report: Callable[[Report], None]) -> None:
        self._on_report = on_report
        self._commands: asyncio.Queue[Command | None] = asyncio.Queue()

    def send(self, message: Report) -> bool:
        self._on_report(message)
        return True

    async def receive(self) -> Command | None:
        return await self._commands.get()

    async def close(self) -> None:
        return None

    def command(self, command: Command) -> None:
        """The supervisor's side."""
        self._commands.put_nowait(command)


class TaskHandle:
    """One task; implements launcher.Handle."""

    def __init__(self, task: asyncio.Task[int], channel: DirectChannel, dump: Callable[[asyncio.Task[int]], None]):
        self._task, self._channel, self._dump = task, channel, dump

    def send(self, command: Command) -> None:
        self._channel.command(command)

    def abort(self) -> None:
        self._dump(self._task)
        self._task.cancel()

    def kill(self) -> None:
        self._task.cancel()


class TaskLauncher:
    """Implements launcher.Launcher. A task that swallows its cancellation cannot be stopped: it stays `stopping`."""

    def __init__(self, run: Run, state_dir: Path) -> None:
        self._run, self._dumps = run, Dumps(state_dir)

    def launch(self, launch: Launch, post: Post) -> Handle:
        name = str(launch.spec["id"])
        channel = DirectChannel(lambda report: post(Heard(name, launch.incarnation, report)))
        task = asyncio.get_running_loop().create_task(self._guard(launch, channel), name=name)
        post(Started(name, launch.incarnation, os.getpid()))
        trace: list[str] = []

        def dump(running: asyncio.Task[int]) -> None:
            text = io.StringIO()
            running.print_stack(file=text)
            trace.append(str(self._dumps.write(name, text.getvalue())))

        def ended(done: asyncio.Task[int]) -> None:
            code = None if done.cancelled() else done.result()
            detail = "cancelled" if done.cancelled() else ""
            post(Exited(name, launch.incarnation, code, detail, trace="".join(trace)))

        task.add_done_callback(ended)
        return TaskHandle(task, channel, dump)

    async def _guard(self, launch: Launch, channel: DirectChannel) -> int:
        return await self._run(launch, channel)

    def tick(self) -> None:
        return None

    def forgive(self, seconds: float) -> None:
        return None

    async def close(self) -> None:
        return None
