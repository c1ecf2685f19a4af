"""`demo`: the whole pipeline in one foreground program, with a simulated feed and embedded services."""

from __future__ import annotations

from pathlib import Path

import click

from manage.feed_options import FeedOptions, feed_options
from manage.options import RATE, SOME_TIME, common
from manage.starts import holding
from manage.terminal import Terminal


@click.command()
@click.option(
    "--rate", default="1000", show_default=True, type=RATE, metavar="R", help="Market lines per second, or max."
)
@click.option(
    "--symbols", "count", default=8, show_default=True, type=click.IntRange(1, 2000), help="How many symbols."
)
@feed_options
@click.option(
    "--depth",
    default="levels",
    show_default=True,
    type=click.Choice(["levels", "orders"]),
    help="Level 2 by price level or by order.",
)
@click.option("--duration", type=SOME_TIME, default=None, help="End after this long. Default: Ctrl-C.")
@click.option(
    "--state-dir", default="", metavar="DIR", help="Keep the state here. Default: a fresh one, removed again."
)
@common
def demo(
    terminal: Terminal,
    rate: str,
    count: int,
    feed: FeedOptions,
    depth: str,
    duration: float | None,
    state_dir: str,
) -> int:
    """Everything embedded, a simulated feed, nothing to install; ends with the counts at every station.

    \b
    manage_pipeline.py demo
    manage_pipeline.py demo --rate 5000 --symbols 50 --duration 20s
    manage_pipeline.py demo --replay AMZN_2012-06-21_message_5.csv --depth orders
    manage_pipeline.py demo --scenario crash
    Related: start --simulate, status, monitor
    """
    if feed.replay and feed.scenario:
        raise click.UsageError("--replay or --scenario, not both")
    rate_source = click.get_current_context().get_parameter_source("rate")
    if feed.scenario and rate_source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--rate does not go with --scenario: its phases say the rate")
    feed.check(simulated=True, rate=False)
    state = Path(state_dir).resolve() if state_dir else None
    with holding(state) as hold:
        from manage import prepared

        prepared.redis_server()
        prepared.kernels(terminal)
        wished = feed.config(rate, depth, terminal.note)
        say = terminal.text if terminal.for_people else terminal.note
        say("Demo: starting an embedded feed, broker and stores")
        from manage.demo_session import DemoSession

        session = DemoSession(terminal, wished, count, duration, state, depth)
        return session.run(hold)
