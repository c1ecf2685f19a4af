"""The answer of `audit` for people: the verdict, each finding on a line, then what is no loss and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Style = Callable[[str, str], str]
Json = Any  # a JSON-able value
NAMED = 12  # partitions that are named


def audit_text(document: Json, style: Style) -> str:
    """All lines."""
    return "\n".join(_lines(document, style))


def _lines(document: Json, style: Style) -> Iterator[str]:
    count = len(document["findings"]) + document["findings_left_out"]
    verdict = {
        "whole": style("✓ whole", "good"),
        "not_judged": style("▲ not judged in full", "warn"),
    }.get(document["verdict"], style(f"✗ {count} findings", "bad"))
    yield f"{verdict}   compared in {document['seconds']:.1f} s: {_compared(document['compared'])}"
    if document["repair"] is not None:
        yield _repair(document["repair"])
    for finding in document["findings"]:
        yield "  " + _finding(finding, style)
    if document["findings_left_out"]:
        yield f"  and {document['findings_left_out']:,} more; narrow it with --from and --to"
    if unjudged := document["not_judged"]:
        more = f" and {len(unjudged) - NAMED} more" if len(unjudged) > NAMED else ""
        yield f"  not judged: {', '.join(unjudged[:NAMED])}{more}: storage has no certain position there (no ledger"
        yield "  in this state directory, another log, or it is still reading again)   → audit again later"
    if document["explained"]:
        yield "not judged, or no loss:"
    for one in document["explained"]:
        count = "" if one["count"] is None else f"{one['count']:,} "
        yield f"  {one['station']:<22} {count}{one['what']}: {one['why']}"
    if any(finding["can_repair"] for finding in document["findings"]):
        yield "  Try: manage_pipeline.py audit --repair"


def _compared(compared: Json) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in compared.items())


def _finding(finding: Json, style: Style) -> str:
    if "range" in finding:
        lines = f"{finding['lines']:,} line{'' if finding['lines'] == 1 else 's'}"
        where = f"{finding['range']} ({lines})"
    else:
        where = f"{finding['rows']:,} rows, identities not known"
    return f"{finding['station']:<22} {style(finding['problem'], 'bad')} {where}: {finding['cause']}"


def _repair(repair: Json) -> str:
    count = len(repair["before"]["findings"]) + repair["before"]["findings_left_out"]
    told = f"repair: {count} findings before; {repair['partitions']} partitions read again, {repair['values']} values"
    return told + ("" if repair["finished"] else "; storage has not finished, audit again later")
