from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.channel import (
    Beat,
    Changed,
    Drain,
    Ended,
    FrameDecoder,
    Launch,
    Message,
    Said,
    Update,
    Updated,
    encode,
    spec_from_json,
    spec_to_json,
)
from pipeline_orchestrator.component import ComponentSpec, Placement, Restart

SPEC = ComponentSpec(
    id="storage/0",
    kind="stage",
    builder="storage",
    config='{"password":"geheim"}',
    depends_on=("kafka", "clickhouse"),
    placement=Placement.SPAWNED,
    restart=Restart.TRANSIENT,
    embedded=True,
)
MESSAGES: list[Message] = [
    Launch(spec_to_json(SPEC), 3, "/state", {"storage": "a:b"}, 0.5, "DEBUG", ["/x"]),
    Drain(12.5),
    Update('{"a":1}', 4),
    Updated(True, 4),
    Changed("degraded", "no feed at 127.0.0.1:5009", "start IQConnect"),
    Beat(7, 0.25, 0.001, 123456789, {"counters": {"n{a=b}": 5}}, {"fds": 9}),
    Said("ERROR", "aiokafka", "boom\n\x00", {"k": "ü", "n": None}, 1_700_000_000_000_000),
    Ended("raised", "ValueError: x", "retry"),
]


@given(st.data())
def test_records_survive_any_cut_of_the_stream(data: st.DataObject) -> None:
    stream = b"".join(encode(message) for message in MESSAGES)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    decoder, received = FrameDecoder(), list[Message]()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received.extend(decoder.feed(stream[begin:end]))
    assert received == MESSAGES


def test_a_spec_is_equal_after_its_way_through_json() -> None:
    assert spec_from_json(spec_to_json(SPEC)) == SPEC


def test_a_torn_frame_waits_for_its_rest() -> None:
    decoder, frame = FrameDecoder(), encode(Drain(1.0))
    assert decoder.feed(frame[:-1]) == []
    assert decoder.feed(frame[-1:]) == [Drain(1.0)]


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x01{"])
def test_bytes_of_a_stranger_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        FrameDecoder().feed(body)
