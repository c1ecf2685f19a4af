"""Lines as strategies: good ones of every type, and good ones damaged in small ways."""

from __future__ import annotations

from hypothesis import strategies as st

from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, FINER, SELECTED, SYMBOL

LEVEL1, LEVEL2 = 1, 2

symbols = st.sampled_from([b"AAPL", b"@ESZ24", b"SPY", b"BRK.A", b"a", b"", b"X" * 64, b"X" * 65, b"A B", b"\xc3\xa9"])
integers = st.one_of(
    st.integers(-5, 10_000).map(lambda n: b"%d" % n),
    st.sampled_from(
        [
            b"",
            b"0",
            b"-0",
            b"007",
            b"-",
            b"+1",
            b"1.0",
            b"9223372036854775807",
            b"9223372036854775808",
            b"-9223372036854775807",
            b"18446744073709551615",
            b"18446744073709551616",
            b"2147483647",
            b"2147483648",
            b"1" * 40,
        ]
    ),
)
prices = st.one_of(
    st.tuples(st.integers(-1000, 100_000), st.integers(0, 999_999)).map(lambda p: b"%d.%06d" % p),
    st.tuples(st.integers(0, 100_000), st.integers(0, 9_999)).map(lambda p: b"%d.%04d" % p),
    st.sampled_from(
        [
            b"",
            b"12.",
            b".5",
            b".",
            b"-.5",
            b"-",
            b"--1",
            b"1.2.3",
            b"1.1234567",
            b"1.0000000",
            b"9223372036854.775807",
            b"9223372036854.775808",
            b"-9223372036854.775807",
            b"9223372036855",
            b"1e5",
            b" 1",
            b"0",
        ]
    ),
)
times = st.one_of(
    st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999)).map(
        lambda t: b"%02d:%02d:%02d.%06d" % t
    ),
    st.sampled_from(
        [
            b"",
            b"99:99:99",
            b"99:99:99.000000",
            b"09:30:00",
            b"09:30:00.",
            b"09:30:00.5",
            b"23:59:60",
            b"24:00:00",
            b"9:30:00",
            b"09-30-00",
            b"09:30:00.1234567",
            b"00:00:00.5",
            b"23:59:59.9",
            b"ab:cd:ef",
            b"01:30:00",
            b"02:30:00",
        ]
    ),
)
dates = st.sampled_from(
    [
        b"",
        b"01/02/2024",
        b"2024-01-02",
        b"03/10/2024",
        b"11/03/2024",
        b"2024-11-03",
        b"02/29/2024",
        b"02/29/2023",
        b"13/01/2024",
        b"00/01/2024",
        b"01/02/24",
        b"20240102",
        b"1899-12-31",
        b"2024/01/02",
        b"07-16-2025",
    ]
)
day_codes = st.one_of(st.sampled_from([b"", b"0", b"1", b"02", b"31", b"32", b"-1", b"x"]))
texts = st.sampled_from([b"", b"01", b"873D17", b"NSDQ", b"MD01", b"\xff", b"A B", b"Z" * 64, b"Z" * 65])
contents = st.sampled_from([b"", b"ba", b"C", b"Cbaohlcv", b"E", b"O", b"OE", b"xC", b"v", b"b", b"C1", b"\xffb", b" "])
sides = st.sampled_from([b"A", b"B", b"A", b"B", b"S", b"", b"AB"])
delays = st.sampled_from([b"", b"", b"", b"0", b"15", b"x", b"-1"])
flags = st.sampled_from([b"T", b"F", b"T", b"", b"t", b"TT"])
letters = st.sampled_from([b"I", b"X", b"", b"Z"])

_BY_NAME = {
    SYMBOL: symbols,
    "Most Recent Trade": prices,
    "Most Recent Trade Size": integers,
    "Most Recent Trade Date": dates,
    "Most Recent Trade Time": times,
    "Most Recent Trade Conditions": texts,
    "Most Recent Trade Market Center": integers,
    "Most Recent Trade Aggressor": integers,
    "Most Recent Trade Day Code": day_codes,
    "TickID": integers,
    "Total Volume": integers,
    "Message Contents": contents,
    "Bid": prices,
    "Bid Size": integers,
    "Bid Time": times,
    "Ask": prices,
    "Ask Size": integers,
    "Ask Time": times,
    "Delay": delays,
    "Last Size": integers,
    "Last Time": times,
    "Settlement Date": dates,
}
_FINE = {name: finer for finer, name in FINER.items()}
_BY_NAME |= dict.fromkeys([*FINER, "Last TimeMS"], times)
layouts = st.one_of(
    st.just((SYMBOL, *SELECTED)),
    st.just(DEFAULT_LAYOUT),
    st.just((SYMBOL,)),
    st.just((SYMBOL, *(_FINE.get(name, name) for name in SELECTED), "Last TimeMS")),
    st.lists(
        st.sampled_from([*SELECTED, *FINER, "Open", "High", "VWAP", "Last Size", "Last Time", "Settlement Date"]),
        min_size=0,
        max_size=25,
        unique=True,
    ).map(lambda names: (SYMBOL, *names)),
)


