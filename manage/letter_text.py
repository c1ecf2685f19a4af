"""The answers of `dlq` for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Style = Callable[[str, str], str]
Json = Mapping[str, Any]  # Any: JSON
DETAIL_CHARACTERS = 60
HEX_PER_LINE = 64


def list_text(document: Json, style: Style) -> str:
    """A table, newest first, and what is not shown."""
    letters = document["letters"]
    if not letters:
        return "no dead letter"
    head = ("ID", "REASON", "POSITION", "RECEIVED", "BYTES", "REPLAYED", "DETAIL")
    rows = [head, *(_row(letter) for letter in letters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines[0] = style(lines[0], "bold")
    counts = " · ".join(f"{reason} {count:,}" for reason, count in document["by_reason"].items())
    lines.append(f"{document['count']:,} in all: {counts}" + _not_shown(document))
    return "\n".join(lines)


def _not_shown(document: Json) -> str:
    shown = len(document["letters"])
    return f"; the newest {shown:,} are shown (--limit)" if shown < document["count"] else ""


def _row(letter: Json) -> tuple[str, ...]:
    return (
        letter["id"],
        letter["reason"],
        letter["position"],
        letter["recv_time"],
        str(letter["bytes"]),
        became(letter["replayed"]) if letter["replayed"] else "-",
        letter["detail"][:DETAIL_CHARACTERS],
    )


def became(row: Json) -> str:
    """What a replayed line is now."""
    if row["table"] == "dlq":
        return f"refused again ({row['what']}) as {row['as']}"
    return f"{row.get('what') or row['table']} as {row['as']}"


def show_text(document: Json, style: Style) -> str:
    """Each letter, a line per fact."""
    return "\n\n".join("\n".join(_facts(letter, style)) for letter in document["letters"])


def _facts(letter: Json, style: Style) -> Iterator[str]:
    yield style(letter["id"], "bold")
    yield f"reason      {letter['reason']}" + (f": {letter['detail']}" if letter["detail"] else "")
    yield f"position    {letter['position']}  ({letter['source']})"
    if letter["identity"] is not None:
        yield f"identity    {letter['identity']}"
    yield f"refused by  {letter['writer']}, kept at {letter['log_position']}"
    yield f"received    {letter['recv_time']}" + (f" on {letter['port']}" if letter["port"] else "")
    yield f"symbol      {letter['symbol'] or 'unknown'}"
    headers = letter["headers"]
    yield "headers     " + (", ".join(f"{name}={value}" for name, value in headers.items()) if headers else "none")
    yield f"bytes       {letter['bytes']:,}"
    yield f"  escaped   {letter['raw_escaped']}"
    text = letter["raw_hex"]
    for at in range(0, len(text), HEX_PER_LINE):
        yield f"  {'hex' if at == 0 else '':<9} {text[at : at + HEX_PER_LINE]}"
    yield "replayed    " + (became(letter["replayed"]) if letter["replayed"] else "no")
    yield f"look at     {letter['where_to_look']}"


def replay_text(document: Json, style: Style) -> str:
    """What was replayed, what was refused and why, what is still on its way."""
    lines = []
    waiting = set(document["not_stored_yet"])
    for one in document["replayed"]:
        state = "spooled" if "table" not in one else became(one)
        again = one.get("table") == "dlq"
        mark = style("▲", "warn") if again or one["id"] in waiting else style("✓", "good")
        lines.append(f"{mark} {one['id']}  {state}" + ("" if "table" in one else f" as {one['as']}"))
    lines += [f"{style('✗', 'bad')} {one['id']}  {one['why']}" for one in document["refused"]]
    if waiting:
        lines.append(f"{len(waiting)} not stored yet; they are in the spool   → manage_pipeline.py dlq list")
    if document["beyond"]:
        lines.append(f"{document['beyond']:,} more fit: run it again")
    return "\n".join(lines) or "nothing to replay"
