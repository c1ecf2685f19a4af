"""Entry of a component: `run_component` is the same in a task, a forked worker and a spawned process.

`main(fd)` is what a child process does: one channel, one loop, one component, then out.
`python -m pipeline_orchestrator.worker FD PARENT_PID ID` is a spawned child.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pipeline_orchestrator import pandas_block, registry
from pipeline_orchestrator.channel import (
    Answered,
    Ask,
    Beat,
    Channel,
    Command,
    Drain,
    Ended,
    FrameDecoder,
    Launch,
    Report,
    Said,
    Update,
    Updated,
    encode,
    spec_from_json,
)
from pipeline_orchestrator.component import Component
from pipeline_orchestrator.confine import confine, die_with_parent
from pipeline_orchestrator.context import ComponentContext
from pipeline_orchestrator.telemetry.logs import install_bridge, one_line, where

OUTGOING_LIMIT_BYTES = 1 << 20  # past this the supervisor does not read: figures wait, log lines are counted lost
LAG_SAMPLE_S = 0.2
ORPHAN_S = 1.0  # soft stop after the channel's end, before the hard one


class StreamChannel:
    """The child's end of a socket; implements channel.Channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = FrameDecoder()
        self._commands: asyncio.Queue[Command | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    def send(self, message: Report) -> bool:
        droppable = isinstance(message, Beat | Said)
        if self._writer.is_closing():
            return False
        if droppable and self._writer.transport.get_write_buffer_size() > OUTGOING_LIMIT_BYTES:
            return False
        self._writer.write(encode(message))
        return True

    async def receive(self) -> Command | None:
        return await self._commands.get()

    def order(self, command: Command) -> None:
        """A command from this process itself (a signal), as if the supervisor had sent it."""
        self._commands.put_nowait(command)

    async def _read(self) -> None:
        """Into the queue until the other side is gone."""
        try:
            while data := await self._reader.read(1 << 16):
                for command in self._decoder.feed(data):
                    self._commands.put_nowait(command)  # type: ignore[arg-type]  # our peer sends commands only
        except (OSError, ValueError):
            pass  # a reset, or a peer that is not ours, is an end like any other
        self._commands.put_nowait(None)

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()


async def run_component(launch: Launch, channel: Channel, *, own_process: bool = False) -> int:
    """Build the component, run it to its end, report on the way; 0 = drained or returned, 1 = failed.

    `own_process` = log bridge, garbage collector and process figures are this component's alone. Cancelling is the
    hard stop. Whatever the component raises ends here as an `Ended` with its cause.
    """
    spec = spec_from_json(launch.spec)
    if own_process and spec.nice:
        os.nice(spec.nice)
    context = ComponentContext(spec.id, launch.incarnation, Path(launch.state_dir), channel, freeze=own_process)
    bridge = install_bridge(context.say, launch.log_level) if own_process else None
    component: Component | None = None
    beats = asyncio.create_task(_beat(context, channel, launch.beat_seconds, own_process))
    commands = asyncio.create_task(_obey(context, channel, lambda: component))
    try:
        table = registry.builders(launch.builders or registry.BUILDERS)
        component = table.build(spec, json.loads(spec.config))
        await _until_end(component, context, commands)
    except asyncio.CancelledError:
        channel.send(Ended("cancelled"))
        raise
    except Exception as error:  # the one place where a component's error becomes an event
        context.event("ERROR", "component_raised", error=one_line(error), at=where(error))
        await _end(beats)
        channel.send(Ended("raised", one_line(error), getattr(error, "next_step", "")))
        return 1
    else:
        await _end(beats)
        channel.send(Ended("drained" if context.drain.is_set() else "returned"))
        return 0
    finally:
        await _end(beats, commands)
        if bridge is not None:
            logging.getLogger().removeHandler(bridge)
        await channel.close()


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Beats end with one more, so that the last figures come before the last word."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until_end(component: Component, context: ComponentContext, commands: asyncio.Task[None]) -> None:
    """Run the component; a supervisor that is gone means drain, and soon after the hard stop."""
    running = asyncio.create_task(component.run(context), name=f"run {context.id}")
    try:
        await asyncio.wait({running, commands}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            context.drain.set()
            async with asyncio.timeout(ORPHAN_S):
                await asyncio.shield(running)
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _obey(context: ComponentContext, channel: Channel, component: Callable[[], Component | None]) -> None:
    """Commands until the channel's end. What is asked for is worked on beside them."""
    asked: set[asyncio.Task[None]] = set()
    try:
        while (command := await channel.receive()) is not None:
            if isinstance(command, Drain):
                context.drain.set()
            elif isinstance(command, Update):
                accepted = await _update(component(), command.config, context)
                channel.send(Updated(accepted, command.number))
            elif isinstance(command, Ask):
                task = asyncio.create_task(_answer(component(), command, context, channel))
                asked.add(task)
                task.add_done_callback(asked.discard)
    finally:
        await _end(*asked)


async def _answer(component: Component | None, asked: Ask, context: ComponentContext, channel: Channel) -> None:
    """Let the component answer; one without `answer`, or whose answer fails, says so."""
    answer = getattr(component, "answer", None)
    if answer is None:
        channel.send(Answered(asked.number, {}, f"{context.id} answers nothing"))
        return
    try:
        channel.send(Answered(asked.number, await answer(asked.verb, asked.body)))
    except Exception as error:  # told to whoever asked; the component works on
        context.event("WARNING", "answer_failed", verb=asked.verb, error=one_line(error), at=where(error))
        channel.send(Answered(asked.number, {}, one_line(error)))


async def _update(component: Component | None, config: str, context: ComponentContext) -> bool:
    """Offer a new configuration; a component without `update`, or whose update fails, is replaced."""
    update = getattr(component, "update", None)
    if update is None:
        return False
    try:
        return bool(await update(json.loads(config)))
    except Exception as error:  # replaced by a fresh incarnation with the new configuration
        context.event("WARNING", "update_failed", error=one_line(error))
        return False


async def _beat(context: ComponentContext, channel: Channel, period_s: float, own_process: bool) -> None:
    """Heartbeat each period from the component's own loop, with the loop's largest delay since the last one."""
    process, due, lag = psutil.Process() if own_process else None, time.monotonic() + period_s, 0.0
    try:
        while True:
            sample = min(LAG_SAMPLE_S, period_s)
            began = time.monotonic()
            await asyncio.sleep(sample)
            now = time.monotonic()
            lag = max(lag, now - began - sample)
            if now >= due:
                due = max(due + period_s, now)
                _send_beat(context, channel, lag, process)
                lag = 0.0
    finally:
        _send_beat(context, channel, lag, process)


def _send_beat(context: ComponentContext, channel: Channel, lag: float, process: psutil.Process | None) -> None:
    if context.lost_logs:
        context.meter.count("log_lines_lost_total", context.lost_logs, {})
        context.lost_logs = 0
    figures = {"fds": process.num_fds()} if process is not None else {}
    delta = context.meter.take()
    beat = Beat(context.tokens, context.token_age_s(), max(0.0, lag), time.monotonic_ns(), delta, figures)
    if not channel.send(beat):
        context.meter.put_back(delta)


async def _main(fd: int) -> int:
    """The child's loop: channel, launch order, component."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    channel = StreamChannel(reader, writer)
    launch = await channel.receive()
    if not isinstance(launch, Launch):
        return 0  # the supervisor was gone before it said what to do
    sys.path.extend(entry for entry in launch.sys_path if entry not in sys.path)
    running = asyncio.create_task(run_component(launch, channel, own_process=True))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, channel.order, Drain(0.0))
    return await running


def main(fd: int) -> int:
    """Run one component in this process; the exit code. The caller leaves with os._exit.

    SIGABRT and the fatal signals write all stacks to stderr, which the supervisor keeps. The loop is not torn down
    at the end: a thread stuck in a library must not hold up the exit.
    """
    import uvloop

    faulthandler.enable(all_threads=True)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(_main(fd))


def spawned() -> None:
    """Entry of a spawned process."""
    fd, parent, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    die_with_parent(parent)
    confine(name, hide_memory=False)
    pandas_block.install()
    code = 70
    try:
        code = main(fd)
    except BaseException:  # whatever it was, it goes to stderr and the process ends
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    spawned()
