"""The client against a scripted server: several requests on one socket, every error, loss, answers that never end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipeline_orchestrator.lookup import refusals
from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.credit_bucket import CreditBucket
from pipeline_orchestrator.lookup.requests import Request, newest_days, newest_ticks, reference_table, symbol_search
from tests.doubles.clock import FakeClock
from tests.doubles.fake_lookup import FakeLookup, LookupPeer, id_of

ASKED = newest_ticks("AAPL", 10)
Script = Callable[[list[str]], Any]


def tick(number: int, request_id: str = "{id}") -> bytes:
    second = f"{number // 60 % 60:02}:{number % 60:02}"
    return (
        f"{request_id},LH,2024-01-02 10:{second}.5,{number + 1}.25,1,{number + 1},1,2,{number},C,5,01,0,2,\r\n".encode()
    )


def answer(count: int, request_id: str = "{id}") -> bytes:
    return b"".join(tick(number, request_id) for number in range(count)) + f"{request_id},!ENDMSG!,\r\n".encode()


@asynccontextmanager
async def client_of(server: FakeLookup, **options: Any) -> AsyncIterator[LookupClient]:
    options.setdefault("bucket", CreditBucket(FakeClock()))
    async with LookupClient("127.0.0.1", server.port, **options) as client:
        yield client


async def sizes(client: LookupClient, request: Request = ASKED, **options: Any) -> list[int]:
    """The sizes of all ticks, in order; nothing may be refused."""
    found = []
    async for part in client.stream(request, **options):
        assert part.refused == ()
        found += part.rows.column("total_volume").to_pylist()
    return found


async def test_the_protocol_is_agreed_before_the_first_request() -> None:
    async with FakeLookup(on=lambda _: answer(3)) as server, client_of(server) as client:
        assert await sizes(client) == [1, 2, 3]
        assert server.commands[:2] == ["S,SET PROTOCOL,6.2", "S,SET CLIENT NAME,pipeline-lookup"]
        assert server.requests == [["HTX", "AAPL", "10", "1", "R1", "500"]]


@pytest.mark.parametrize("said", [b"S,CURRENT PROTOCOL,6.1,\r\n", b"E,!SYNTAX_ERROR!,\r\n"])
async def test_another_protocol_is_no_basis_to_go_on(said: bytes) -> None:
    async with FakeLookup(protocol=said) as server:
        with pytest.raises(refusals.ProtocolRefusedError):
            await LookupClient("127.0.0.1", server.port).open()


async def test_a_server_that_never_agrees_is_given_up() -> None:
    async with FakeLookup(protocol=None) as server:
        with pytest.raises(refusals.AnswerTimeoutError, match="SET PROTOCOL"):
            await LookupClient("127.0.0.1", server.port, connect_seconds=0.1).open()


async def test_where_nothing_listens_the_address_is_named() -> None:
    async with FakeLookup() as server:
        port = server.port
    with pytest.raises(refusals.LookupLostError, match=f"127.0.0.1:{port}: connection refused"):
        await LookupClient("127.0.0.1", port).open()


async def test_answers_mixed_line_by_line_are_told_apart() -> None:
    waiting: list[str] = []

    async def mixed(peer: LookupPeer, fields: list[str]) -> None:
        waiting.append(id_of(fields))
        if len(waiting) == 3:
            for number in range(500):
                for place, request_id in enumerate(waiting):
                    await peer.send(tick(number + 1000 * place, request_id))
            await peer.send(b"".join(f"{request_id},!ENDMSG!,\r\n".encode() for request_id in waiting))

    async with FakeLookup(on=lambda _: mixed) as server, client_of(server) as client:
        found = await asyncio.gather(*(sizes(client) for _ in range(3)))
        assert sorted(found) == [[1000 * place + number + 1 for number in range(500)] for place in range(3)]
        assert client.counts.unknown == client.counts.late == 0


async def test_bytes_that_come_one_at_a_time_make_the_same_rows() -> None:
    async def slowly(peer: LookupPeer, fields: list[str]) -> None:
        await peer.send(answer(5, id_of(fields)).replace(b"\r\n", b"\n"), at_once=1)

    async with FakeLookup(on=lambda _: slowly) as server, client_of(server) as client:
        assert await sizes(client) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("request_id", ["I", "O", "E", "S", "LH", "!ENDMSG!", "R10"])
async def test_an_id_may_be_any_text(request_id: str) -> None:
    async with FakeLookup(on=lambda _: answer(2)) as server, client_of(server) as client:
        assert await sizes(client, request_id=request_id) == [1, 2]
        assert await sizes(client, request_id=request_id) == [1, 2]


async def test_no_data_is_an_answer_without_rows() -> None:
    async with FakeLookup() as server, client_of(server) as client:
        assert await sizes(client) == []
        assert await client.collect(reference_table("SLM")) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("!SYNTAX_ERROR!", refusals.SyntaxRefusedError),
        ("Invalid symbol.", refusals.InvalidSymbolError),
        ("Invalid number of parameters.", refusals.InvalidParametersError),
        ("Unauthorized user ID.", refusals.UnauthorizedError),
        ("Could not connect to History socket.", refusals.FeedAwayError),
        ("Could not connect to SymbolLookup socket.", refusals.FeedAwayError),
        ("Something new.", refusals.RefusedError),
    ],
)
@pytest.mark.parametrize("with_id", [True, False])
async def test_every_error_is_its_own_type_with_and_without_id(
    text: str, kind: type[refusals.RefusedError] | type[refusals.FeedAwayError], with_id: bool
) -> None:
    front = "{id}," if with_id else ""
    script = f"{front}E,{text},,\r\n{front}!ENDMSG!,\r\n".encode()
    answers = [script, answer(2)]
    async with FakeLookup(on=lambda _: answers.pop(0)) as server, client_of(server) as client:
        with pytest.raises(kind) as failed:
            await sizes(client)
        error = failed.value
        assert isinstance(error, refusals.RefusedError | refusals.FeedAwayError) and error.text == text
        assert "HTX AAPL" in str(error)
        assert await sizes(client) == [1, 2]


async def test_rows_before_an_error_are_handed_out_first() -> None:
    script = tick(0) + b"{id},E,Invalid symbol.,\r\n{id},!ENDMSG!,\r\n"
    async with FakeLookup(on=lambda _: script) as server, client_of(server) as client:
        stream = client.stream(ASKED)
        assert len((await anext(stream)).rows) == 1
        with pytest.raises(refusals.InvalidSymbolError):
            await anext(stream)


async def test_too_many_requests_are_asked_again_when_the_credits_are_back() -> None:
    refused = b"{id},E,Too many simultaneous history requests,,\r\n{id},!ENDMSG!,\r\n"
    answers = [refused, refused, answer(2)]
    clock = FakeClock()
    began = clock.monotonic_ns()
    async with FakeLookup(on=lambda _: answers.pop(0)) as server:
        async with client_of(server, bucket=CreditBucket(clock)) as client:
            assert await sizes(client) == [1, 2]
        assert len(server.requests) == 3
    assert (clock.monotonic_ns() - began) / 1e9 == pytest.approx(2.0, abs=0.1)


async def test_too_many_requests_fail_when_the_time_is_too_short() -> None:
    refused = b"{id},E,Too many simultaneous history requests,,\r\n{id},!ENDMSG!,\r\n"
    async with FakeLookup(on=lambda _: refused) as server, client_of(server) as client:
        with pytest.raises(refusals.TooManyRequestsError):
            await sizes(client, longest_seconds=0.5)
        assert len(server.requests) == 1


async def test_requests_that_stay_too_many_are_given_up_like_an_answer_that_stays_away() -> None:
    refused = b"{id},E,Too many simultaneous history requests,,\r\n{id},!ENDMSG!,\r\n"
    clock = FakeClock()
    began = clock.monotonic_ns()
    async with FakeLookup(on=lambda _: refused) as server, client_of(server, bucket=CreditBucket(clock)) as client:
        with pytest.raises(refusals.TooManyRequestsError):
            await sizes(client, silence_seconds=5.0)
    assert (clock.monotonic_ns() - began) / 1e9 == pytest.approx(5.0, abs=0.2)


async def test_a_connection_that_breaks_under_a_request_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: object, __: bytes) -> None:  # what uvloop raises where the peer has reset a moment ago
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async with FakeLookup() as server, client_of(server) as client:
        monkeypatch.setattr(asyncio.StreamWriter, "write", write)
        with pytest.raises(refusals.LookupLostError):
            await sizes(client)
        monkeypatch.undo()


async def test_the_51st_request_waits_for_its_credit() -> None:
    clock = FakeClock()
    began = clock.monotonic_ns()
    async with FakeLookup() as server, client_of(server, bucket=CreditBucket(clock)) as client:
        for _ in range(51):
            await sizes(client)
    assert (clock.monotonic_ns() - began) / 1e9 == pytest.approx(0.02)


async def silent(peer: LookupPeer, fields: list[str]) -> None:
    await peer.send(tick(0, id_of(fields)))


async def test_an_answer_that_falls_silent_ends_with_its_time() -> None:
    async with FakeLookup(on=lambda _: silent) as server, client_of(server) as client:
        with pytest.raises(refusals.AnswerTimeoutError, match=r"nothing for 0\.1 s"):
            await sizes(client, silence_seconds=0.1)


async def test_an_answer_that_never_ends_ends_with_its_time() -> None:
    async def endless(peer: LookupPeer, fields: list[str]) -> None:
        while True:
            await peer.send(tick(0, id_of(fields)))

    async with FakeLookup(on=lambda _: endless) as server, client_of(server) as client:
        with pytest.raises(refusals.AnswerTimeoutError, match="no end"):
            await sizes(client, longest_seconds=0.3)


async def test_what_comes_of_a_request_that_was_given_up_goes_to_no_other() -> None:
    first: list[tuple[LookupPeer, str]] = []

    async def late(peer: LookupPeer, fields: list[str]) -> None:
        if not first:
            first.append((peer, id_of(fields)))
            return
        await peer.send(answer(7, first[0][1]) + b"R99,LH,nobody asked\r\nS,STATS,\r\n" + answer(2, id_of(fields)))

    async with FakeLookup(on=lambda _: late) as server, client_of(server) as client:
        with pytest.raises(refusals.AnswerTimeoutError):
            await sizes(client, silence_seconds=0.1)
        assert await sizes(client) == [1, 2]
        assert (client.counts.late, client.counts.unknown, client.counts.system) == (8, 1, 1)
        assert client.counts.newest_unplaced == "R99,LH,nobody asked"


async def test_an_error_without_id_among_several_requests_is_counted_and_told() -> None:
    count = 0

    async def confused(peer: LookupPeer, fields: list[str]) -> None:
        nonlocal count
        count += 1
        if count == 2:
            await peer.send(b"E,!SYNTAX_ERROR!,\r\n!ENDMSG!,\r\n")

    async with FakeLookup(on=lambda _: confused) as server, client_of(server) as client:
        found = await asyncio.gather(*(sizes(client, silence_seconds=0.2) for _ in range(2)), return_exceptions=True)
        assert all(isinstance(each, refusals.AnswerTimeoutError) and "SYNTAX" in str(each) for each in found)
        assert client.counts.unplaced_errors == 1


async def test_a_lost_connection_fails_what_is_under_way_and_open_begins_anew() -> None:
    async def cut(peer: LookupPeer, fields: list[str]) -> None:
        await peer.send(tick(0, id_of(fields)) + b"R1,LH,2024-01-")
        peer.writer.close()

    answers: list[Any] = [cut, answer(2)]
    async with FakeLookup(on=lambda _: answers.pop(0)) as server, client_of(server) as client:
        stream = client.stream(ASKED)
        assert len((await anext(stream)).rows) == 1
        with pytest.raises(refusals.LookupLostError, match="closed by the feed, 14 bytes into a line"):
            await anext(stream)
        with pytest.raises(refusals.LookupLostError):
            await sizes(client)
        await client.open()
        assert await sizes(client) == [1, 2]


async def test_a_reset_fails_every_request_under_way() -> None:
    peers = []

    async def reset(peer: LookupPeer, _: list[str]) -> None:
        peers.append(peer)
        if len(peers) == 3:
            peer.cut()

    async with FakeLookup(on=lambda _: reset) as server, client_of(server) as client:
        found = await asyncio.gather(*(sizes(client) for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in found] == [refusals.LookupLostError] * 3


async def test_a_line_without_end_closes_the_connection() -> None:
    async def babble(peer: LookupPeer, _: list[str]) -> None:
        await peer.send(b"x" * 200_000)

    async with FakeLookup(on=lambda _: babble) as server, client_of(server) as client:
        with pytest.raises(refusals.LookupLostError, match="a line of more than"):
            await sizes(client)


async def test_memory_is_bounded_while_nobody_takes_the_rows() -> None:
    sent = 0
    stuck = asyncio.Event()

    async def flood(peer: LookupPeer, fields: list[str]) -> None:
        nonlocal sent
        piece = b"".join(tick(number, id_of(fields)) for number in range(1000))
        for _ in range(400):  # 28 MB
            try:
                async with asyncio.timeout(0.5):
                    await peer.send(piece)
            except TimeoutError:
                stuck.set()
                await peer.writer.drain()
            sent += len(piece)
        await peer.send(f"{id_of(fields)},!ENDMSG!,\r\n".encode())
        stuck.set()

    async with FakeLookup(on=lambda _: flood) as server, client_of(server, max_held=1 << 20) as client:
        stream = client.stream(ASKED)
        rows = len((await anext(stream)).rows)
        await stuck.wait()
        assert sent < 20_000_000  # the rest waits in the sender: sockets hold a few MB
        async for part in stream:
            rows += len(part.rows)
        assert rows == 400_000


async def test_a_consumer_that_stops_early_leaves_the_connection_usable() -> None:
    answers = [answer(5000), answer(2)]
    async with FakeLookup(on=lambda _: answers.pop(0)) as server, client_of(server) as client:
        stream = client.stream(ASKED)
        await anext(stream)
        await stream.aclose()
        assert await sizes(client) == [1, 2]


async def test_an_id_in_use_is_refused() -> None:
    async with FakeLookup(on=lambda _: silent) as server, client_of(server) as client:
        stream = client.stream(ASKED, request_id="I")
        await anext(stream)
        with pytest.raises(ValueError, match="in use"):
            await sizes(client, request_id="I")
        await stream.aclose()


async def test_nothing_is_sent_before_the_first_part_is_asked_for() -> None:
    async with FakeLookup() as server, client_of(server) as client:
        stream = client.stream(ASKED)
        assert await sizes(client, newest_days("SPY", 1)) == []
        assert [fields[0] for fields in server.requests] == ["HDX"]
        await stream.aclose()


async def test_the_ticker_e_is_no_error_in_a_search_and_an_error_stays_one() -> None:
    answers = [
        b"{id},E,7,1,ENI,\r\n{id},!ENDMSG!,\r\n",
        b"{id},E,!SYNTAX_ERROR!,,\r\n{id},!ENDMSG!,\r\n",
    ]
    server = FakeLookup(on=lambda _: answers.pop(0), protocol=b"S,CURRENT PROTOCOL,6.1\r\n")
    async with server, client_of(server, protocol="6.1") as client:
        parts = await client.collect(symbol_search("E"))
        assert parts[0].rows.to_pylist()[0]["description"] == "ENI"
        with pytest.raises(refusals.SyntaxRefusedError):
            await client.collect(symbol_search("E"))


async def test_a_row_that_cannot_be_read_comes_with_text_and_place() -> None:
    script = tick(0) + b"{id},LH,2024-01-02 10:00:00,x,1,\r\n" + tick(1) + b"{id},!ENDMSG!,\r\n"
    async with FakeLookup(on=lambda _: script) as server, client_of(server) as client:
        parts = [part async for part in client.stream(ASKED)]
        assert sum(len(part.rows) for part in parts) == 2
        refused = [row for part in parts for row in part.refused]
        assert [(row.number, row.reason) for row in refused] == [(1, "bad_number")]
        assert refused[0].text == b"R1,LH,2024-01-02 10:00:00,x,1,"
