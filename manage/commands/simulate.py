"""`simulate`: an IQFeed server on this machine that generates a market or replays recorded days."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manage.exits import CliError, Exit
from manage.feed_options import behaviour_options, taken_behaviour
from manage.options import OutFile, common
from manage.terminal import Terminal


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--level1-port", default=5009, show_default=True, type=click.IntRange(0, 65535), help="0 = any free one.")
@click.option("--level2-port", default=9200, show_default=True, type=click.IntRange(0, 65535), help="Market depth.")
@click.option("--lookup-port", default=9100, show_default=True, type=click.IntRange(0, 65535), help="History, tables.")
@click.option("--admin-port", default=9300, show_default=True, type=click.IntRange(0, 65535), help="Statistics, login.")
@click.option("--symbols", default="", metavar="A,B,C", help="Symbols of the generated market [the settings' symbols].")
@click.option("--symbols-count", type=click.IntRange(1, 20_000), help="So many symbols; names are made up as needed.")
@click.option("--rate", default="1000", show_default=True, metavar="R", help="Market lines/s; 0 = idle, or max.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same market.")
@click.option("--lines", "--max-lines", "lines", type=click.IntRange(min=1), help="End the flow after so many lines.")
@click.option(
    "--replay", multiple=True, type=click.Path(exists=True, path_type=Path), metavar="PATH",
    help="Play a recording or a spool directory, or LOBSTER pairs, each named by its message file.",
)  # fmt: skip
@click.option("--scenario", default="", metavar="NAME|FILE", help="Phases of a JSON file, or of a shipped one: calm, "
              "open, close, halt, crash, thin, corrections, day_roll, dst_night.")  # fmt: skip
@click.option("--describe", is_flag=True, help="Serve nothing: statistics of --duration [10m] of market time.")
@click.option(
    "--recorded", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="MESSAGE_FILE",
    help="With --describe: a LOBSTER pair to set beside it.",
)  # fmt: skip
@click.option("--speed", default="1x", show_default=True, metavar="1x|10x|max", help="Market time against wall time.")
@click.option("--depth", default="levels", show_default=True, type=click.Choice(["levels", "orders"]),
              help="With --replay: orders serves WOR too.")  # fmt: skip
@click.option("--hold", type=click.IntRange(min=0), help="Wait until so many connections watch something.")
@click.option("--sent-log", type=OutFile(writable=False), help="Write every line a socket took.")
@click.option("--duration", default="", metavar="D", help="End after 45, 45s, 5m; default: run until Ctrl-C.")
@click.option("--queue-limit", default=64, show_default=True, type=click.IntRange(1, 4096), metavar="MIB",
              help="Close a client that leaves more unread.")  # fmt: skip
@behaviour_options
@click.option("--protocol", default="6.2", show_default=True, help="The newest that is spoken; older ones are too.",
              type=click.Choice(["6.2", "6.1", "6.0", "5.2", "5.1", "5.0"]))  # fmt: skip
@click.option("--answer-protocol", default="", metavar="V", help="Answer SET PROTOCOL with this, whatever was asked.")
@click.option("--refuse-symbol-in-select", is_flag=True, help="Ignore SELECT lists that name Symbol.")
@click.option(
    "--lookup", multiple=True, metavar="NAME[=VALUE]",
    help="Limit or fault of the Lookup port, e.g. lag_seconds=3, never_ends, cut_after_rows=100, error=no_data,"
    " holes=100000-100500; may be repeated. An unknown name lists all.",
)  # fmt: skip
@click.option("--faults", default="", metavar="FILE", help="Misbehave by a script: a time and a fault on each line.")
@click.option("--send", metavar="FAULT", help="Serve nothing: tell the simulator on --admin-port to misbehave, e.g."
              " 'drop port=level1'.")  # fmt: skip
@click.option("--help-faults", is_flag=True, help="List the faults with their options.")
@common
def simulate(terminal: Terminal, **flags: Any) -> None:  # Any: click values
    """An IQFeed server: Level 1, Level 2 by price level and by order, Lookup (history of what it made), Admin.

    \b
    manage_pipeline.py simulate --symbols AAPL,MSFT --rate 5000
    manage_pipeline.py simulate --replay day.rec.zst --speed 10x --hold 2
    manage_pipeline.py simulate --scenario crash --speed 2x
    manage_pipeline.py simulate --describe --scenario calm --recorded AMZN_2012-06-21_message_5.csv
    manage_pipeline.py simulate --replay AMZN_2012-06-21_message_5.csv --speed max --sent-log sent.tsv
    manage_pipeline.py simulate --send "half_open port=level2 duration=30"
    """
    import asyncio

    if flags["help_faults"] or flags["send"] is not None:
        from manage.misbehaviour import faults, send

        if flags["help_faults"]:
            faults(terminal)
        else:
            send(terminal, flags["send"], flags["host"], flags["admin_port"])
        return

    from infrastructure.simulator.lobster_files import LobsterError
    from infrastructure.simulator.pace import ConfigError
    from infrastructure.simulator.recording_sources import RecordingError
    from manage import prepared

    prepared.kernels(terminal)
    try:
        config, seconds = _config(flags)
        if flags["describe"]:
            from manage.described import described

            described(terminal, config, flags["recorded"], seconds)
            return
        document = asyncio.run(_serve(terminal, config, seconds))
    except (ConfigError, LobsterError, RecordingError) as error:
        raise CliError(
            str(error), exit_code=Exit.USAGE, code="usage", next_step="manage_pipeline.py simulate --help"
        ) from error
    terminal.answer(document, lambda: _text(document))


def _config(flags: dict[str, Any]) -> tuple[Any, float | None]:  # Any: SimulatorConfig, imported late
    from config import durations
    from infrastructure.simulator.config import SimulatorConfig, make_symbols, parse_behaviour, parse_lookup
    from infrastructure.simulator.feed import Behaviour
    from infrastructure.simulator.pace import ConfigError, parse_rate, parse_speed

    symbols = _names(flags["symbols"])
    if not symbols and not flags["replay"]:
        symbols = _settings_symbols()
    if flags["symbols_count"]:
        symbols = make_symbols(flags["symbols_count"], symbols)
    try:
        seconds = durations.seconds(flags["duration"]) if flags["duration"] else None
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if flags["scenario"] and (flags["replay"] or flags["lines"] or _typed("rate")):
        raise ConfigError("--scenario goes without --replay, --lines and --rate: its phases say rate and length")
    if flags["recorded"] and not flags["describe"]:
        raise ConfigError("--recorded goes with --describe; --replay serves a recorded day")
    if flags["lines"] and flags["replay"]:
        raise ConfigError("--lines ends a generated flow; a replay ends with its files")
    config = SimulatorConfig(
        host=flags["host"],
        level1_port=flags["level1_port"],
        level2_port=flags["level2_port"],
        lookup_port=flags["lookup_port"],
        admin_port=flags["admin_port"],
        symbols=symbols,
        rate=parse_rate(flags["rate"]),
        seed=flags["seed"],
        lines=flags["lines"],
        replay=tuple(str(path) for path in flags["replay"]),
        scenario=flags["scenario"],
        speed=parse_speed(flags["speed"]),
        depth=flags["depth"],
        hold=flags["hold"],
        sent_log=str(flags["sent_log"] or ""),
        faults=flags["faults"],
        behaviour=Behaviour(
            queue_limit=flags["queue_limit"] << 20,
            **parse_behaviour(taken_behaviour(flags)),
            newest_protocol=flags["protocol"],
            answer_protocol=flags["answer_protocol"],
            refuse_symbol_in_select=flags["refuse_symbol_in_select"],
            lookup=parse_lookup(_lookup(flags["lookup"])),
        ),
    )
    return config, seconds


def _typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _lookup(settings: tuple[str, ...]) -> dict[str, Any]:  # Any: text, or several under one name
    given: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        name = name.strip()
        given[name] = [*given.get(name, []), value.strip()] if name == "holes" else value.strip()
    return given


def _names(text: str) -> tuple[str, ...]:
    from infrastructure.simulator.pace import ConfigError

    names = tuple(dict.fromkeys(name.strip().upper() for name in text.split(",") if name.strip()))
    for name in names:
        if len(name) > 30 or not name.isascii() or any(ch.isspace() for ch in name):
            raise ConfigError(f"{name!r} is no symbol: at most 30 letters without a blank")
    return names


def _settings_symbols() -> tuple[str, ...]:
    from config.settings import SettingsError, load
    from infrastructure.simulator.listing import LISTED

    try:
        settings = load().settings
        return LISTED if settings.symbols_search.text else tuple(settings.symbols)
    except SettingsError as error:
        raise CliError(
            f"cannot read the settings for their symbols: {error}",
            exit_code=Exit.CONFIG,
            code="config",
            next_step="manage_pipeline.py simulate --symbols A,B",
        ) from error


async def _serve(terminal: Terminal, config: Any, seconds: float | None) -> dict[str, Any]:  # Any: JSON
    """Serve until a signal or the duration's end; returns the summary."""
    import asyncio
    import signal
    import time

    from infrastructure.simulator.server import Simulator
    from infrastructure.simulator.warm import warm

    def say(name: str, fields: dict[str, Any]) -> None:  # Any: fields of a log line
        terminal.note(" ".join([name, *(f"{key}={value}" for key, value in fields.items())]))

    await asyncio.to_thread(warm)
    market = await asyncio.to_thread(config.market)
    server = Simulator(
        market,
        config.ports(),
        host=config.host,
        behaviour=config.behaviour,
        hold=config.held,
        seed=config.seed,
        faults=config.script(),
        sent_log=Path(config.sent_log) if config.sent_log else None,
        event=say,
    )
    try:
        await server.open()
    except OSError as error:
        raise CliError(
            error.strerror or str(error),
            code="cannot_listen",
            next_step="manage_pipeline.py simulate --level1-port 0 --level2-port 0 --lookup-port 0 --admin-port 0",
        ) from error
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    say("listening", {name: f"{host}:{port}" for name, (host, port) in server.addresses.items()})
    if config.held and not server.started:
        say("flow_held", {"until_watching_connections": config.held})
    timer = loop.call_later(seconds, server.stop) if seconds is not None else None
    began = time.monotonic()
    try:
        await server.run()
    finally:
        if timer is not None:
            timer.cancel()
        await server.close()
    return {
        "addresses": {name: f"{host}:{port}" for name, (host, port) in server.addresses.items()},
        "seconds": round(time.monotonic() - began, 3),
        "symbols": len(market.names.symbols),
        "generated_lines": market.lines,
        "flow": "finished" if server.finished else "running" if server.started else "held",
        "connections": server.connections,
        "sent": server.sent,
        "history": {"trades": server.feed.history.trades.kept, "dropped": server.feed.history.trades.dropped},
        "sent_log": config.sent_log or None,
    }


def _text(document: dict[str, Any]) -> str:  # Any: JSON
    sent = document["sent"]
    return "\n".join(
        [
            f"served      {document['seconds']:.1f} s, {document['connections']} connections",
            f"generated   {document['generated_lines']:,} lines of {document['symbols']} symbols, {document['flow']}",
            f"sent        {sent['market_lines']:,} market lines, {sent['clock_lines']:,} T, {sent['bytes']:,} bytes",
        ]
        + [_history_text(document["history"])]
        + ([f"sent log    {document['sent_log']}"] if document["sent_log"] else [])
    )


def _history_text(history: dict[str, int]) -> str:
    dropped = f", {history['dropped']:,} older ones dropped" if history["dropped"] else ""
    return f"history     {history['trades']:,} trades{dropped}"
