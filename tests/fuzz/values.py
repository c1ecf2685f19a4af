"""Values of a field by its kind: nearly all as a feed sends them, a few at the edges. Drawn from pools, for speed."""

from __future__ import annotations

import random
from datetime import date, timedelta

from tests.fuzz.mutations import DATES, TIMES

POOL = 150
ODD = 2  # of them
# Nights of changing clocks under both rules, ends of months and years, plain days.
DAYS = [date.fromisoformat(text) for text in (
    "2024-11-03", "2024-11-03", "2024-03-10", "2006-10-29", "2006-04-02", "2007-03-11", "2021-12-31", "2024-02-29",
    "2024-01-02", "2025-07-16", "2099-11-01", "1999-12-31",
)]  # fmt: skip
NUMBERS = (
    b"", b"0", b"-0", b"007", b"-", b"+1", b"1.0", b"-5", b"9223372036854775807", b"9223372036854775808", b"1" * 40,
    b"-9223372036854775807", b"-9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"2147483647",
    b"2147483648", b"-2147483648", b"999999999999999999", b"9999999999999999999", b"0" * 25,
)  # fmt: skip
PRICES = (
    b"", b"12.", b".5", b".", b"-.5", b"-", b"--1", b"1.2.3", b"1.1234567", b"1.0000000", b"9223372036854.775807",
    b"1e5", b"9223372036854.775808", b"-9223372036854.775807", b"9223372036855", b" 1", b"0",
    b"0.0000", b"000000000000001.5",
    b"123456789012.5", b"1234567890123", b"-123456.123456",
)  # fmt: skip
TEXTS = (b"", b"\xff", b"A B", b"Z" * 64, b"Z" * 65, b"~", b"!", b"\x7f")
ODD_VALUES = {
    "clock": (b"", b"20240132 09:30:00", b"2024010 09:30:00", b"20240102T09:30:00", b"20240102 99:99:99", b"20240102 "),
    "stamp": (
        b"",
        b"2024-01-02 99:99:99",
        b"2024-01-02 ",
        b"2024-01-02",
        b"2024-11-03 23:59:60",
        b"1900-01-01 00:00:00",
    ),
    "symbol": (b"", b"a", b"A B", b"X" * 64, b"X" * 65, b"\xc3\xa9", b"BRK.A"),
    "number": NUMBERS,
    "price": PRICES,
    "time": TIMES,
    "date": DATES,
    "us_date": DATES,
    "text": TEXTS,
    "codes": (*TEXTS, b"01-02"),
    "contents": (b"", b"OE", b"xC", b"C1", b"\xffb", b" ", b"c", b"CEO"),
    "day_code": (b"0", b"00", b"32", b"-1", b"x", b"031", b"1.0", b"2147483648"),
    "delay": (b"0", b"-0", b"15", b"x", b"-1", b"00"),
    "side": (b"", b"S", b"AB", b"b"),
    "flag": (b"", b"t", b"TT", b"1"),
    "letter": (b"", b"Z", b"i", b"II"),
    "trade_type": (b"", b"Z", b"CE", b"c"),
    "basis": (b"", b"CE", b"c", b"1", b"\xc1"),
    "maker": TEXTS,
}
SYMBOLS = [b"AAPL", b"SPY", b"@ESZ24", b"@ESM19", b"TSLA", b"BRK.A", b"QQQ"]


class Values:
    """One day's pools, drawn anew for every round."""

    def __init__(self, rng: random.Random) -> None:
        self.day = rng.choice(DAYS)
        self.center_second = rng.choice((0, 5_400, 7_200, 34_200, 43_000, 86_390))
        self._rng = rng
        self._pools: dict[str, list[bytes]] = {}

    def column(self, kind: str, count: int) -> list[bytes]:
        """So many values of a kind."""
        if kind not in self._pools:
            odd = self._rng.choices(ODD_VALUES[kind], k=ODD)
            self._pools[kind] = [*(self._good(kind) for _ in range(POOL - ODD)), *odd]
        return self._rng.choices(self._pools[kind], k=count)

    def lines(self, count: int, *fields: str | bytes) -> list[bytes]:
        """So many lines of fields: a kind, or what stands there in each."""
        columns = [self.column(field, count) if isinstance(field, str) else [field] * count for field in fields]
        return [b",".join(parts) for parts in zip(*columns, strict=True)]

    def time(self) -> bytes:
        """A time of the day near the round's own."""
        rng = self._rng
        second = (self.center_second + rng.randrange(-4000, 4000)) % 86_400
        text = b"%02d:%02d:%02d" % (second // 3600, second // 60 % 60, second % 60)
        places = rng.choice((6, 6, 6, 6, 3, 0))
        return text if not places else text + b"." + b"%0*d" % (places, rng.randrange(10**places))

    def date(self, form: str) -> bytes:
        """The day or one beside it."""
        day = self.day + timedelta(days=self._rng.choice((0, 0, 0, 0, -1, 1)))
        return day.strftime(form).encode()

    def _good(self, kind: str) -> bytes:
        rng = self._rng
        match kind:
            case "symbol":
                return rng.choice(SYMBOLS) if rng.random() < 0.9 else b"S%d" % rng.randrange(100_000)
            case "number":
                return b"%d" % rng.randrange(rng.choice((10, 1000, 10**7, 10**12)))
            case "price":
                places = rng.choice((2, 4, 4, 4, 6, 1))
                return b"%d.%0*d" % (rng.randrange(-9, 5000), places, rng.randrange(10**places))
            case "time":
                return self.time()
            case "clock":
                return self.date("%Y%m%d") + b" " + self.time()
            case "stamp":
                return self.date("%Y-%m-%d") + b" " + self.time()
            case "date":
                return self.date("%Y-%m-%d")
            case "us_date":
                return self.date("%m/%d/%Y")
            case "text" | "codes":
                return rng.choice((b"01", b"873D17", b"143A", b"05", b"3D87"))
            case "contents":
                return rng.choice((b"ba", b"b", b"a", b"Cbav", b"C", b"Ev", b"O", b"Cbaohlcv", b"v"))
            case "day_code":
                return b"%d" % rng.choice((self.day.day, self.day.day, rng.randrange(1, 32)))
            case "delay":
                return b""
            case "side":
                return rng.choice((b"A", b"B"))
            case "flag":
                return rng.choice((b"T", b"T", b"F"))
            case "letter":
                return rng.choice((b"I", b"X"))
            case "trade_type" | "basis":
                return rng.choice((b"C", b"E", b"O"))
            case _:
                return rng.choice((b"MD01", b"MD02", b"NSDQ", b"ARCX", b"BOSX", b""))
