"""Limits and faults of the Lookup port on demand: batches, credits, holes, lag, errors, answers that break off."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.lookup_behaviour import ERRORS, LookupBehaviour
from infrastructure.simulator.lookup_credits import Credits
from tests.unit.simulator.conversation import DEADLINE_S, Client, Server, serving
from tests.unit.simulator.lookup_market import Trade, answer, idle, lookup, rows_of, sizes, us

TEN = [Trade(us(f"1000{second:02d}", micros=250_000), size=second) for second in range(1, 11)]


def faults(**values: object) -> Behaviour:
    return Behaviour(lookup=LookupBehaviour.from_mapping(values))


def filled(server: Server, trades: list[Trade] = TEN) -> None:
    server.simulator.feed.history.take(rows_of(trades))


def frozen_credits(server: Server) -> Callable[[float], None]:
    """Replace the account's credits by ones whose clock only moves when the returned function is called."""
    now = [0.0]
    server.simulator.feed.credits = Credits(50.0, lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


async def test_rows_go_out_in_batches_of_datapoints_per_send(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    real = Connection.send

    def counting(self: Connection, data: object, ends: object, symbols: object, sources: object) -> None:
        sent.append(len(ends))  # type: ignore[arg-type]
        real(self, data, ends, symbols, sources)  # type: ignore[arg-type]

    async with serving(idle()) as server:
        filled(server)
        client = await lookup(server)
        monkeypatch.setattr(Connection, "send", counting)
        for per_send, wanted in (("4", [4, 4, 2, 1]), ("", [10, 1]), ("0", [10, 1]), ("1", [1] * 11)):
            sent.clear()
            assert len(await answer(client, f"HTX,AAPL,,1,R,{per_send}", "R")) == 10
            assert sent == wanted


async def test_the_credits_are_shared_by_all_connections() -> None:
    async with serving(idle()) as server:
        filled(server)
        later = frozen_credits(server)
        one, two = await lookup(server), await lookup(server)
        for client in (one, two):
            for _ in range(25):
                assert len(await answer(client, "HTX,AAPL,1")) == 1
        refused = [["E", ERRORS["too_many"]]]
        assert await answer(one, "HTX,AAPL,1,0,R7", "R7") == refused
        assert await answer(two, "HIX,AAPL,60,1,0,E", "E") == refused
        assert len(await answer(two, "SST")) == 2  # tables cost nothing
        later(0.0625)
        assert [await answer(two, "HTX,AAPL,1") == refused for _ in range(4)] == [False] * 3 + [True]


async def test_a_request_that_cannot_be_read_costs_a_credit_too() -> None:
    async with serving(idle()) as server:
        frozen_credits(server)
        client = await lookup(server)
        for _ in range(50):
            assert (await answer(client, "HTX,"))[0][1] == ERRORS["parameters"]
        assert (await answer(client, "HTX,"))[0][1] == ERRORS["too_many"]


async def test_no_limit_where_none_is_wished() -> None:
    async with serving(idle(), behaviour=faults(requests_per_second="0")) as server:
        filled(server)
        client = await lookup(server, *["HTX,AAPL,1"] * 200)
        for _ in range(200):
            assert (await client.until("!ENDMSG!"))[0].startswith("LH,")


@pytest.mark.parametrize(
    ("hole", "wanted"),
    [
        ("20240306 100003-20240306 100004", [1, 2, 5, 6, 7, 8, 9, 10]),
        ("100009-235959", list(range(1, 9))),
        ("20240305 100003-20240305 100004", list(range(1, 11))),
    ],
)
async def test_a_hole_has_no_trades_and_no_bars(hole: str, wanted: list[int]) -> None:
    async with serving(idle(), behaviour=faults(holes=[hole])) as server:
        filled(server)
        client = await lookup(server)
        assert sizes(await answer(client, "HTX,AAPL,,1")) == wanted
        assert [int(row[6]) for row in await answer(client, "HIX,AAPL,1,,1")] == wanted
        assert (await answer(client, "HDX,AAPL"))[0][5] == "55"


async def test_lagging_history_shows_trades_later() -> None:
    now = us("120000")
    trades = [Trade(now - 5_000_000, size=1), Trade(now - 1_500_000, size=2)]
    async with serving(idle(now), behaviour=faults(lag_seconds="3")) as server:
        filled(server, trades)
        client = await lookup(server)
        shown = [sizes(await answer(client, "HTX,AAPL,,1"))]
        async with asyncio.timeout(DEADLINE_S):
            while shown[-1] != [1, 2]:
                await asyncio.sleep(0.1)
                shown.append(sizes(await answer(client, "HTX,AAPL,,1")))
        assert shown[0] == [1]


@pytest.mark.parametrize("name", list(ERRORS))
async def test_every_error_can_be_had_on_each_nth_request(name: str) -> None:
    async with serving(idle(), behaviour=faults(error=name, every="3")) as server:
        filled(server)
        client = await lookup(server)
        wrong = []
        for number in range(1, 7):
            await client.say(f"HTX,AAPL,1,0,R{number}")
            lines = await client.until(f"R{number},!ENDMSG!,")
            wrong.append(lines[0] == f"R{number},E,{ERRORS[name]},")
        assert wrong == [False, False, True] * 2


async def test_an_answer_can_lack_its_end() -> None:
    async with serving(idle(), behaviour=faults(never_ends="on", every="2")) as server:
        filled(server)
        client = await lookup(server)
        assert len(await answer(client, "HTX,AAPL,,1,A", "A")) == 10
        await client.say("HTX,AAPL,,1,B", "HTX,AAPL,1,1,C")
        lines = await client.until("C,!ENDMSG!,")
        assert [line[0] for line in lines] == ["B"] * 10 + ["C"] * 2


async def test_a_connection_can_be_cut_within_a_line_of_an_answer() -> None:
    async with serving(idle(), behaviour=faults(cut_after_rows="4")) as server:
        filled(server)
        client = await lookup(server)
        whole = [f"LH,2024-03-06 10:00:{second:02d}.250000" for second in range(1, 5)]
        await client.say("HTX,AAPL,,1,,2")
        data = await client.reader.read()
        *lines, rest = data.split(b"\r\n")
        assert [line.decode()[: len(whole[0])] for line in lines] == whole
        assert rest.startswith(b"LH,2024-03-06 10:00:05") and b"\n" not in rest
        assert (await server.happened("client_closed"))["reason"] == "cut in the middle of an answer"
        assert len(await answer(await lookup(server), "HTX,AAPL,4")) == 4  # shorter answers pass


async def test_answers_can_be_slow_and_others_are_not_held_up() -> None:
    async with serving(idle(), behaviour=faults(delay_seconds="0.2", batch_delay_seconds="0.1")) as server:
        filled(server)
        slow, quick = await lookup(server), await lookup(server)
        began = time.monotonic()
        await slow.say("HTX,AAPL,,1,,5")
        assert len(await answer(quick, "SST")) == 2
        await slow.until("!ENDMSG!")
        assert time.monotonic() - began >= 0.3


async def ids_of(client: Client, ends: int) -> str:
    seen = ""
    while ends:
        line = await client.next()
        seen += line[0]
        ends -= "!ENDMSG!" in line
    return seen


async def test_answers_of_a_connection_follow_each_other_or_alternate() -> None:
    for interleave in ("off", "on"):
        async with serving(idle(), behaviour=faults(interleave=interleave)) as server:
            filled(server)
            client = await lookup(server, "HTX,AAPL,,1,A,1", "HTX,AAPL,,1,B,1")
            seen = await ids_of(client, 2)
            assert sorted(seen) == ["A"] * 11 + ["B"] * 11
            assert ("AB" * 3 in seen) if interleave == "on" else seen == "A" * 11 + "B" * 11


async def test_a_long_answer_waits_for_a_client_that_reads_slowly() -> None:
    thousand = rows_of([Trade(us("100000", micros=number)) for number in range(1000)])
    behaviour = Behaviour(queue_limit=2 << 20)
    async with serving(idle(), behaviour=behaviour) as server:
        for _ in range(150):
            server.simulator.feed.history.take(thousand)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, server.simulator.addresses["lookup"])
        await loop.sock_sendall(slow, b"S,SET PROTOCOL,6.2\r\nHTX,AAPL,,1,,500\r\n")
        await server.happened("client_connected")
        (session,) = [each for each in server.simulator.feed.sessions if each.connection.port == "lookup"]
        other = await lookup(server)
        async with asyncio.timeout(DEADLINE_S):
            while session.connection.queued_bytes <= 256 << 10:
                await asyncio.sleep(0.01)
        assert len(await answer(other, "HTX,AAPL,3")) == 3
        assert 256 << 10 < session.connection.queued_bytes < 1 << 20
        client = Client(*await asyncio.open_connection(sock=slow))
        server.clients.append(client)
        assert len(await client.until("!ENDMSG!")) == 150_002


async def test_a_client_that_leaves_ends_its_answers() -> None:
    async with serving(idle(), behaviour=faults(batch_delay_seconds="3600")) as server:
        filled(server)
        client = await lookup(server, "HTX,AAPL,,1,,1", "HTX,AAPL")
        await client.until("LH,")
        await client.close()
        await server.happened("client_closed")
        async with asyncio.timeout(DEADLINE_S):
            while [task for task in asyncio.all_tasks() if "_history" in str(task.get_coro())]:
                await asyncio.sleep(0)
        assert not [each for each in server.simulator.feed.sessions if each.connection.port == "lookup"]


async def test_client_statistics_name_a_lookup_client_as_such() -> None:
    async with serving(idle()) as server:
        await lookup(server, "S,SET CLIENT NAME,history")
        client = await server.connect("admin", "S,CLIENTSTATS ON")
        line = (await client.until(lambda line: line.startswith("S,CLIENTSTATS,3")))[-1]
        assert line.split(",")[4] == "history" and line.split(",")[6:8] == ["", ""]


async def test_faults_are_switched_on_and_off_while_the_server_runs() -> None:
    async with serving(idle()) as server:
        filled(server)
        client, admin = await lookup(server), await server.connect("admin")

        async def switch(settings: str) -> str:
            await admin.say(f"S,SIMULATE LOOKUP,{settings}")
            return (await admin.until(lambda line: not line.startswith("S,STATS")))[-1]

        assert await switch("error=no_data,every=2,holes=100003-100004") == (
            "S,SIMULATE LOOKUP,error=no_data,every=2,holes=100003-100004"
        )
        assert sizes(await answer(client, "HTX,AAPL,,1")) == [1, 2, 5, 6, 7, 8, 9, 10]
        assert await answer(client, "HTX,AAPL,,1") == [["E", "!NO_DATA!", ""]]
        assert (await switch("error=wrong")).startswith("E,error is 'wrong'")
        assert (await switch("no_such=1")).startswith("E,unknown lookup setting 'no_such'")
        assert (await switch("history_bytes=1")).startswith("E,history_bytes")
        await switch("error=,requests_per_second=1")
        assert len(await answer(client, "HTX,AAPL,,1")) == 8  # what was not named stays
        assert (await answer(client, "HTX,AAPL,,1"))[0][1] == ERRORS["too_many"]
