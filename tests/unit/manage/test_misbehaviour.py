"""`simulate --send`, `--faults` and `--help-faults`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infrastructure.simulator import fault_script
from infrastructure.simulator.fault_kinds import KINDS
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.server import Simulator, level1_port
from manage.commands.simulate import simulate
from manage.exits import CliError, Exit
from tests.unit.simulator.conversation import serving


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, [*arguments])


async def test_a_fault_is_sent_to_a_running_simulator() -> None:
    async with serving(GeneratedMarket(("AAPL",), rate=0, seed=1)) as server:
        port = str(server.simulator.addresses["admin"][1])
        client = await server.level1("wAAPL")
        await client.until("P,")
        result = await asyncio.to_thread(run, "--send", "drop port=level1", "--admin-port", port)
        assert result.exit_code == 0
        assert "drop,port=level1,how=fin" in result.output
        await client.rest()
        result = await asyncio.to_thread(run, "--send", "silence symbol=ZZZ", "--admin-port", port)
        assert isinstance(result.exception, CliError)
        assert "'ZZZ' is no symbol of this market" in str(result.exception)


async def test_what_listens_but_is_no_admin_port_is_told_apart_from_nothing() -> None:
    async with serving(GeneratedMarket(("AAPL",), rate=0, seed=1)) as server:
        port = str(server.simulator.addresses["level2"][1])
        result = await asyncio.to_thread(run, "--send", "drop", "--admin-port", port)
        assert isinstance(result.exception, CliError)
        assert "is no simulator's admin port" in str(result.exception) or "refused it" in str(result.exception)
    result = await asyncio.to_thread(run, "--send", "drop", "--admin-port", port)
    assert isinstance(result.exception, CliError)
    assert "no simulator answers" in str(result.exception)


@pytest.mark.parametrize("arguments", [("--send", "dorp"), ("--send", "slow bytes_per_second=none")])
def test_a_mistake_is_refused_before_anything_is_sent(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--admin-port", "1")
    assert isinstance(result.exception, CliError)
    assert result.exception.exit_code == Exit.USAGE


def test_the_list_of_faults_has_each() -> None:
    output = run("--help-faults").output
    assert all(name in output for name in KINDS)


def test_a_bad_script_is_refused_with_its_line_before_anything_is_served(tmp_path: Path) -> None:
    script = tmp_path / "faults.txt"
    script.write_text("1s drop\n2s dorp\n")
    ports = [part for name in ("level1", "level2", "lookup", "admin") for part in (f"--{name}-port", "0")]
    result = run("--symbols", "A", "--faults", str(script), *ports)
    assert isinstance(result.exception, CliError)
    assert "faults.txt:2: 'dorp' is no fault" in str(result.exception)


async def test_a_script_is_played_from_the_start_of_the_flow(tmp_path: Path) -> None:
    script = tmp_path / "faults.txt"
    script.write_text("0 clock seconds=-60 duration=0.1\n0.2 upstream duration=0.1\n")
    seen: list[str] = []
    simulator = Simulator(
        GeneratedMarket(("A",), rate=100, seed=1), [level1_port()], faults=fault_script.load(script),
        event=lambda name, fields: seen.append(f"{name} {fields.get('fault', '').partition(',')[0]}".strip()),
    )  # fmt: skip
    await simulator.open()
    running = asyncio.create_task(simulator.run())
    try:
        async with asyncio.timeout(10):
            while len(seen) < 5:
                await asyncio.sleep(0.01)
    finally:
        simulator.stop()
        await running
        await simulator.close()
    faults = [event for event in seen if event != "flow_started"]
    assert faults[:4] == [
        "fault_begins clock", "fault_ends clock", "fault_begins upstream", "fault_ends upstream",
    ]  # fmt: skip
