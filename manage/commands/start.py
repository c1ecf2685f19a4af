"""`start`: check, start, wait until ready. `--foreground` is the daemon itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from manage.exits import Exit
from manage.feed_options import FeedOptions, feed_options
from manage.interrupts import nothing_started
from manage.options import DURATION, common, pipeline, simulated_rate
from manage.replay_feed import depth_of, symbol_of
from manage.starts import holding
from manage.terminal import Terminal


@click.command()
@click.option("--no-validate", is_flag=True, help="Skip the checks; go on trying where services do not answer.")
@click.option("--foreground", is_flag=True, help="Be the daemon: no detaching, Ctrl-C drains.")
@click.option("--simulate", is_flag=True, help="The simulator as the feed of the configured services.")
@click.option(
    "--rate",
    type=float,
    callback=simulated_rate,
    help="With --simulate: messages per second. Default: the simulator's.",
)
@feed_options
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
    feed: FeedOptions,
    timeout: float | None,
    no_wait: bool,
    state: Path,
) -> int:
    """Start the pipeline and wait until it is ready; finding it running is success.

    \b
    manage_pipeline.py start
    manage_pipeline.py start --simulate
    manage_pipeline.py start --simulate --scenario halt --symbol-limit 100
    manage_pipeline.py start --simulate --replay day.rec.zst --speed 10x
    Related: stop, restart, status, demo
    """
    if rate is not None and not simulate:
        raise click.UsageError("--rate goes with --simulate")
    feed.check(simulated=simulate, rate=rate is not None)
    with holding(state) as hold:
        with nothing_started(state):
            terminal.note("- checking settings" + ("" if no_validate else " and services"))
            from manage import starting
            from manage.setup import load_settings

            loaded = load_settings(config, state_flag)
            options: dict[str, Any] = {}  # Any: JSON
            if simulate:
                depth = depth_of(loaded.settings, [symbol_of(feed.replay)] if feed.replay else [])
                options = {"simulate": feed.config(rate, depth, terminal.note)}
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
            from manage.found_symbols import searched

            prepared.kernels(terminal)
            request = searched(terminal, request)
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
        answer = starting.start_detached(terminal, request, hold, timeout=limit, wait=not no_wait, stays=no_validate)
        terminal.answer(answer, lambda: starting.text(answer))
        return Exit.OK
