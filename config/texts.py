"""The text of one variable as a setting's value: plain values, lists with commas or as JSON, mappings as JSON.

What is wrong is said per entry: which one, by number or key, and what a right text looks like where JSON is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_origin

from pydantic import TypeAdapter, ValidationError

from config import keys
from config.document import DocumentError, parse
from config.faults import expected

LISTS = frozenset({("symbols",), ("symbols_search", "listed_markets"), ("symbols_search", "security_types")})
EXAMPLES: Mapping[keys.Path, str] = MappingProxyType(
    {
        ("iqfeed", "depth_by_symbol"): '{"@ES#": "orders"}',
        ("ingestion", "assign"): '[["AAPL"], ["MSFT", "TSLA"]]',
    }
)
"""Keys whose text is JSON, each with a text that is taken."""
_LONGEST = 60  # characters of an entry that are quoted


@dataclass(frozen=True, slots=True)
class TextFault:
    """What is wrong with a text; `key` is the setting's dotted name, with the entry's number or key where one is."""

    key: str
    message: str


class TextError(ValueError):
    """The text is not the setting's value; `faults` is never empty."""

    def __init__(self, faults: list[TextFault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


def value_of(key: keys.Key, text: str) -> Any:  # Any: JSON
    """A variable's text as the key's own type. Raises TextError."""
    if key.secret:
        return text
    adapter: TypeAdapter[Any] = TypeAdapter(key.annotation)
    try:
        return adapter.dump_python(adapter.validate_python(_given(key, text)), mode="json")
    except ValidationError as error:
        raise TextError([_fault(key, dict(fault)) for fault in error.errors()]) from None


def is_mapping(key: keys.Key) -> bool:
    """Whether the setting's value is a JSON object of the user's own keys."""
    return get_origin(key.annotation) is dict


def _given(key: keys.Key, text: str) -> Any:  # Any: text, or the list or object it stands for
    if key.path in LISTS and not text.lstrip().startswith("["):
        return [part for part in text.split(",") if part]
    if key.path not in LISTS and key.path not in EXAMPLES:
        return text
    wanted = "JSON object" if is_mapping(key) else "JSON list"
    try:
        given = parse(text, key.variable).value if is_mapping(key) else json.loads(text)
    except DocumentError as error:
        why = str(error) if str(error).startswith("this key") else f"{error}, found {_quoted(text)}"
        raise TextError([TextFault(key.dotted, f"expected a {wanted}: {why}{_example(key)}")]) from None
    except ValueError as error:
        message = f"expected a {wanted}: {error}, found {_quoted(text)}{_example(key)}"
        raise TextError([TextFault(key.dotted, message)]) from None
    if not is_mapping(key) and not isinstance(given, list):
        raise TextError([TextFault(key.dotted, f"expected a {wanted}, found {_quoted(text)}{_example(key)}")])
    return given


def _fault(key: keys.Key, fault: dict[str, Any]) -> TextFault:  # Any: of pydantic
    """In an entry's own words: its key or number, and the text that is no value, unless the sentence has it."""
    message, value = expected(fault, key.secret), fault.get("input")
    where = [part for part in fault["loc"] if part != "[key]"]
    if not where:
        return TextFault(key.dotted, message + _example(key))
    if isinstance(value, str) and fault["type"] == "value_error":
        message = f"{_quoted(value)}: {message}"
    if isinstance(where[0], int):
        number = f"number {where[-1] + 1} of the list" + (f" of instance {where[0]}" if len(where) > 1 else "")
        separator = ", " if message.startswith('"') else ": "
        message = f"{number}{separator}{message}"
    return TextFault(".".join([key.dotted, *map(str, where)]), message + _example(key))


def _example(key: keys.Key) -> str:
    text = EXAMPLES.get(key.path)
    return f"; for example {key.variable}='{text}'" if text else ""


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")
