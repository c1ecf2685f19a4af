"""The admin port, and what its commands do to the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from tests.unit.simulator.conversation import serving

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "iqfeed"


def idle() -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=0, seed=1)


async def test_statistics_start_at_once_and_come_each_second() -> None:
    async with serving(idle()) as server:
        watcher = await server.level1("wAAPL")
        await watcher.until("P,")
        client = await server.connect("admin")
        lines = [await client.next() for _ in range(3)]
        for line in lines:
            fields = line.split(",")
            assert len(fields) == 22 and fields[:2] == ["S", "STATS"] and fields[-1] == ""
            assert fields[12] == "Connected"
            assert fields[5] == "1"  # symbols watched
            assert fields[6] == "2"  # clients


async def test_client_statistics_name_every_client() -> None:
    async with serving(idle()) as server:
        level1 = await server.level1("S,SET CLIENT NAME,reader", "wAAPL", "wFB")
        await level1.settled()
        await server.level2("S,SET CLIENT NAME,deep", "WPL,AAPL")
        client = await server.connect("admin", "S,CLIENTSTATS ON")
        await client.until("S,CLIENTSTATS")
        lines = [client.lines[-1], *(await client.until("S,STATS"))[:-1]]
        rows = {line.split(",")[2]: line.split(",") for line in lines}
        assert rows.keys() == {"0", "1", "2"}
        assert rows["1"][4] == "reader" and rows["1"][6:8] == ["2", "0"]
        assert float(rows["1"][9]) > float(rows["1"][8]) > 0
        assert rows["0"][6] == rows["0"][7] == ""
        await client.say("S,CLIENTSTATS OFF")
        await client.until("S,STATS")
        assert (await client.next()).startswith("S,STATS")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("S,REGISTER CLIENT APP,PRODUCT,1.0", "S,REGISTER CLIENT APP COMPLETED,"),
        ("S,REMOVE CLIENT APP,PRODUCT,1.0", "S,REMOVE CLIENT APP COMPLETED,"),
        ("S,SET LOGINID,3244", "S,CURRENT LOGINID,3244,"),
        ("S,SET PASSWORD,36472", "S,CURRENT PASSWORD,(3*****2),"),
        ("S,SET SAVE LOGIN INFO,On", "S,LOGIN INFO SAVED,"),
        ("S,SET SAVE LOGIN INFO,Off", "S,LOGIN INFO NOT SAVED,"),
        ("S,SET AUTOCONNECT,On", "S,AUTOCONNECT ON,"),
        ("S,SET AUTOCONNECT,Off", "S,AUTOCONNECT OFF,"),
        ("S,SET PROTOCOL,6.2", "S,CURRENT PROTOCOL,6.2,"),
        ("wAAPL", "E,!SYNTAX_ERROR!,"),
    ],
)
async def test_login_commands_are_answered(command: str, answer: str) -> None:
    async with serving(idle()) as server:
        client = await server.connect("admin", command)
        assert (await client.until(lambda line: not line.startswith("S,STATS")))[-1] == answer


async def test_disconnect_and_connect_reach_all_ports_and_watches_get_their_state_again() -> None:
    async with serving(GeneratedMarket(("AAPL",), rate=5000, seed=1), behaviour=Behaviour(clear_depth=True)) as server:
        level1, level2 = await server.level1("wAAPL"), await server.level2("WPL,AAPL")
        await level1.until("Q,")
        await level2.until("8,")
        admin = await server.connect("admin", "S,DISCONNECT")
        stats = (await admin.until(lambda line: "Not Connected" in line))[-1]
        assert len(stats.split(",")) == 22
        await level1.until("S,SERVER DISCONNECTED")
        await level2.until("S,SERVER DISCONNECTED")
        assert {line[0] for line in await level1.until("T,")} == {"T"}
        await admin.say("S,CONNECT")
        again = [line for line in await level1.until("Q,") if line[0] != "T"]
        assert [line[0] for line in again] == ["S", "F", "P", "Q"] and again[0] == "S,SERVER CONNECTED"
        depth = [line for line in await level2.until("8,") if line[0] not in "T"]
        assert depth[:3] == ["S,SERVER CONNECTED", "S,CLEAR DEPTH,AAPL,B,", "S,CLEAR DEPTH,AAPL,A,"]
        assert {line[0] for line in depth[3:-1]} <= {"7", "9"} and depth[3][0] == "7"
        stats = (await admin.until(lambda line: ",Connected," in line))[-1]
        assert stats.split(",")[8] == "1"  # reconnections


async def test_watches_are_lost_with_the_upstream_link_where_so_told() -> None:
    async with serving(idle(), behaviour=Behaviour(watches_survive=False)) as server:
        level1 = await server.level1("wAAPL", "S,DISCONNECT", "S,CONNECT", "S,REQUEST WATCHES")
        lines = await level1.until("S,WATCHES")
        assert lines[-1] == "S,WATCHES"
        assert sum(line[0] == "P" for line in lines) == 1


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"recorded lines are not at {FIXTURES}")
async def test_lines_have_as_many_fields_as_recorded_ones() -> None:
    stats = (FIXTURES / "admin_61_stats.txt").read_text().splitlines()[0]
    client_stats = (FIXTURES / "admin_61_clientstats.txt").read_text().splitlines()[0]
    async with serving(idle()) as server:
        client = await server.connect("admin", "S,CLIENTSTATS ON")
        assert (await client.next()).count(",") == stats.count(",")
        assert (await client.until("S,CLIENTSTATS"))[-1].count(",") == client_stats.count(",")
