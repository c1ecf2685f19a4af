"""Level 1 lines that were cut, or hold what cannot be read in any field, are refused; what is merely empty is not."""

from __future__ import annotations

import pytest

from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, SYMBOL
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.reasons import LineError
from tests.unit.ingestion.lines import LEVEL1, LEVEL2
from tests.unit.ingestion.test_reference_parser import TRADE, event, update

FULL = update(**TRADE, Message_Contents="C", Delay="0")


@pytest.mark.parametrize("kind", [b"Q", b"P"])
@pytest.mark.parametrize("contents", [b"C", b"ba", b""])
def test_a_line_that_ends_before_it_says_what_it_is_is_refused(kind: bytes, contents: bytes) -> None:
    line = kind + FULL[1:].replace(b",C,", b"," + contents + b",", 1)
    said = line.index(b"," + contents + b",", 2) + 1  # where Message Contents begins
    for end in range(1, said):
        with pytest.raises(LineError) as error:
            event(line[:end])
        assert error.value.reason == "missing_field"


@pytest.mark.parametrize(("kind", "contents"), [(b"Q", b"ba"), (b"P", b"C")])
def test_fields_missing_at_the_end_are_as_good_as_empty(kind: bytes, contents: bytes) -> None:
    line = kind + FULL[1:].replace(b",C,", b"," + contents + b",", 1)
    fields = line.split(b",")
    said = fields.index(contents)
    for kept in range(said + 1, len(fields) + 1):
        empty = fields[:kept] + [b""] * (len(fields) - kept)
        assert event(b",".join(fields[:kept])) == event(b",".join(empty))


def test_a_trade_that_ends_before_its_price_and_size_is_refused() -> None:
    fields = FULL.split(b",")
    sized = fields.index(b"C") + 3
    for kept in range(2, sized + 1):
        with pytest.raises(LineError) as error:
            event(b",".join(fields[:kept]))
        assert error.value.reason == "missing_field"
    assert event(b",".join(fields[: sized + 1]))["kind"] == "trade"


@pytest.mark.parametrize("contents", [b"\xff\x00zzz", b"C1", b"b a", b"-", b"ba\x80"])
def test_an_update_whose_contents_are_no_letters_is_refused(contents: bytes) -> None:
    with pytest.raises(LineError) as error:
        event(FULL.replace(b",C,", b"," + contents + b",", 1))
    assert error.value.reason == "bad_value"


@pytest.mark.parametrize("port", [LEVEL1, LEVEL2])
@pytest.mark.parametrize("letter", [b"F", b"R", b"N", b"E", b"n", b"q", b"M", b"0"])
def test_a_type_without_its_fields_is_refused_by_both_parsers(letter: bytes, port: int) -> None:
    lines = (letter, letter + b",", letter + b"\r", letter + b",\r", letter + b",,")
    frame = Frame(0, port, 1, 0, len(lines), 0, b"".join(line + b"\n" for line in lines))
    batch, dead = LineParser().parse([frame])
    told = [(letter, "missing_field"), (letter + b",", "missing_field")] * 2
    assert [(each.raw, each.reason) for each in dead] == told
    assert [row["raw"] for row in batch.to_pylist()] == [letter + b",,"]
    for line in (letter, letter + b","):
        with pytest.raises(LineError) as error:
            event(line, port)
        assert error.value.reason == "missing_field"


def test_the_o_of_the_depth_port_has_no_fields() -> None:
    batch, dead = LineParser().parse([Frame(0, LEVEL2, 1, 0, 2, 0, b"O\nO\r\n")])
    assert [(row["kind"], row["raw"]) for row in batch.to_pylist()] == [("other", b"O")] * 2
    assert not dead and event(b"O", LEVEL2)["kind"] == "other"


def test_letters_of_a_newer_client_are_no_fault() -> None:
    assert event(FULL.replace(b",C,", b",xbz,", 1))["kind"] == "quote"