def join(*fields: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[bytes]:
    parts = [field if isinstance(field, st.SearchStrategy) else st.just(field) for field in fields]
    return st.tuples(*parts).map(b",".join)


# One well-formed value for each kind of field: lines of these are accepted, so that values are compared, not errors.
_GOOD = {
    id(symbols): st.sampled_from([b"AAPL", b"@ESZ24", b"SPY"]),
    id(integers): st.integers(0, 10_000).map(lambda n: b"%d" % n),
    id(prices): st.tuples(st.integers(-10, 500), st.integers(0, 9_999)).map(lambda p: b"%d.%04d" % p),
    id(times): st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999)).map(
        lambda t: b"%02d:%02d:%02d.%06d" % t
    ),
    id(dates): st.sampled_from([b"01/02/2024", b"2024-01-02", b"11/03/2024", b"03/10/2024", b""]),
    id(day_codes): st.sampled_from([b"", b"2", b"3", b"31", b"30"]),
    id(texts): st.sampled_from([b"", b"01", b"873D17", b"NSDQ"]),
    id(sides): st.sampled_from([b"A", b"B"]),
    id(delays): st.sampled_from([b"", b"0"]),
    id(contents): st.sampled_from([b"ba", b"C", b"E", b"O", b"Cbaohlcv"]),
    id(letters): st.sampled_from([b"I", b"X"]),
    id(flags): st.sampled_from([b"T", b"F"]),
}


def good(field: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return _GOOD.get(id(field), field)


def mostly_good(*fields: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[bytes]:
    """The line with every field well-formed, or with any one field of any kind."""
    strict = [good(field) if isinstance(field, st.SearchStrategy) else field for field in fields]
    options = [join(*strict)] * len(strict)
    for index, field in enumerate(fields):
        if isinstance(field, st.SearchStrategy):
            options.append(join(*strict[:index], field, *strict[index + 1 :]))
    return st.one_of(options)


def update(layout: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    return mostly_good(st.sampled_from([b"Q", b"Q", b"P"]), *(_BY_NAME.get(name, prices) for name in layout))


clocks = st.tuples(
    st.just(b"T,"),
    st.sampled_from([b"20240102", b"20241103", b"20240310", b"20240101", b"20240132", b"2024010"]),
    st.just(b" "),
    times,
).map(b"".join)
corrections = st.one_of(
    mostly_good(
        b"C", symbols, letters, st.sampled_from([b"O", b"C", b"", b"S"]), dates, times, prices, integers, integers,
        texts, integers,
    ),
    mostly_good(b"C", symbols, letters, dates, times, prices, integers, integers, texts, integers),
)  # fmt: skip
depth = st.one_of(
    mostly_good(
        st.sampled_from([b"3", b"4", b"6", b"0"]), symbols, integers, texts, sides, prices, integers, integers,
        integers, times, dates,
    ),
    mostly_good(b"5", symbols, integers, texts, sides, times, dates),
    mostly_good(st.sampled_from([b"7", b"8"]), symbols, sides, prices, integers, integers, integers, times, dates),
    mostly_good(b"9", symbols, sides, prices, times, dates),
    mostly_good(
        st.sampled_from([b"Z", b"2"]), symbols, st.sampled_from([b"MD01", b"NSDQ", b"BOSX"]), prices, prices, integers,
        integers, times, dates, integers, times, flags, flags, flags,
    ),
    mostly_good(
        b"2", symbols, texts, prices, prices, integers, integers, times, dates, integers, times, flags, flags, flags,
    ),
)  # fmt: skip
others = st.sampled_from(
    [
        b"S,KEY,99999",
        b"S,SERVER CONNECTED",
        b"S,SERVER DISCONNECTED,",
        b"S,SERVER RECONNECT FAILED",
        b"S,CLEAR DEPTH,@ESZ24,B,",
        b"S,CLEAR DEPTH,@ESZ24,A",
        b"S,CLEAR DEPTH,@ESZ24,",
        b"S,CLEAR DEPTH,",
        b"S,SYMBOL LIMIT REACHED,AAPL",
        b"S",
        b"S,",
        b"n,NOPE",
        b"n,",
        b"q,SPY,",
        b"O",
        b"E,!SYNTAX_ERROR!,",
        b"M,MD01,Market depth 1",
        b"F,AAPL,5,29.5",
        b"F",
        b"M,",
        b"E",
        b"E,,",
        b"0",
        b"F,A B,1",
        b"R,AAPL,,137.0200,2100",
        b"N,DTN,123,:AAPL:,20240102 093000,Headline, with commas",
        b"Z,whatever",
        b"QQ,AAPL",
        b"HTTP/1.1 400 Bad Request",
        b"",
        b",",
        b",,,",
        b"T",
        b"T,",
        b"\x00\xff\x01",
        b"U,BLIN,BOSX,0.,0.,0,0,99:99:99",
    ]
)


def lines(layout: tuple[str, ...], port: int) -> st.SearchStrategy[bytes]:
    """A line of any type, mostly of the port's own, sometimes cut off, with extra fields or with a stray byte."""
    own = update(layout) if port == LEVEL1 else depth
    mixed = [own, own, own, own, clocks, others, corrections if port == LEVEL1 else depth, update(layout), depth]
    plain = st.one_of(mixed)
    return st.one_of(plain, plain, plain, _damaged(plain)).map(lambda line: line.replace(b"\n", b""))


@st.composite
def _damaged(draw: st.DrawFn, plain: st.SearchStrategy[bytes]) -> bytes:
    line = draw(plain)
    how = draw(st.integers(0, 3))
    at = draw(st.integers(0, max(0, len(line) - 1)))
    if how == 0:
        return line[:at]
    if how == 1:
        return line + b"," * draw(st.integers(1, 140))
    if how == 2:
        return line[:at] + bytes([draw(st.integers(0, 255))]) + line[at + 1 :]
    return line + b"," + draw(st.binary(max_size=8))
