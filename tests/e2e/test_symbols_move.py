"""Symbols move between readers by `restart`, while the feed sends: nothing is lost, doubled, or out of order."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from config.sections import KafkaConfig
from infrastructure.simulator.sent_log import read_sent_log
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.whole_log import WholeLog
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.readings import Reading, identities, outside, readings, spooled_frames
from tests.doubles.services import RealKafka
from tests.e2e.conftest import MakeSimulated

STAYS, MOVES, OTHERS = "AAPL", "MSFT", ("GOOGL", "TSLA")
SYMBOLS = (STAYS, MOVES, *OTHERS)
LEVELS = 5
ENOUGH = 20  # lines of each symbol under a reader before the next change
MARKET = "kind IN ('trade', 'quote', 'level_set', 'level_delete')"
CONNECTIONS = ("level1", "level2")

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

Identity = tuple[int, int, int]  # instance, epoch, seq
Logged = tuple[Identity, str, str]  # identity, symbol, kind


def split(*lists: Sequence[str]) -> dict[str, str]:
    """Settings for one reader per list of symbols."""
    return {"PIPELINE_INGESTION__INSTANCES": str(len(lists)), "PIPELINE_INGESTION__ASSIGN": json.dumps(lists)}


@pytest.fixture
def started(simulated: MakeSimulated) -> tuple[Pipeline, Simulator]:
    """Two readers with two symbols each, and their feed."""
    extra = split([STAYS, MOVES], OTHERS) | {"PIPELINE_PROCESSING__BOOK_LEVELS": str(LEVELS)}
    pipeline, simulator = simulated("--rate", "1000", "--seed", "5", symbols=SYMBOLS, hold=4, extra=extra)
    simulator.start()
    pipeline.start()
    return pipeline, simulator


def test_symbols_move_to_another_reader_and_back_when_it_is_removed(
    started: tuple[Pipeline, Simulator], own_kafka: RealKafka
) -> None:
    pipeline, simulator = started
    lives = [wait_for_books(pipeline, {0: [STAYS, MOVES], 1: OTHERS})]
    restart(pipeline, split([STAYS], [MOVES, *OTHERS]))
    lives.append(wait_for_books(pipeline, {0: [STAYS], 1: [MOVES, *OTHERS]}, after=lives[-1]))
    restart(pipeline, split(SYMBOLS))
    lives.append(wait_for_books(pipeline, {0: SYMBOLS}, after=lives[-1]))
    pipeline.wait("the removed reader has sent all and says so", lambda: drained(pipeline, 1))
    simulator.stop()
    pipeline.wait("everything stored", lambda: stored(pipeline) == identities(spooled_frames(pipeline.state, (0, 1))))
    pipeline.stop()

    frames = spooled_frames(pipeline.state, (0, 1))
    assert stored(pipeline) == identities(frames)
    for statement in (
        "SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events",
        "SELECT count() - uniqExact(symbol, market_center, tick_id) FROM {db}.events WHERE kind = 'trade'",
        "SELECT count() - uniqExact(src_instance, src_epoch, src_seq, src_idx, out) FROM {db}.features",
        f"SELECT count() - (SELECT count() FROM {{db}}.features) FROM {{db}}.events WHERE {MARKET}",
    ):
        assert pipeline.sql(statement) == [["0"]], statement
    found, never_read = readings(frames, simulator.sent_log)
    assert not never_read
    assert not outside(found, pipeline.gap_intervals())
    assert [(each.instance, each.epoch) for each in found if each.port == "level2"] == sorted(
        life for one in lives for life in one.items()
    )

    records = logged(own_kafka)
    for symbol, readers in ((STAYS, [0]), (MOVES, [0, 1, 0]), *((name, [1, 0]) for name in OTHERS)):
        assert_one_reader_after_the_other(records, symbol, readers)
        assert_between_two_readers_lies_a_gap(pipeline, symbol, found)
        assert newest_book(pipeline, symbol) == sent_book(simulator.sent_log, symbol)


def restart(pipeline: Pipeline, changed: dict[str, str]) -> None:
    pipeline.environment.update(changed)
    done = pipeline.cli("restart", "--no-validate")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{pipeline.log_tail()}"


def wait_for_books(
    pipeline: Pipeline, wanted: dict[int, Sequence[str]], after: dict[int, int] | None = None
) -> dict[int, int]:
    """Wait until each reader has stored lines and valid books of its symbols; reader -> its epoch.

    With `after`, in a later epoch than that, and with every gap closed.
    """
    epochs: dict[int, int] = {}

    def there() -> bool:
        try:
            newest = pipeline.sql(f"SELECT instance, max(epoch) FROM {{db}}.events WHERE {MARKET} GROUP BY 1")
            epochs.update({int(number): int(epoch) for number, epoch in newest if int(number) in wanted})
            books = pipeline.sql(
                "SELECT src_instance, src_epoch, symbol, count() FROM {db}.books "
                "WHERE book_state = 'valid' GROUP BY 1, 2, 3"
            )
            unclosed = pipeline.sql("SELECT count() FROM {db}.gaps_latest WHERE symbol IS NULL AND state != 'closed'")
        except OSError:
            return False  # no table yet
        if any(epochs.get(number, 0) <= (after or {}).get(number, 0) for number in wanted) or unclosed != [["0"]]:
            return False
        valid = {(int(number), int(epoch), symbol): int(count) for number, epoch, symbol, count in books}
        return all(
            valid.get((number, epochs[number], name), 0) >= ENOUGH for number, names in wanted.items() for name in names
        )

    pipeline.wait(f"books of {wanted}", there)
    return epochs


def drained(pipeline: Pipeline, instance: int) -> bool:
    path = pipeline.state / "spool" / str(instance) / "symbols.json"
    return bool(json.loads(json.loads(path.read_text())["symbols"])["drained"])


def stored(pipeline: Pipeline) -> set[Identity]:
    rows = pipeline.sql("SELECT instance, epoch, seq FROM {db}.events")
    rows += pipeline.sql("SELECT src_instance, src_epoch, src_seq FROM {db}.dlq")
    return {(int(instance), int(epoch), int(seq)) for instance, epoch, seq in rows}


def logged(kafka: RealKafka) -> dict[str, list[Logged]]:
    """Records of market.events with a symbol, as they lie in its partition, repeats too."""
    log = WholeLog(KafkaConfig(bootstrap_servers=kafka.address))
    try:
        records = list(log.records(EVENTS, log.extents(EVENTS)))
    finally:
        log.close()
    rows, refused = AvroCodec(EVENTS).decode([value for _, _, value in records])
    assert not refused
    found: dict[str, list[Logged]] = defaultdict(list)
    places: dict[str, set[int]] = defaultdict(set)
    table = rows.select(["instance", "epoch", "seq", "symbol", "kind", "port"]).to_pylist()
    for (partition, _, _), row in zip(records, table, strict=True):
        if row["symbol"] is not None:
            places[row["symbol"]].add(partition)
            what = f"{row['kind']} {row['port']}" if row["kind"].endswith("subscribed") else row["kind"]
            found[row["symbol"]].append(((row["instance"], row["epoch"], row["seq"]), row["symbol"], what))
    assert all(len(partitions) == 1 for partitions in places.values())
    return found


def assert_one_reader_after_the_other(records: dict[str, list[Logged]], symbol: str, readers: Sequence[int]) -> None:
    """Also with what was sent twice: all of one reader, to its last `unsubscribed`, before any of the next."""
    runs: list[list[Logged]] = []
    for record in records[symbol]:
        if not runs or runs[-1][0][0][0] != record[0][0]:
            runs.append([])
        runs[-1].append(record)
    assert [run[0][0][0] for run in runs] == list(readers), symbol
    for run in runs:
        first_times = list(dict.fromkeys(identity for identity, _, _ in run))
        assert first_times == sorted(first_times), symbol
    for before, after in pairwise(runs):
        ends = list(dict.fromkeys(what for _, _, what in before))[-2:]
        assert set(ends) == {f"unsubscribed {port}" for port in CONNECTIONS}, (symbol, before[-5:])
        assert after[0][2] in {f"subscribed {port}" for port in CONNECTIONS}, (symbol, after[:5])


def assert_between_two_readers_lies_a_gap(pipeline: Pipeline, symbol: str, found: Sequence[Reading]) -> None:
    """From no later than the last line of the old connection to no earlier than the symbol's first of the new one."""
    ended = pipeline.sql(
        "SELECT port, src_instance, src_epoch, ifNull(toUnixTimestamp64Micro(from_time), 0), "
        "toUnixTimestamp64Micro(assumeNotNull(to_time)) FROM {db}.gaps_latest "
        f"WHERE symbol = '{symbol}' AND state != 'open' AND to_time IS NOT NULL"
    )
    for port in CONNECTIONS:
        lives = sorted(
            (each.epoch, each.instance)
            for each in found
            if each.port == port and any(line.symbol == symbol for line in each.read)
        )
        for (old_epoch, old), (new_epoch, new) in pairwise(lives):
            last = event_time(pipeline, port, old, old_epoch, "max")
            first = event_time(pipeline, port, new, new_epoch, "min", f"AND symbol = '{symbol}' AND NOT summary")
            assert any(
                [row[0], int(row[1]), int(row[2])] == [port, new, new_epoch]
                and int(row[3]) <= last
                and int(row[4]) >= min(first, last)
                for row in ended
            ), (symbol, port, last, first, ended)


