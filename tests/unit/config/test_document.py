import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.document import DocumentError, parse
from config.durations import seconds, spoken

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=20)


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


@given(st.dictionaries(st.text(), VALUES), st.sampled_from([None, 1, 4]), st.booleans())
def test_places_point_at_the_keys(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = parse(text, "f")
    assert document.value == value
    lines = text.split("\n")
    for path, place in document.places.items():
        rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
        decoded, _ = json.JSONDecoder().raw_decode(rest)
        assert decoded == (path[-1] if isinstance(path[-1], str) else at(value, path))


@given(st.text(max_size=60) | st.dictionaries(st.text(), VALUES, max_size=3).map(lambda v: json.dumps(v)[:-1]))
def test_any_text_is_parsed_or_refused_with_a_place(text: str) -> None:
    try:
        parse(text, "f")
    except DocumentError as error:
        assert error.place.line >= 1 and error.place.column >= 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_hostile_text_is_refused_not_fatal(text: str) -> None:
    with pytest.raises(DocumentError):
        parse(text, "f")


@pytest.mark.parametrize(
    ("text", "value"), [("45", 45), ("45s", 45), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5)]
)
def test_durations_as_people_write_them(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("value", "text"), [(45, "45 s"), (0.25, "250 ms"), (5400, "1 h 30 min"), (61, "1 min 1 s"), (0, "0 s")]
)
def test_durations_are_echoed_with_units(value: float, text: str) -> None:
    assert spoken(value) == text
