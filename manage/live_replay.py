"""`replay --speed`: a recording through the pipeline that runs, as its feed, and what of it arrived.

The pipeline must be waiting for its feed: this command then is the feed, at the addresses of the settings. A feed that
is there is never replaced. Why so: docs/decisions/replay-is-the-feed.md.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage.exits import CliError, Exit
from manage.feed_player import FeedPlayer, Played
from manage.instance import state_argument
from manage.replay_feed import check_files, check_speed, connections, depth_of, symbol_of
from manage.terminal import Terminal

if TYPE_CHECKING:
    from config.sections import Settings
    from infrastructure.simulator.config import SimulatorConfig
    from manage.spool_tail import Arrived, Place, Tail

Document = dict[str, Any]  # JSON
NOTE_SECONDS = 10.0  # between lines of progress where nothing can be redrawn
ARRIVE_SECONDS = 600.0  # Ctrl-C ends the waiting
STILL_SECONDS = 15.0  # nothing moved for so long: it will not
POLL_SECONDS = 0.25


def replay_live(
    terminal: Terminal, state: Path, config: str, state_flag: str, files: Sequence[Path], speed: str
) -> int:
    """Play `files` (a recording, a spool, or LOBSTER pairs) to the pipeline of `state`; the exit code.

    Raises CliError: 7 no pipeline runs; 1 it has a feed, or does not watch the recorded symbols; 75 its readers did
    not come; 130 interrupted.
    """
    from manage import prepared
    from manage.setup import load_settings

    check_speed(speed)
    status = _running(state)
    settings = _settings_of(load_settings(config, state_flag).settings, status, state, files, speed)
    symbols = recorded_symbols(settings, files, terminal.note)
    _watched(symbols, status, state)
    prepared.kernels(terminal)
    from infrastructure.simulator.lobster_files import LobsterError
    from infrastructure.simulator.pace import ConfigError
    from infrastructure.simulator.recording_sources import RecordingError

    live = _LiveReplay(terminal, settings, state, _feed(settings, files, speed, symbols))
    try:
        return asyncio.run(live.run())
    except (ConfigError, LobsterError, RecordingError) as error:
        raise CliError(str(error), code="cannot_replay", next_step="manage_pipeline.py replay --help") from error


def recorded_symbols(settings: Settings, files: Sequence[Path], note: Callable[[str], None]) -> list[str]:
    """What the files are about; each is read whole by a short process. `note` gets what they lack. Raises CliError."""
    symbols: list[str] = []
    for path in files:
        named = symbol_of(str(path))
        try:
            symbols += check_files(str(path), depth_of(settings, [named]), note) or [named]
        except click.BadParameter as error:  # of --replay, which was not typed here: the files are the arguments
            raise CliError(error.message, code="cannot_replay", next_step="manage_pipeline.py replay --help") from error
    return symbols


def _running(state: Path) -> Document:
    from manage.commands.status import look

    document, code, remark = look(state)
    if code is not Exit.OK:
        raise CliError(
            "replay --speed plays to a pipeline that runs: " + remark.partition("\n")[0].removeprefix("! "),
            exit_code=Exit.NEEDS_RUNNING,
            code="not_running",
            next_step=f"manage_pipeline.py start{state_argument(state)}    (without --simulate: it waits for its feed)",
        )
    return document


def _settings_of(settings: Settings, status: Document, state: Path, files: Sequence[Path], speed: str) -> Settings:
    """The settings with the addresses that the pipeline has; refuses where it has a feed or looks elsewhere for one."""
    services = status["infrastructure_status"]
    feed = services["iqfeed"]
    again = state_argument(state)
    play = f"--replay {shlex.quote(str(files[0]))} --speed {speed}{again}"
    if any(name.startswith("simulator/") for name in status["components"]):
        raise CliError(
            "the pipeline's feed is its own simulator (start --simulate), which a recording must not be mixed with",
            code="has_feed",
            next_step=f"manage_pipeline.py stop{again} && manage_pipeline.py start --simulate {play}",
        )
    if feed["state"] == "ok":
        raise CliError(
            f"the pipeline reads its feed from {feed['address']}: a recording cannot take its place",
            code="has_feed",
            evidence={"feed": feed},
            next_step="end the feed first    or    play to a pipeline of its own: "
            f"manage_pipeline.py demo --replay {shlex.quote(str(files[0]))} --speed {speed}",
        )
    iqfeed = settings.iqfeed
    here = f"{iqfeed.host}:{iqfeed.level1_port if iqfeed.level1 else iqfeed.port}"
    if feed["address"] not in (None, here):
        raise CliError(
            f"the pipeline looks for its feed at {feed['address']}, these settings say {here}",
            exit_code=Exit.USAGE,
            code="other_settings",
            next_step="replay with the --config and the PIPELINE_ variables that the pipeline was started with",
        )
    update: Document = {}
    host, _, port = str(services["clickhouse"].get("address") or "").rpartition(":")
    if host and port.isdigit():  # an embedded one has an address that no settings know
        update["clickhouse"] = settings.clickhouse.model_copy(update={"host": host.strip("[]"), "port": int(port)})
    return settings.model_copy(update=update)


def _watched(symbols: Sequence[str], status: Document, state: Path) -> None:
    others = sorted(set(symbols) - {str(name).upper() for name in status["symbols"]})
    if others:
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        named = ",".join(f'"{name}"' for name in sorted(set(symbols))) if len(symbols) <= 8 else '"A","B"'
        raise CliError(
            f"the pipeline does not watch {shown}, which the recording has: those lines would be lost",
            code="not_watched",
            evidence={"not_watched": others, "watched": list(status["symbols"])},
            next_step=f"PIPELINE_SYMBOLS='[{named}]' manage_pipeline.py restart{state_argument(state)}"
            "    (the same variable for replay)",
        )


def _feed(settings: Settings, files: Sequence[Path], speed: str, symbols: Sequence[str]) -> SimulatorConfig:
    from infrastructure.simulator.config import SimulatorConfig
    from infrastructure.simulator.pace import parse_speed

    feed = settings.iqfeed
    return SimulatorConfig(
        host=feed.host,
        level1_port=feed.level1_port,
        level2_port=feed.port,
        lookup_port=feed.lookup_port,
        admin_port=feed.admin_port,
        replay=tuple(map(str, files)),
        speed=parse_speed(speed),
        depth=depth_of(settings, symbols),
        hold=connections(settings, symbols),
    )


class _LiveReplay:
    """One playing: open, wait for the readers, play, wait until all is stored, answer."""

    def __init__(self, terminal: Terminal, settings: Settings, state: Path, config: SimulatorConfig) -> None:
        self.terminal, self.settings, self.state, self.config = terminal, settings, state, config
        self.player = FeedPlayer(config, self._show)
        self._drawn = False
        self._noted = time.monotonic()
        self._said_playing = False

    async def run(self) -> int:
        """See replay_live."""
        from manage.replay_account import account, account_text
        from manage.spool_tail import spool_ends
        from manage.stations import in_thread

        begin = await in_thread(partial(spool_ends, self.state))
        await self._open()
        feed = self.settings.iqfeed
        self._note(f"the feed at {feed.host}:{feed.level1_port} and :{feed.port}; waiting for the pipeline to connect")
        played = await self.player.play()
        if played.outcome == "nobody_came":
            self._clear()
            raise CliError(
                f"the pipeline did not take the recording: {played.why}",
                exit_code=Exit.TRY_LATER,
                code="nobody_came",
                next_step=f"manage_pipeline.py status{state_argument(self.state)}",
            )
        if played.outcome == "interrupted":
            self._note("stopped; counting what arrived (Ctrl-C again: not)")
        tail, found, unknown = await self._arrive(played, begin)
        self._clear()
        document = account(self.config.replay, played, tail, found, unknown)
        self.terminal.answer(document, lambda: account_text(document))
        if played.outcome == "interrupted":
            return Exit.INTERRUPTED
        return Exit.FAILED if document["differences"] else Exit.OK

    async def _open(self) -> None:
        feed = self.settings.iqfeed
        try:
            await self.player.open()
        except OSError as error:
            if error.filename:
                raise
            raise CliError(
                f"{error.strerror or error}: the pipeline looks for its feed there, and a recording is played only "
                "where none is",
                code="cannot_listen",
                evidence={"host": feed.host, "ports": [feed.level1_port, feed.port, feed.lookup_port, feed.admin_port]},
                next_step="end what listens there    or    manage_pipeline.py demo --replay "
                f"{shlex.quote(self.config.replay[0])}",
            ) from error

    async def _arrive(self, played: Played, begin: dict[int, Place]) -> tuple[Tail, Arrived | None, str]:
        """Until all that was sent is spooled and stored, or nothing moves any more; why the store is unknown, or ""."""
        import aiohttp

        from manage.replay_account import storable, underway
        from manage.spool_tail import Tail, arrived, tail_of
        from manage.stations import ClickHouseReader, in_thread, spool_bytes

        tail, extent, unknown = Tail(), -1, ""
        found: Arrived | None = None
        began = moved = time.monotonic()
        reader = ClickHouseReader(self.settings.clickhouse)
        try:
            while True:
                if (now := spool_bytes(self.state)) != extent:  # a count reads all of it
                    tail, extent, moved = await in_thread(partial(tail_of, self.state, begin)), now, time.monotonic()
                before = found
                try:
                    found, unknown = await arrived(reader, tail), ""
                except (aiohttp.ClientError, ValueError, TimeoutError, OSError) as error:
                    unknown = str(error) or type(error).__name__
                if not unknown and not underway(played, tail, found):
                    return tail, found, ""
                if found != before:
                    moved = time.monotonic()
                if time.monotonic() - moved > STILL_SECONDS or time.monotonic() - began > ARRIVE_SECONDS:
                    return tail, found, unknown
                stored = "-" if found is None else f"{found.events + found.dead:,}"
                self._draw(f"sent {played.sent:,}  spooled {tail.lines:,}  stored {stored} of {storable(tail):,}")
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await reader.close()

    # -- what is shown -----------------------------------------------------------------------------------------

    def _show(self, played: Played) -> None:
        if played.outcome != "playing":
            return
        if not self._said_playing:
            self._said_playing = True
            self._note("connected; playing, Ctrl-C ends it")
        from manage.replay_account import progress_line

        line = progress_line(played)
        if self.terminal.live:
            self._draw(line)
        elif time.monotonic() - self._noted >= NOTE_SECONDS:
            self._note(line)

    def _draw(self, line: str) -> None:
        if self.terminal.live:
            self.terminal.redraw(line)
            self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self.terminal.redraw("")
            self._drawn = False

    def _note(self, line: str) -> None:
        self._clear()
        self._noted = time.monotonic()
        self.terminal.note(f"- {line}")
