"""The simulator under a supervisor, from the command line, and its configuration."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from infrastructure.simulator import columns, fields
from infrastructure.simulator.component import build
from infrastructure.simulator.config import SimulatorConfig, make_symbols
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.pace import ConfigError, parse_rate, parse_speed
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.sent_log import SentLog
from tests.doubles.context import FakeContext
from tests.unit.simulator.test_lobster import SIMPLE, pair

FREE = {"level1_port": 0, "level2_port": 0, "lookup_port": 0, "admin_port": 0}


async def test_component_is_ready_serves_reports_and_ends_on_drain(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    log = tmp_path / "sent.tsv"
    component = build({**FREE, "symbols": ["AAPL"], "rate": "max", "lines": 500, "sent_log": str(log)})
    running = asyncio.create_task(component.run(ctx))
    await asyncio.wait_for(ctx.became_ready.wait(), 30)
    assert component.server is not None
    reader, writer = await asyncio.open_connection(*component.server.addresses["level2"])
    writer.write(b"S,SET PROTOCOL,6.2\r\nWPL,AAPL\r\n")
    async with asyncio.timeout(20):
        while not component.server.finished:
            await reader.readline()
    ctx.drain.set()
    await asyncio.wait_for(running, 20)
    writer.close()
    sent = component.server.sent
    assert ctx.counts["component_sent_records_total"] == sent["lines"] == ctx.done
    assert ctx.counts["simulator_market_lines_total"] == sent["market_lines"] > 100
    assert ctx.gauges["flow"] == "finished"
    assert len(log.read_text().splitlines()) == sent["all_lines"] + 1


def test_a_later_run_of_a_day_repeats_no_tick_id() -> None:
    assert SimulatorConfig.from_mapping({"symbols": ["A"]}).first_tick_id == 1
    market = GeneratedMarket(("A",), rate=None, limit=200, first_tick_id=5000)
    market.start(0)
    market.advance(0, True)
    assert market._ticks[0].min() >= 4999 and market._ticks[0].max() > 5000


def test_configuration_takes_ports_and_symbols_from_the_settings() -> None:
    feed = {"host": "127.0.0.1", "port": 1, "level1_port": 2, "admin_port": 3, "lookup_port": 4}
    settings = {"symbols": ["AAPL"], "iqfeed": feed}
    config = SimulatorConfig.from_mapping({"settings": settings, "instance": 0, "rate": "0", "speed": "max"})
    assert (config.level2_port, config.level1_port, config.admin_port, config.lookup_port) == (1, 2, 3, 4)
    assert config.symbols == ("AAPL",) and config.rate == 0 and config.speed is None
    assert SimulatorConfig.from_mapping({"settings": settings, "symbols": ["B"]}).symbols == ("B",)
    with pytest.raises(ConfigError, match="unknown key 'rat'"):
        SimulatorConfig.from_mapping({"rat": 1})
    with pytest.raises(ConfigError, match="no symbols"):
        SimulatorConfig.from_mapping({}).market()


async def test_the_component_answers_lookups_as_configured_and_reports_its_history(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    lookup = {"history_bytes": 20_000, "never_ends": True, "every": 2}
    component = build({**FREE, "symbols": ["AAPL"], "rate": 20_000, "lines": 20_000, "lookup": lookup})
    running = asyncio.create_task(component.run(ctx))
    await asyncio.wait_for(ctx.became_ready.wait(), 30)
    assert component.server is not None
    async with asyncio.timeout(20):
        while not component.server.finished:
            await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection(*component.server.addresses["lookup"])
        writer.write(b"S,SET PROTOCOL,6.2\r\nHTX,AAPL,1,,A\r\nHTX,AAPL,1,,B\r\nSST,C\r\n")
        lines: list[bytes] = []
        while not lines or not lines[-1].startswith(b"C,!ENDMSG!"):
            lines.append(await reader.readline())
    assert [line[:4] for line in lines[1:5]] == [b"A,LH", b"A,!E", b"B,LH", b"C,LS"]
    ctx.drain.set()
    await asyncio.wait_for(running, 20)
    writer.close()
    history = component.server.feed.history.trades
    assert ctx.gauges["history_trades"] == history.capacity < 20_000 // 60
    assert ctx.gauges["history_trades_dropped"] == history.dropped > 0
    with pytest.raises(ConfigError, match="lookup: unknown lookup setting 'never'"):
        build({"lookup": {"never": 1}})


def test_a_replay_is_held_for_a_reader_and_a_paced_flow_is_not(tmp_path: Path) -> None:
    config = SimulatorConfig(replay=(str(pair(tmp_path, "ABC_2024-03-07", SIMPLE)),))
    assert config.held == 1 and isinstance(config.market(), ReplayMarket)
    assert SimulatorConfig.from_mapping({"replay": list(config.replay)}).held == 2
    assert SimulatorConfig.from_mapping({"replay": list(config.replay), "hold": 1}).held == 1
    assert SimulatorConfig(rate=100).held == 0
    assert SimulatorConfig(rate=None, hold=0).held == 1
    assert SimulatorConfig(rate=100, hold=2).held == 2


def test_rates_speeds_and_made_up_symbols() -> None:
    assert [parse_rate(text) for text in ("max", "0", "2.5")] == [None, 0.0, 2.5]
    assert [parse_speed(text) for text in ("max", "1x", "10X", "0.5")] == [None, 1.0, 10.0, 0.5]
    for bad in ("", "-1", "nan", "fast"):
        with pytest.raises(ConfigError):
            parse_rate(bad)
    for bad in ("0x", "x", "-1x", "inf"):
        with pytest.raises(ConfigError):
            parse_speed(bad)
    symbols = make_symbols(20_000, ("AAPL", "ZAAA"))
    assert len(set(symbols)) == 20_000 and symbols[:2] == ("AAPL", "ZAAA")
    assert make_symbols(1, ("AAPL", "MSFT")) == ("AAPL",)


def test_the_log_takes_lines_longer_than_its_buffer(tmp_path: Path) -> None:
    import numpy as np

    market = GeneratedMarket(("A",), rate=0)
    log = SentLog(market.names, tmp_path / "log")
    text = b"S," + b"x" * 3_000_000
    one = np.zeros(1, dtype=np.int64)
    data = np.frombuffer(text + b"\n", dtype=np.uint8)
    for _ in range(2):
        log.accepted(1, np.frombuffer(b"level1", dtype=np.uint8), data, one + data.size, one - 1, one, 0, 1, 0, 5)
    log.close()
    log.close()
    assert (tmp_path / "log").read_bytes().splitlines()[1:] == [
        b"%d\t1\tlevel1\t\t0\t5\t%s" % (n, text) for n in (1, 2)
    ]
    assert log.lines == 2


def test_columns_change_with_their_version() -> None:
    """numba caches kernels by their own file: a change of its constants must show in every kernel module."""
    codes = Path(fields.__file__).read_text().partition("def _minus")[0]
    text = (Path(columns.__file__).read_text() + codes).encode()
    known = {2: "dc3a15f652dad899674f45df12b5700bb2c1a993d366cf366951e7480f9b9792"}
    assert sha256(text).hexdigest() == known[columns.VERSION], "raise columns.VERSION and _COLUMNS, add the new digest"


async def test_command_serves_until_terminated_and_sums_up(tmp_path: Path) -> None:
    ports = ["--level1-port", "0", "--level2-port", "0", "--lookup-port", "0", "--admin-port", "0"]
    program = "import sys; from manage.cli import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, "simulate", *ports, "--symbols", "aapl,MSFT", "--rate", "max", "--lines", "3000",
        "--sent-log", str(tmp_path / "sent.tsv"),
        cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert process.stderr is not None and process.stdout is not None
    try:
        first = (await asyncio.wait_for(process.stderr.readline(), 50)).decode()
        addresses = dict(part.split("=") for part in first.split()[1:])
        assert first.startswith("listening ") and addresses.keys() == {"level1", "level2", "lookup", "admin"}
        host, _, port = addresses["level2"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"S,SET PROTOCOL,6.2\r\nWPL,AAPL\r\nWPL,MSFT\r\n")
        while b"flow_finished" not in await asyncio.wait_for(process.stderr.readline(), 50):
            assert not reader.at_eof()
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        writer.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    summary = json.loads(out)
    assert summary["generated_lines"] == 3000 and summary["flow"] == "finished" and summary["connections"] == 1
    assert summary["sent"]["market_lines"] > 1000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate", "fast"], "no rate"),
        (["--symbols", "A B"], "no symbol"),
        (["--duration", "soon"], "not a duration"),
        (["--lookup", "slow=3"], "unknown lookup setting 'slow'; known: history_bytes, "),
        (["--lookup", "holes=noon"], "'noon' is no hole"),
        (["--replay", __file__], "symbol and day come from the name"),
    ],
)
def test_command_refuses_what_it_cannot_use(arguments: list[str], complaint: str) -> None:
    from click.testing import CliRunner

    from manage.commands.simulate import simulate
    from manage.exits import CliError, Exit

    ports = ["--level1-port", "0", "--level2-port", "0", "--lookup-port", "0", "--admin-port", "0"]
    result = CliRunner().invoke(simulate, [*ports, *arguments])
    assert isinstance(result.exception, CliError)
    assert complaint in str(result.exception) and result.exception.exit_code == Exit.USAGE
