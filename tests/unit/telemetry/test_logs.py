from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.telemetry.logs import (
    LogEvent,
    LoggingBridge,
    RepeatLimiter,
    format_json,
    format_text,
    one_line,
    where,
)

AT = 1_795_000_000_123_456


def event(level: str = "INFO", name: str = "started", **fields: object) -> LogEvent:
    return LogEvent(AT, level, "supervisor", name, fields)


def test_a_line_is_time_level_logger_event_and_pairs() -> None:
    line = format_text(event(id="processing/0", pid=4121, rate=1118.0, cause="no answer", share=None, ok=True))
    assert line == (
        '2026-11-18T11:06:40.123456Z INFO supervisor started id=processing/0 pid=4121 rate=1118 cause="no answer" '
        "share=null ok=true"
    )


def test_the_performance_line_has_the_words_people_grep_for() -> None:
    line = format_text(LogEvent(AT, "INFO", "supervisor", "Performance:", {"stage": "processing/0"}))
    assert line.endswith("INFO supervisor Performance: stage=processing/0")


@given(st.text(), st.text())
def test_no_text_can_forge_a_second_line_or_hide_in_one(name: str, value: str) -> None:
    line = format_text(event(name=name, value=value))
    assert line.isprintable()


def test_control_characters_are_escaped() -> None:
    line = format_text(event(line="a\nb\x1b[31m\x00\u2028\u0085"))
    assert "\\n" in line
    assert "\x1b" not in line
    assert "\u2028" not in line


def test_the_word_error_stands_only_as_a_level() -> None:
    assert format_text(event("WARNING", cause="ERROR 42: KafkaError")).count("ERROR") == 0
    assert format_text(event("ERROR", cause="ERROR 42")).count("ERROR") == 1


@given(st.dictionaries(st.sampled_from(["time", "level", "x"]), st.text()))
def test_json_lines_carry_the_same_record(fields: dict[str, str]) -> None:
    line = format_json(LogEvent(AT, "INFO", "supervisor", "started", fields))
    assert "\n" not in line
    record = json.loads(line)
    assert (record["level"], record["logger"], record["event"]) == ("INFO", "supervisor", "started")
    assert record.get("x") == fields.get("x")


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_repeated_error_passes_once_then_every_ten_seconds_with_a_count() -> None:
    ticks = Ticks()
    limiter = RepeatLimiter(monotonic=ticks)
    passed = []
    for _ in range(100):
        admitted = limiter.admit(event("ERROR", "sink_failed"))
        if admitted is not None:
            passed.append((ticks.now, admitted.fields.get("suppressed")))
        ticks.now += 0.25
    assert passed == [(0.0, None), (10.0, 39), (20.0, 39)]


def test_different_errors_do_not_hide_each_other() -> None:
    limiter = RepeatLimiter(monotonic=Ticks())
    assert limiter.admit(event("ERROR", "a")) is not None
    assert limiter.admit(event("ERROR", "b")) is not None
    assert limiter.admit(event("WARNING", "a")) is not None
    assert limiter.admit(event("ERROR", "a")) is None


def test_information_is_never_left_out() -> None:
    limiter = RepeatLimiter(monotonic=Ticks())
    assert all(limiter.admit(event("INFO", "tick")) for _ in range(50))


def test_the_limiter_forgets_what_is_long_past() -> None:
    ticks = Ticks()
    limiter = RepeatLimiter(monotonic=ticks)
    for number in range(5000):
        ticks.now += 1.0
        limiter.admit(event("ERROR", f"e{number}"))
    assert len(limiter._seen) < 1100


def bridged(*, level: int = logging.INFO) -> tuple[logging.Logger, list[LogEvent]]:
    events: list[LogEvent] = []
    logger = logging.Logger("aiokafka", level)
    logger.addHandler(LoggingBridge(events.append))
    return logger, events


def test_standard_logging_becomes_events_with_the_exception_in_one_line() -> None:
    logger, events = bridged()
    try:
        raise ValueError("no\nluck")
    except ValueError:
        logger.exception("cannot %s", "send", extra={"fields": {"topic": "market.events"}})
    (made,) = events
    assert (made.level, made.logger, made.event) == ("ERROR", "aiokafka", "cannot send")
    assert made.fields["topic"] == "market.events"
    assert made.fields["exception"] == "ValueError: no\nluck"
    assert "test_logs.py" in made.fields["at"]
    assert format_text(made).isprintable()


def test_a_log_call_with_wrong_arguments_never_raises() -> None:
    logger, events = bridged()
    logger.error(*("%d of %d", "one"))
    assert events[0].event == "%d of %d"


@pytest.mark.parametrize(
    ("level", "name"), [(10, "DEBUG"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "ERROR")]
)
def test_levels_between_the_four_are_rounded_down(level: int, name: str) -> None:
    logger, events = bridged(level=1)
    logger.handlers[0].setLevel(1)
    logger.log(level, "x")
    assert events[0].level == name


def test_a_group_of_exceptions_is_told_by_its_first_leaf() -> None:
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as inner:
            raise ExceptionGroup("unhandled errors in a TaskGroup", [inner]) from inner
    except ExceptionGroup as group:
        assert "No space left on device" in one_line(group)
        assert "test_logs.py" in where(group)
    assert sys.exc_info()[0] is None
    assert where(ValueError()) == "unknown"
