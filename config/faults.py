"""What a validator found, in the product's words, and which keys it speaks of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from config import keys


def involved(section: tuple[str | int, ...], message: str) -> list[keys.Path]:
    """The keys of a section that a message names; all of them where it names none."""
    within = [path for path in keys.all_keys() if path[: len(section)] == section]
    return [path for path in within if re.search(rf"\b{path[-1]}\b", message)] or within


def expected(fault: Mapping[str, Any], secret: bool) -> str:
    """`expected ...`: pydantic's sentence in the product's words, with the value unless it is secret."""
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = re.sub(r"^(Input|String) should ", "expected ", message).replace("expected be ", "expected ", 1)
    message = re.sub(r"^expected (?=greater|less)", "expected a value ", message)
    value = fault.get("input")
    if secret or _holds_keys(value) or str(fault["type"]) == "value_error":
        return message
    shown = json.dumps(value, default=str)
    return f"{message}, found {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _holds_keys(value: Any) -> bool:  # Any: JSON
    """Whether there is an object in it, whose keys nobody knows."""
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_holds_keys, value)))
