"""`restart`: the same pipeline again, or with new settings; a stopped one is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manage.exits import CliError, Exit
from manage.feed_options import FeedOptions, changed, feed_options
from manage.interrupts import nothing_started
from manage.options import DURATION, common, pipeline, simulated_rate
from manage.replay_feed import depth_of, symbol_of
from manage.starts import holding
from manage.terminal import Terminal


@click.command()
@click.option("--no-validate", is_flag=True, help="Skip the checks; go on trying where services do not answer.")
@click.option(
    "--simulate/--no-simulate",
    default=None,
    help="The simulator as the feed, or the settings' own. Default: as it ran.",
)
@click.option(
    "--rate", type=float, callback=simulated_rate, help="Of the simulator, messages per second. Default: as it ran."
)
@feed_options
@click.option("--grace", type=DURATION, default=None, help="How long draining may take. Default: the settings'.")
@click.option("--timeout", type=DURATION, default=None, help="How long to wait until ready. Default: the settings'.")
@pipeline
@common
def restart(
    terminal: Terminal,
    state: Path,
    config: str,
    state_flag: str,
    no_validate: bool,
    simulate: bool | None,
    rate: float | None,
    feed: FeedOptions,
    grace: float | None,
    timeout: float | None,
) -> int:
    """Stop and start. Settings are checked first: what would not start is not stopped.

    Without --config the running pipeline's file is used again; without --simulate, --no-simulate and options of the
    simulator it runs again as it ran, simulated or not. Without --simulate these change what they name of a simulated
    feed (--rate, --scenario and --replay each take the place of the market that ran, --speed alone is that of the
    replay or scenario that ran); with it they are all there is.

    \b
    manage_pipeline.py restart
    manage_pipeline.py restart --simulate --rate 500
    manage_pipeline.py restart --scenario crash
    manage_pipeline.py restart --config config/updated_config.json
    Related: start, stop, status
    """
    if simulate is False:
        changed(None, feed, simulate=False, rate=rate)  # refuses what needs a simulator
    with holding(state) as hold:
        with nothing_started(state, "the pipeline goes on as it is"):
            terminal.note("- checking settings" + ("" if no_validate else " and services"))
            from manage import ending, instance, starting
            from manage.setup import load_settings

            record = instance.read_record(state)
            options: dict[str, Any] = {}  # Any: JSON
            if record is not None and record.alive():
                options = {key: value for key, value in record.options.items() if key != "log_directory"}
                config = config or record.config
            if "demo" in options:
                raise CliError(
                    f"a demo runs on {state}; it cannot be restarted",
                    next_step=f"manage_pipeline.py stop --state-dir {state}",
                )
            running = options.pop("simulate", None)
            loaded = load_settings(config, state_flag)
            depth = depth_of(loaded.settings, [symbol_of(feed.replay)] if feed.replay else [])
            wished = changed(running, feed, simulate=simulate, rate=rate, depth=depth, note=terminal.note)
            if wished is not None:
                options["simulate"] = wished
            request = starting.request_of(loaded, options, foreground=False)
            if not no_validate:
                starting.validate(terminal, request, feed="simulate" not in options, origins=loaded.origins)
            from manage import prepared
            from manage.found_symbols import searched

            prepared.kernels(terminal)  # while the old one still runs
            request = searched(terminal, request)
        terminal.note("- stopping")
        stopped = ending.stop_pipeline(terminal, request.state, grace=grace, then="and is not started again")
        terminal.note(f"- {ending.text(stopped)}")
        limit = timeout if timeout is not None else loaded.settings.performance.startup_timeout_seconds
        answer = starting.start_detached(terminal, request, hold, timeout=limit, wait=True, stays=no_validate)
        terminal.answer({**answer, "stopped": stopped}, lambda: starting.text(answer))
        return Exit.OK
