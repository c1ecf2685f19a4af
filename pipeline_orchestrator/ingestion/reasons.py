"""Why a line was refused: the closed set of dead letter reasons of ingestion, with the codes kernels use."""

from __future__ import annotations

from typing import Final

from pipeline_orchestrator.market import wire_fields

REASONS: Final = (
    "",
    "empty_line",
    "unknown_type",  # no message of this port begins like that
    "missing_field",  # what the type cannot do without: symbol, side, price, size, date, Message Contents; or all of it
    "bad_symbol",  # longer than 64 characters, or not printable ASCII
    "bad_number",
    "too_precise",  # a price with more than six decimals
    "overflow",  # does not fit the column
    "bad_time",
    "bad_date",
    "bad_value",  # side, correction, day code or Message Contents outside its set
    "bad_text",  # conditions or participant not printable ASCII, or longer than 64 characters
    "oversize",  # line longer than 64 KiB; its head is kept
    "bad_fact",  # an own fact that cannot be read back
)
CODE: Final = {name: code for code, name in enumerate(REASONS)}

EMPTY_LINE: Final = 1
UNKNOWN_TYPE: Final = 2
MISSING_FIELD: Final = 3
BAD_SYMBOL: Final = 4
BAD_NUMBER: Final = wire_fields.BAD_NUMBER
TOO_PRECISE: Final = wire_fields.TOO_PRECISE
OVERFLOW: Final = wire_fields.OVERFLOW
BAD_TIME: Final = wire_fields.BAD_TIME
BAD_DATE: Final = wire_fields.BAD_DATE
BAD_VALUE: Final = 10
BAD_TEXT: Final = 11
OVERSIZE: Final = 12
BAD_FACT: Final = 13

MAX_TEXT: Final = wire_fields.MAX_TEXT  # characters of a symbol, of conditions, of a participant


class LineError(ValueError):
    """A line that cannot become an event; `reason` is one of REASONS."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(detail or REASONS[code])
        self.code, self.reason = code, REASONS[code]
