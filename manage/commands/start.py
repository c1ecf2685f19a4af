"""`start`: check, start, wait until ready. `--foreground` is the daemon itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from manage.exits import Exit
from manage.interrupts import nothing_started
from manage.options import DURATION, common, pipeline, simulated_rate
from manage.replay_feed import check_speed, replayed
from manage.scenarios import SCENARIO, played
from manage.starts import holding
from manage.terminal import Terminal


@click.command()
@click.option("--no-validate", is_flag=True, help="Skip the checks.")
@click.option("--foreground", is_flag=True, help="Be the daemon: no detaching, Ctrl-C drains.")
@click.option("--simulate", is_flag=True, help="The simulator as the feed of the configured services.")
@click.option(
    "--rate",
    type=float,
    callback=simulated_rate,
    help="With --simulate: messages per second. Default: the simulator's.",
)
@click.option(
    "--replay",
    default=None,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="With --simulate: play a recording (or a LOBSTER pair, by its message file); its symbols are watched.",
)
@click.option("--scenario", type=SCENARIO, help="With --simulate: calm, open, halt, ... or a FILE with phases.")
@click.option("--speed", default="1x", show_default=True, metavar="1x|10x|max", help="With --replay or --scenario.")
@click.option("--timeout", type=DURATION, default=None, help="How long to wait until ready. Default: the settings'.")
@click.option("--no-wait", is_flag=True, help="Return once the daemon answers.")
@pipeline
@common
def start(
    terminal: Terminal,
    config: str,
    state_flag: str,
    no_validate: bool,
    foreground: bool,
    simulate: bool,
    rate: float | None,
    replay: str | None,
    scenario: str | None,
    speed: str,
    timeout: float | None,
    no_wait: bool,
    state: Path,
) -> int:
    """Start the pipeline and wait until it is ready; finding it running is success.

    \b
    manage_pipeline.py start
    manage_pipeline.py start --simulate
    manage_pipeline.py start --simulate --replay day.rec.zst --speed 10x
    Related: stop, restart, status, demo
    """
    if rate is not None and not simulate:
        raise click.UsageError("--rate goes with --simulate")
    if replay and (not simulate or rate is not None):
        raise click.UsageError("--replay goes with --simulate, and without --rate")
    if scenario and (not simulate or rate is not None or replay):
        raise click.UsageError("--scenario goes with --simulate, and without --rate and --replay")
    if replay or scenario:
        check_speed(speed)
    with holding(state) as hold:
        with nothing_started(state):
            terminal.note("- checking settings" + ("" if no_validate else " and services"))
            from manage import starting
            from manage.setup import load_settings

            loaded = load_settings(config, state_flag)
            options: dict[str, Any] = {"simulate": {"rate": rate}} if simulate else {}  # Any: JSON
            if scenario:
                options = {"simulate": played(scenario, speed)}
            if replay:
                options = {"simulate": replayed(replay, speed)}
            request = starting.request_of(loaded, options, foreground=foreground)
            limit = timeout if timeout is not None else loaded.settings.performance.startup_timeout_seconds
            running = starting.found_running(terminal, request)
            if running is None and not no_validate:
                starting.validate(terminal, request, feed=not simulate, origins=loaded.origins)
        if running is not None:
            hold.release()
            answer = starting.already(terminal, request, running, timeout=limit, wait=not no_wait)
            terminal.answer(answer, lambda: starting.text(answer))
            return Exit.OK
        with nothing_started(state):
            from manage import prepared

            prepared.kernels(terminal)
        if foreground:
            from manage.run_daemon import run_daemon

            def announce(told: Mapping[str, Any]) -> None:  # Any: JSON
                hold.release()  # the daemon's lock is held
                if told["event"] == "stopping":
                    terminal.note("- draining; Ctrl-C again cuts it short")
                    return
                what = f"listening, pid {told['pid']}" if told["event"] == "listening" else str(told["status"])
                terminal.note(f"{terminal.style('✓', 'good', error=True)} {what}")

            return run_daemon(request, announce)
        answer = starting.start_detached(terminal, request, hold, timeout=limit, wait=not no_wait)
        terminal.answer(answer, lambda: starting.text(answer))
        return Exit.OK
