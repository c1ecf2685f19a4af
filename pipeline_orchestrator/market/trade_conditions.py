"""Trade conditions that tell what a market does, out of the vendor's table of conditions (`STC`).

The field holds one to four codes run together, two hex digits each. No other line of the feed names a halt.
"""

from __future__ import annotations

from typing import Final

STATUS: Final = {33: "halt", 37: "reopen after halt", 109: "pre-opening", 11: "opening or reopening trade"}
# For an engine with RE2: conditions that hold one of these codes.
STATUS_PATTERN: Final = "^(..)*(" + "|".join(f"{code:02X}" for code in STATUS) + ")(..)*$"


def codes_of(conditions: str | None) -> tuple[int, ...]:
    """Decimal codes, as the vendor's table has them; none where the text is not made of pairs of hex digits."""
    text = conditions or ""
    try:
        return tuple(bytes.fromhex(text)) if " " not in text else ()
    except ValueError:
        return ()


def status_of(conditions: str | None) -> tuple[int, str] | None:
    """The first code among them that tells a status, with its meaning."""
    return next(((code, STATUS[code]) for code in codes_of(conditions) if code in STATUS), None)
