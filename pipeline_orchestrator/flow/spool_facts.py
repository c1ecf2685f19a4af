"""Own facts in the spool: what decides trust in the data and only ingestion knows, one JSON line per frame."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Fact(NamedTuple):
    """`kind` of `market.events` (connected, lost, subscribed, unsubscribed, gap), feed port by name, symbol or None.

    `detail` becomes the event's `raw` as compact UTF-8 JSON.
    """

    kind: str
    port: str
    symbol: str | None
    detail: dict[str, Any]  # JSON-able; its keys depend on the kind


def encode_fact(fact: Fact) -> bytes:
    """One line of JSON with a line end."""
    document = {"kind": fact.kind, "port": fact.port, "symbol": fact.symbol, "fact": fact.detail}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode_fact(raw: bytes) -> Fact:
    """The fact of a frame's bytes. Raises ValueError where they are no fact."""
    try:
        parsed = json.loads(raw)
        kind, port, symbol, detail = parsed["kind"], parsed["port"], parsed["symbol"], parsed["fact"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a fact: {error}") from error
    if not (isinstance(kind, str) and isinstance(port, str) and isinstance(detail, dict)):
        raise ValueError("not a fact: wrong types")
    if symbol is not None and not isinstance(symbol, str):
        raise ValueError("not a fact: symbol is no text")
    return Fact(kind, port, symbol, detail)


def detail_bytes(fact: Fact) -> bytes:
    """What stands in the event's `raw`."""
    return json.dumps(fact.detail, separators=(",", ":")).encode()