def test_more_fields_than_the_layout_are_no_fault() -> None:
    layout = (SYMBOL, "Message Contents", "Bid", "Ask")
    for line in (b"Q,AAPL,b,1.5,", b"Q,AAPL,b,1.5", b"Q,AAPL,b,1.5,,", b"Q,AAPL,b,1.5,,7,x,,,"):
        assert event(line, layout=layout)["bid"] == 1_500_000


NUMERIC = {
    "Most_Recent_Trade": "bad_number",
    "Most_Recent_Trade_Size": "bad_number",
    "Most_Recent_Trade_Date": "bad_date",
    "Most_Recent_Trade_Time": "bad_time",
    "Most_Recent_Trade_Market_Center": "bad_number",
    "Most_Recent_Trade_Aggressor": "bad_number",
    "Most_Recent_Trade_Day_Code": "bad_number",
    "TickID": "bad_number",
    "Total_Volume": "bad_number",
    "Bid": "bad_number",
    "Bid_Size": "bad_number",
    "Bid_Time": "bad_time",
    "Ask": "bad_number",
    "Ask_Size": "bad_number",
    "Ask_Time": "bad_time",
}


@pytest.mark.parametrize(("kind", "contents"), [("Q", "ba"), ("Q", "C"), ("P", "Cbaohlcv")])
@pytest.mark.parametrize(("field", "reason"), NUMERIC.items())
def test_letters_in_any_number_or_time_refuse_the_line_and_emptiness_does_not(
    kind: str, contents: str, field: str, reason: str
) -> None:
    with pytest.raises(LineError) as error:
        event(update(kind, **{**TRADE, field: "abc"}, Message_Contents=contents))
    assert error.value.reason == reason
    if contents != "C" or field not in {"Most_Recent_Trade", "Most_Recent_Trade_Size"}:
        assert event(update(kind, **{**TRADE, field: ""}, Message_Contents=contents))[
            "bid_size" if field == "Bid" else "symbol"
        ]


@pytest.mark.parametrize(
    ("position", "text", "reason"),
    [(11, b"x", "bad_number"), (14, b"1..2", "bad_number"), (4, b"9:30", "bad_time"), (5, b"A", "bad_number")],
)
def test_a_quote_in_the_default_layout_is_refused_for_garbage_in_a_field_it_does_not_use(
    position: int, text: bytes, reason: str
) -> None:
    fields = b"Q,ATVI,48.51,135,11:13:25.175857,18,1394955,48.5,6400,48.51,900,48.12,48.6,48.0,48.06,ba,01,".split(b",")
    assert event(b",".join(fields), layout=DEFAULT_LAYOUT)["kind"] == "quote"
    fields[position] = text
    with pytest.raises(LineError) as error:
        event(b",".join(fields), layout=DEFAULT_LAYOUT)
    assert error.value.reason == reason


def test_fields_that_are_looked_at_only_for_their_form() -> None:
    layout = (SYMBOL, "Last Time", "Last Size", "Settlement Date", "Exchange ID", "Bid")
    assert event(b"Q,AAPL,09:30:00,5,01/02/2024,5A,1.5", layout=layout)["bid"] == 1_500_000
    assert event(b"P,AAPL,,,,,1.5,", layout=layout)["bid"] == 1_500_000
    for line in (b"Q,AAPL,x,,,,1.5", b"Q,AAPL,,x,,,1.5", b"P,AAPL,,,x,,1.5"):
        with pytest.raises(LineError):
            event(line, layout=layout)


def test_a_delayed_line_is_kept_even_where_it_is_cut_or_unsound() -> None:
    line = b"Q,AAPL,C,15,x"
    assert event(line)["raw"] == line


@pytest.mark.parametrize("line", [b"9,SPY,B,1.5,09:30:00.000000,0000-00-00,\n", b"9,SPY,B,1.5,,00/00/0000,\n"])
def test_a_date_of_zeros_is_no_date_even_as_the_first_one(line: bytes) -> None:
    batch, dead = LineParser().parse([Frame(0, 2, 1, 0, 1, 0, line)])
    assert [letter.reason for letter in dead] == ["bad_date"]
    assert batch.num_rows == 0
