"""`restart`: the same pipeline again, or with new settings; a stopped one is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manage.exits import CliError, Exit
from manage.interrupts import nothing_started
from manage.options import DURATION, common, pipeline, simulated_rate
from manage.starts import holding
from manage.terminal import Terminal


@click.command()
@click.option("--no-validate", is_flag=True, help="Skip the checks.")
@click.option(
    "--simulate/--no-simulate",
    default=None,
    help="The simulator as the feed, or the settings' own. Default: as it ran.",
)
@click.option(
    "--rate", type=float, callback=simulated_rate, help="Of the simulator, messages per second. Default: as it ran."
)
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
    grace: float | None,
    timeout: float | None,
) -> int:
    """Stop and start. Settings are checked first: what would not start is not stopped.

    Without --config the running pipeline's file is used again; without --simulate, --no-simulate and --rate it runs
    again as it ran, simulated or not. --rate alone changes the rate of a simulated feed.

    \b
    manage_pipeline.py restart
    manage_pipeline.py restart --simulate --rate 500
    manage_pipeline.py restart --config config/updated_config.json
    Related: start, stop, status
    """
    if rate is not None and simulate is False:
        raise click.UsageError("--rate goes with --simulate")
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
            _feed(options, simulate, rate)
            loaded = load_settings(config, state_flag)
            request = starting.request_of(loaded, options, foreground=False)
            if not no_validate:
                starting.validate(terminal, request, feed="simulate" not in options, origins=loaded.origins)
            from manage import prepared

            prepared.kernels(terminal)  # while the old one still runs
        terminal.note("- stopping")
        stopped = ending.stop_pipeline(terminal, request.state, grace=grace, then="and is not started again")
        terminal.note(f"- {ending.text(stopped)}")
        limit = timeout if timeout is not None else loaded.settings.performance.startup_timeout_seconds
        answer = starting.start_detached(terminal, request, hold, timeout=limit, wait=True)
        terminal.answer({**answer, "stopped": stopped}, lambda: starting.text(answer))
        return Exit.OK


def _feed(options: dict[str, Any], simulate: bool | None, rate: float | None) -> None:  # Any: JSON
    """Put the feed that was asked for into the options of the pipeline as it ran. Raises click.UsageError."""
    if simulate is False:
        options.pop("simulate", None)
    elif simulate:
        options["simulate"] = {"rate": rate}
    elif rate is not None:
        if "simulate" not in options:
            raise click.UsageError("--rate goes with --simulate: no simulated feed runs here")
        options["simulate"] = {**options["simulate"], "rate": rate}
