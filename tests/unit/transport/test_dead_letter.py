"""Dead letters as rows: identity, place and bytes."""

from __future__ import annotations

from pipeline_orchestrator.market.events import DLQ, arrow_schema
from pipeline_orchestrator.record import DeadLetter, EventId
from pipeline_orchestrator.transport.dead_letter import dead_letter_rows


def test_line_keeps_its_identity_and_goes_to_the_first_partition() -> None:
    headers = {"symbol": "AAPL", "port": "level1", "recv_time_us": "1700000000000001", "note": "x"}
    letter = DeadLetter("unparsable_line: price", b"Q,\xff", {"spool": [3, 7, 11]}, "spool", headers=headers)
    out = dead_letter_rows([letter], "ingestion/0")
    (row,) = out.rows.to_pylist()
    assert out.topic == DLQ and out.keys is None and out.partitions.tolist() == [0]
    assert out.rows.schema.equals(arrow_schema(DLQ))
    assert (row["writer"], row["epoch"], row["seq"], row["idx"]) == ("ingestion/0", 7, 11, 0)
    assert (row["src_instance"], row["src_epoch"], row["src_seq"]) == (3, 7, 11)
    assert (row["symbol"], row["port"], row["recv_time_us"]) == ("AAPL", "level1", 1700000000000001)
    assert row["headers"] == '{"note": "x"}' and row["raw"] == b"Q,\xff"
    assert row["src_partition"] is None and row["src_offset"] is None


def test_two_refusals_of_one_record_differ_and_repeats_are_equal() -> None:
    position = {"topic": "market.events", "partition": 3, "offset": 40}
    event_id = EventId(0, 5, 6, 0)
    letters = [DeadLetter(reason, b"x", position, "market.events", event_id) for reason in ("a", "b: c")]
    first = dead_letter_rows(letters, "processing/1", log_id="LOGLOGLOG1").rows
    again = dead_letter_rows(letters, "processing/1", log_id="LOGLOGLOG1").rows
    identity = ["writer", "epoch", "seq", "idx", "out"]
    assert first.select(identity).to_pylist() == again.select(identity).to_pylist()
    assert [row["idx"] for row in first.to_pylist()] == [0, 1]
    assert [row["src_seq"] for row in first.to_pylist()] == [6, 6]


def test_another_log_is_another_writer() -> None:
    letter = DeadLetter("a", b"x", {"topic": "t", "partition": 0, "offset": 1}, "t")
    writers = {
        dead_letter_rows([letter], "storage/0", log_id=log).rows.to_pylist()[0]["writer"] for log in ("A1", "B2")
    }
    assert len(writers) == 2 and all(writer.startswith("storage/0@") for writer in writers)


def test_without_a_log_id_offsets_of_different_topics_stay_apart() -> None:
    letters = [DeadLetter("a", b"x", {"topic": topic, "partition": 0, "offset": 1}, topic) for topic in ("t", "u")]
    writers = [row["writer"] for row in dead_letter_rows(letters, "storage/0").rows.to_pylist()]
    assert writers == ["storage/0@t", "storage/0@u"]


def test_detail_comes_from_the_reason_or_the_header() -> None:
    position = {"topic": "t", "partition": 0, "offset": 1}
    letters = [
        DeadLetter("store_refused", b"x", position, "t", headers={"detail": "Code 27"}),
        DeadLetter("undecodable_record: truncated", b"x", position, "t"),
    ]
    rows = dead_letter_rows(letters, "storage/0").rows.to_pylist()
    assert [(row["reason"], row["detail"]) for row in rows] == [
        ("store_refused", "Code 27"),
        ("undecodable_record", "truncated"),
    ]
    assert rows[0]["headers"] is None
