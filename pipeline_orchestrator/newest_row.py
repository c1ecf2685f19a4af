"""The newest row of a symbol in a table that is sorted by `sort_time`: event time, where there is none receipt.

Market time need not be near receipt (delayed data, recordings, simulated days). So the newest row with an event time
and the newest one without are found apart, each along the table's order, and the later one in the log wins.
"""

from __future__ import annotations

from collections.abc import Sequence


def newest_row(table: str, columns: Sequence[str], where: str, *, place: Sequence[str] = ("epoch", "seq")) -> str:
    """A statement that gives one row of `columns` (expressions), or none.

    `place` orders rows of the same receipt time; later in the log is greater. Rows of several readers are ordered by
    receipt alone, so by this machine's clock.
    """
    named = ", ".join(f"{column} AS c{at}" for at, column in enumerate(columns))
    order = ", ".join(f"{name} DESC" for name in place)

    def side(event_time: str) -> str:
        return (
            f"SELECT {named}, recv_time AS at, tuple({', '.join(place)}) AS place FROM {table}"
            f" WHERE {where} AND {event_time}(event_time) ORDER BY sort_time DESC, {order} LIMIT 1"
        )

    return (
        f"SELECT {', '.join(f'c{at}' for at in range(len(columns)))}"
        f" FROM ({side('isNotNull')} UNION ALL {side('isNull')}) ORDER BY at DESC, place DESC LIMIT 1"
    )
