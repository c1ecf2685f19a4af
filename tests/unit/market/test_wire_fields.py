"""What live lines and history share: one reader for numbers and times, one numbering of why a field is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline_orchestrator.ingestion import reasons
from pipeline_orchestrator.lookup import row_fields
from pipeline_orchestrator.market import wire_fields as wire

NAMES = {
    wire.BAD_NUMBER: "bad_number",
    wire.TOO_PRECISE: "too_precise",
    wire.OVERFLOW: "overflow",
    wire.BAD_TIME: "bad_time",
    wire.BAD_DATE: "bad_date",
}


@pytest.mark.parametrize("table", [reasons.REASONS, row_fields.REASONS], ids=["ingestion", "lookup"])
def test_the_shared_codes_stand_at_their_names_in_each_table(table: tuple[str, ...]) -> None:
    assert {code: table[code] for code in NAMES} == NAMES


def read(text: bytes, negative_too: bool) -> tuple[int, int]:
    value, status = wire.digits(np.frombuffer(text, dtype=np.uint8), 0, len(text), negative_too)
    return int(value), int(status)


def test_a_sign_is_a_number_only_where_it_may_be() -> None:
    assert read(b"-12", True) == (-12, 0)
    assert read(b"-12", False) == (0, wire.BAD_NUMBER)


@pytest.mark.parametrize("digits", [18, 19, 20])
def test_an_unsigned_number_is_the_same_bits_on_the_short_and_on_the_long_way(digits: int) -> None:
    for value in (10 ** (digits - 1), 10**digits - 1):
        text = str(value).encode()
        bits, status = wire.unsigned_bits(np.frombuffer(text, dtype=np.uint8), 0, len(text))
        if value < 2**64:
            assert (int(bits) % 2**64, int(status)) == (value, 0)
        else:
            assert int(status) == wire.OVERFLOW