def event_time(pipeline: Pipeline, port: str, instance: int, epoch: int, which: str, more: str = "") -> int:
    rows = pipeline.sql(
        f"SELECT toUnixTimestamp64Micro(assumeNotNull({which}(event_time))) FROM {{db}}.events "
        f"WHERE port = '{port}' AND instance = {instance} AND epoch = {epoch} {more}"
    )
    return int(rows[0][0])


def micro(price: str) -> int:
    whole, _, part = price.partition(".")
    return int(whole) * 1_000_000 + int(part.ljust(6, "0"))


def sent_book(sent_log: Path, symbol: str) -> list[list[int]]:
    """[bid prices, bid sizes, ask prices, ask sizes], best first, after all rows of the symbol's last connection."""
    connection, levels = 0, dict[tuple[str, int], int]()
    for line in read_sent_log(sent_log):
        fields = line.text.split(",")
        if line.port != "level2" or line.symbol != symbol or fields[0] not in {"7", "8", "9"}:
            continue
        if line.connection != connection:
            connection, levels = line.connection, {}
        place = fields[2], micro(fields[3])
        if fields[0] == "9":
            del levels[place]
        else:
            levels[place] = int(fields[4])
    book = []
    for side, best_first in (("B", -1), ("A", 1)):
        prices = sorted((price for its, price in levels if its == side), key=lambda price: best_first * price)[:LEVELS]
        book += [prices, [levels[side, price] for price in prices]]
    return book


def newest_book(pipeline: Pipeline, symbol: str) -> list[list[int]]:
    (row,) = pipeline.sql(
        "SELECT bid_prices, bid_sizes, ask_prices, ask_sizes FROM {db}.books "
        f"WHERE symbol = '{symbol}' AND book_state = 'valid' ORDER BY k_off DESC, out DESC LIMIT 1"
    )
    return [json.loads(column) for column in row]
