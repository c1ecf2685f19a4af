import asyncio
import json
from pathlib import Path

import pytest

from config.sections import RedisConfig
from manage.stations import Account, Cached, LogCounter, Logged, Spooled, Stored, count_redis, count_spool, identity
from pipeline_orchestrator.flow.spool_format import SegmentHeader, encode_frame, encode_header, segment_path
from pipeline_orchestrator.market.events import KIND, KINDS


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    return bytes([*out, number])


def record(epoch: int, seq: int, kind: str, instance: int = 0, idx: int = 0) -> bytes:
    fields = (instance, epoch, seq, idx, 1, KIND[kind])
    return b"\x00\x00\x00\x00\x07" + b"".join(map(varint, fields)) + b"rest"


def test_identity_is_read_off_the_first_fields() -> None:
    assert identity(record(1_760_000_000, 123_456, "trade", instance=3)) == ((3, 1_760_000_000, 123_456, 0), 1)
    assert KINDS[10] == "clock" and [KINDS[code] for code in (11, 12, 15)] == ["connected", "lost", "gap"]


def test_repeats_and_events_of_an_instance_count_once() -> None:
    counter = LogCounter()
    for partition in (0, 1):
        counter.take(partition, None, record(5, 0, "connected"))
        counter.take(partition, None, record(5, 1, "clock"))
    counter.take(0, b"AAPL", record(5, 2, "trade"))
    counter.take(1, b"MSFT", record(5, 3, "quote"))
    counter.take(0, b"AAPL", record(5, 2, "trade"))
    counter.take(0, None, record(5, 4, "other"))
    assert counter.found == Logged(distinct=5, clock=1, repeats=1)


def test_instances_count_by_themselves_and_add_up() -> None:
    counter = LogCounter()
    counter.take(0, b"AAPL", record(9, 5, "trade", instance=0))
    counter.take(0, b"MSFT", record(8, 2, "trade", instance=1))  # an older epoch, of another instance: no repeat
    counter.take(0, None, record(9, 6, "lost", instance=0))
    counter.take(0, None, record(9, 6, "lost", instance=1))  # the same place in another spool: another event
    counter.take(0, b"MSFT", record(8, 2, "trade", instance=1))
    assert counter.found == Logged(distinct=4, repeats=1)


def test_two_events_of_a_line_are_one_line_and_no_repeat() -> None:
    counter = LogCounter()
    for _ in range(2):
        for idx in (0, 1):
            counter.take(0, b"AAPL", record(5, 2, "order_change", idx=idx))
    assert counter.found == Logged(distinct=2, repeats=2, further=1)
    assert AGREEING.stored is not None
    newest = dict(AGREEING.stored.newest)
    paired = changed(
        logged=Logged(distinct=144, clock=10, dead=1, further=40),
        stored=Stored(events=134, distinct=134, dead=1, further=40, newest=newest),
    )
    assert paired.differences() == []
    lost = changed(
        logged=Logged(distinct=144, clock=10, dead=1, further=40),
        stored=Stored(events=133, distinct=133, dead=1, further=40),
    )
    assert len(lost.differences()) == 2


def test_spooled_lines_facts_and_clock_lines_are_told_apart(tmp_path: Path) -> None:
    directory = tmp_path / "spool" / "0"
    directory.mkdir(parents=True)
    frames = [
        (1, 0, 3, b"T,20260101 09:30:00\r\nQ,AAPL,1\r\nT,20260101 09:30:01\r\n"),
        (0, 3, 1, b'{"kind":"connected"}\n'),
    ]
    data = encode_header(SegmentHeader(1, 0, 5, 0, {}, 0))
    for port, seq, count, raw in frames:
        data += encode_frame(0, port, 0, 5, seq, count, 1, raw) + raw
    segment_path(directory, 1).write_bytes(data)
    assert count_spool(tmp_path) == Spooled(lines=3, clock=2, facts=1)
    assert count_spool(tmp_path / "nothing") == Spooled()


AGREEING = Account(
    sent=100,
    spooled=Spooled(lines=100, clock=10, facts=5),
    logged=Logged(distinct=104, clock=10, dead=1),
    stored=Stored(events=94, distinct=94, trades=7, features=80, dead=1, newest={"AAPL": (0, 5, 99, 0, 0)}),
    cached=Cached(symbols=1),
)


def changed(**parts: object) -> Account:
    values = {name: getattr(AGREEING, name) for name in AGREEING.__slots__}
    return Account(**{**values, **parts})


def test_equal_stations_have_no_difference() -> None:
    assert AGREEING.differences() == []


@pytest.mark.parametrize(
    ("account", "named"),
    [
        (changed(sent=101), "sent 101, but 100 lines spooled"),
        (changed(logged=Logged(distinct=103, clock=10, dead=1)), "but 104 identities in Kafka"),
        (
            changed(stored=Stored(events=93, distinct=93, dead=1)),
            "Kafka holds 94 events without clock lines, ClickHouse 93",
        ),
        (changed(stored=Stored(events=95, distinct=94, dead=1)), "1 rows stand twice"),
        (changed(stored=Stored(events=94, distinct=94, dead=0)), "1 dead letters in Kafka, 0 in ClickHouse"),
        (changed(cached=Cached(symbols=1, different=["AAPL"])), "1 symbols differ between Redis and ClickHouse: AAPL"),
        (changed(logged=None, unknown={"kafka": "no answer"}), "kafka: unknown, no answer"),
    ],
)
def test_each_difference_is_named(account: Account, named: str) -> None:
    assert any(named in difference for difference in account.differences())


def test_what_the_embedded_broker_forgot_is_judged_by_spool_and_store() -> None:
    forgetful = changed(logged=Logged(distinct=40, clock=3, dead=1, forgotten=90))
    assert forgetful.differences() == []
    short = changed(logged=Logged(distinct=40, clock=3, dead=1, forgotten=90), stored=Stored(events=9, distinct=9))
    (named,) = [
        difference for difference in short.differences() if "in ClickHouse" in difference and "lines" in difference
    ]
    assert "the embedded broker dropped its oldest records, 90 so far" in named


async def test_redis_is_compared_with_the_newest_record() -> None:
    values = {
        b"md:last:AAPL": {"src_instance": 0, "src_epoch": 5, "src_seq": 99, "src_idx": 0, "out": 0},
        b"md:last:MSFT": {"src_instance": 0, "src_epoch": 5, "src_seq": 40, "src_idx": 0, "out": 0},
    }

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int((await reader.readline())[1:])
                words.append((await reader.readexactly(length + 2))[:-2])
            if words[0] == b"KEYS":
                items = list(values)
            elif words[0] == b"MGET":
                items = [json.dumps(values[name]).encode() for name in words[1:]]
            else:
                writer.write(b"+OK\r\n")
                continue
            writer.write(b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%s\r\n" % (len(i), i) for i in items))
        writer.close()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    config = RedisConfig(port=server.sockets[0].getsockname()[1])
    newest = {"AAPL": (0, 5, 99, 0, 0), "MSFT": (0, 5, 41, 0, 0), "TSLA": (0, 5, 1, 0, 0)}
    assert await count_redis(config, newest) == Cached(symbols=2, different=["MSFT", "TSLA"])
    await served.wait()
    server.close()
