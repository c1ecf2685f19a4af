"""What `replay --speed` tells: progress, and at the end what was played, received and stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manage.feed_player import Played
from manage.spool_tail import Arrived, Tail

Document = dict[str, Any]  # JSON


def account(files: Sequence[str], played: Played, tail: Tail, found: Arrived | None, unknown: str) -> Document:
    """The answer of `replay --speed`; `differences` is empty where all that was played is stored, once."""
    return {
        "files": list(files),
        "outcome": played.outcome,
        "recorded_lines": played.total,
        "played_lines": played.lines,
        "sent": {"lines": played.sent, "clock_lines": played.clock},
        "spooled": {"lines": tail.lines, "clock_lines": tail.clock, "facts": tail.facts},
        "stored": None
        if found is None
        else {"lines_and_facts": found.events, "refused_lines": found.dead, "twice": found.twice},
        "seconds": round(played.seconds, 3),
        "market_from": played.market_from,
        "market_to": played.market,
        "differences": differences(played, tail, found, unknown),
    }


def storable(tail: Tail) -> int:
    """How many lines and facts of a tail must be in the tables: clock lines are counted and not stored."""
    return tail.lines - tail.clock + tail.facts


def differences(played: Played, tail: Tail, found: Arrived | None, unknown: str) -> list[str]:
    """What does not agree, in sentences; empty = the pipeline has received and stored all that was played, once."""
    told = []
    if played.outcome == "lost":
        told.append(f"{played.why}; the recording was not played to its end")
    if played.total is not None and played.outcome == "finished" and played.lines != played.total:
        told.append(f"the recording has {played.total:,} lines, {played.lines:,} were played")
    return told + underway(played, tail, found, unknown)


def underway(played: Played, tail: Tail, found: Arrived | None, unknown: str = "") -> list[str]:
    """What of that which the sockets took is not stored yet, or more than once."""
    told = []
    if tail.lines != played.sent:
        told.append(f"sent {played.sent:,} lines, but {tail.lines:,} came into the spool")
    if found is None or unknown:
        told.append(f"what is stored is unknown: {unknown or 'ClickHouse was not asked'}")
    if found is not None:
        if found.events + found.dead != storable(tail):
            told.append(
                f"spooled {storable(tail):,} lines and facts without clock lines, but "
                f"{found.events + found.dead:,} are in ClickHouse"
            )
        if found.twice:
            told.append(f"{found.twice:,} rows stand twice in ClickHouse")
    return told


def progress_line(played: Played) -> str:
    """One line with how far it is: lines, the market's time, the speed reached."""
    total = "" if played.total is None else f" of {played.total:,}"
    speed = f"{played.market_seconds / played.seconds:,.1f}x" if played.seconds else "-"
    return f"{played.seconds:6.1f} s  {played.lines:,}{total} lines  market {played.market or 'unknown'}  {speed}"


def account_text(document: Document) -> str:
    """The account for people: a line per station, then what does not agree."""
    sent, spooled, stored = document["sent"], document["spooled"], document["stored"]
    total = document["recorded_lines"]
    played = f"{document['played_lines']:,}" + ("" if total is None else f" of {total:,}")
    where = "unknown"
    if stored is not None:
        where = f"{stored['lines_and_facts']:,} lines and facts, {stored['refused_lines']:,} refused lines"
        where += f", {stored['twice']:,} twice" if stored["twice"] else ""
    lines = [
        f"  played      {played} recorded lines in {document['seconds']:,.1f} s",
        f"  market      {document['market_from'] or 'unknown'} to {document['market_to'] or 'unknown'} (Eastern)",
        f"  sent        {sent['lines']:,} lines with handshake, {sent['clock_lines']:,} of them clock",
        f"  spooled     {spooled['lines']:,} lines, {spooled['clock_lines']:,} of them clock; "
        f"{spooled['facts']:,} facts",
        f"  clickhouse  {where} (clock lines are not stored)",
    ]
    end = "ended by Ctrl-C: what was sent is stored" if document["outcome"] == "interrupted" else ""
    lines += [f"✗ {difference}" for difference in document["differences"]] or [
        f"✓ {end or 'the pipeline has stored what was sent, once'}"
    ]
    return "\n".join(lines)
