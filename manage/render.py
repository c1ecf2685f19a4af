"""The status document as text for people. Every figure has its unit; what is not known says so.

Pure: a document in, lines out. `style(text, name)` colours a word that says the same without colour.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Mapping
from typing import Any

Style = Callable[[str, str], str]
Doc = Mapping[str, Any]  # JSON

_BAND = {
    "running": ("●", "good"),
    "starting": ("-", "warn"),
    "stopping": ("-", "warn"),
    "degraded": ("▲", "warn"),
    "stopped": ("-", "dim"),
    "unknown": ("!", "bad"),
}
_STATE_STYLE = {"running": "", "degraded": "warn", "backoff": "bad", "failed": "bad", "stopped": "dim"}
_ORDER = ("simulator", "ingestion", "processing", "storage", "cache")
UNKNOWN = "unknown"


def plain(text: str, _name: str) -> str:
    """The style of an output without colour."""
    return text


def number(value: Any) -> str:  # Any: a JSON figure
    """A figure with at most three significant digits below 1,000 and thousands separated above."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return UNKNOWN
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def milliseconds(value: Any) -> str:  # Any: a JSON figure
    """`412 ms`, `2.7 s`, `unknown`."""
    if not isinstance(value, int | float):
        return UNKNOWN
    return f"{number(value)} ms" if value < 1000 else f"{value / 1000:.3g} s"


def size(value: Any) -> str:  # Any: a JSON figure
    """`212 MiB`, `unknown`."""
    if not isinstance(value, int | float):
        return UNKNOWN
    amount, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{number(amount) if amount < 100 else f'{amount:.0f}'} {unit}"


def duration(value: Any) -> str:  # Any: a JSON figure
    """`3h 12m`, `45s`, `unknown`."""
    if not isinstance(value, int | float):
        return UNKNOWN
    whole = int(max(0, value))
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            return f"{whole // length}{unit} {whole % length // part}{smaller}"
    return f"{whole}s"


def moment(text: Any) -> float | None:  # Any: JSON
    """Seconds since 1970 of an RFC 3339 UTC time as this product writes it; None for anything else."""
    if not isinstance(text, str) or len(text) < 19:
        return None
    try:
        whole = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
    fraction = text[19:].rstrip("Z").removesuffix("+00:00")
    return whole + (float("0" + fraction) if fraction.startswith(".") and fraction[1:].isdigit() else 0.0)


def local_time(text: Any) -> str:  # Any: JSON
    """An RFC 3339 time as local time with its offset."""
    seconds = moment(text)
    return UNKNOWN if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def render_status(document: Doc, style: Style = plain, *, now: float | None = None, wide: bool = False) -> str:
    """The whole picture: band, stages, causes, services, budgets."""
    now = time.time() if now is None else now
    lines = [_band(document, style, now)]
    lines += _stages(document, style, wide)
    lines += _causes(document, style)
    lines += _without_depth(document)
    lines += _corrections(document)
    lines += _dead_letters(document)
    lines += _figures(document)
    lines += _missing(document)
    lines.append("  services    " + services_line(document, style))
    lines += _breakers(document, style, now)
    lines += _degradation(document, style, now)
    lines += _feed(document)
    lines += _budgets(document)
    lines += _audit(document, style)
    return "\n".join(lines)


def _band(document: Doc, style: Style, now: float) -> str:
    if document.get("died"):
        return _down(document["died"], style)
    status = str(document.get("status", UNKNOWN))
    mark, name = _BAND.get(status, ("!", "bad"))
    score = document.get("health_score")
    health = f"health {number(score)}/100" if score is not None else "health unknown"
    parts = [f"{style(mark, name)} Market pipeline  {style(status.upper(), name)}", health]
    since, made = moment(document.get("since")), moment(document.get("generated_at"))
    if since is not None and status != "stopped":
        parts.append(f"up {duration(now - since)}")
    if document.get("pid") is not None:
        parts.append(f"pid {document['pid']}")
    if made is not None and status != "stopped":
        parts.append(f"snapshot {max(0.0, now - made):.1f} s old")
    return "   ".join(parts)


def _down(died: Doc, style: Style) -> str:
    """Not an orderly stop, and not to be taken for one."""
    who = f" (pid {died['pid']})" if died.get("pid") is not None else ""
    age = died.get("last_seen_age_s")
    seen = f", last seen {duration(age)} ago" if age is not None else ""
    return f"{style('✗', 'bad')} Market pipeline  {style('DOWN', 'bad')} - the daemon{who} died without stopping{seen}"


def component_order(name: str) -> tuple[int, str]:
    """Sort key: along the flow, then services by name."""
    kind = name.partition("/")[0]
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), name)


def _stages(document: Doc, style: Style, wide: bool) -> list[str]:
    components: Mapping[str, Doc] = document.get("components") or {}
    if not components:
        return ["  no component runs"] if document.get("status") == "stopped" else ["  components unknown"]
    head = ["STAGE", "STATE", "IN /s", "OUT /s", "idle/busy/blocked", "LAG", "CPU", "MEMORY"]
    if wide:
        head += ["PID", "RESTARTS", "AGE"]
    rows = [head] + [_row(name, components[name], wide) for name in sorted(components, key=component_order)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    right = {2, 3, 6, 7, 8, 9, 10}
    lines = []
    for index, row in enumerate(rows):
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        if index:
            cells[1] = cells[1].replace(row[1], style(row[1], _STATE_STYLE.get(row[1], "warn")), 1)
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _row(name: str, component: Doc, wide: bool) -> list[str]:
    rates, process = component.get("rates") or {}, component.get("process") or {}
    cpu = process.get("cpu_percent")
    row = [
        name + (" (embedded)" if component.get("embedded") else ""),
        str(component.get("state", UNKNOWN)),
        _rate(rates.get("in_per_s")),
        _rate(rates.get("out_per_s")),
        _time(component.get("time") or {}),
        _lag(component.get("gauges") or {}),
        "-" if cpu is None else f"{cpu:.0f} %",
        "-" if process.get("rss_bytes") is None else size(process["rss_bytes"]),
    ]
    if wide:
        row += [_dash(component.get("pid")), _dash(component.get("restarts")), _seconds(component.get("age_s"))]
    return row


def _dash(value: Any) -> str:  # Any: JSON
    return "-" if value is None else str(value)


def _seconds(value: Any) -> str:  # Any: JSON
    return "-" if not isinstance(value, int | float) else f"{value:.1f} s"


def _rate(value: Any) -> str:  # Any: JSON
    return "-" if value is None else number(value)


def _time(shares: Doc) -> str:
    values = [shares.get(name) for name in ("idle", "busy", "blocked")]
    if not all(isinstance(value, int | float) for value in values) or not any(values):
        return "-"  # nothing was timed
    idle, busy, blocked = (f"{value:3.0f}" for value in values)
    on = shares.get("blocked_on")
    return f"{idle}/{busy}/{blocked} %" + (f" on {on}" if on and float(blocked) >= 1 else "")


def _lag(gauges: Doc) -> str:
    """Records waiting, summed over the parts of a component; the age of the oldest."""
    records = [value for value in _of(gauges, "lag_records") if isinstance(value, int | float)]
    ages = [value for value in _of(gauges, "lag_seconds") if isinstance(value, int | float)]
    parts = [f"{number(sum(records))} rec"] if records else []
    parts += [f"{max(ages):.1f} s"] if ages else []
    return " ".join(parts) or "-"


def _of(gauges: Doc, name: str) -> list[Any]:  # Any: JSON
    return [value for key, value in gauges.items() if key.partition("{")[0] == name]


def _causes(document: Doc, style: Style) -> list[str]:
    lines = []
    components: Mapping[str, Doc] = document.get("components") or {}
    for name in sorted(components, key=component_order):
        cause, step = components[name].get("cause"), components[name].get("next_step")
        if cause:
            lines.append(f"  {style('▲', 'warn')} {name}: {cause}" + (f"   → {step}" if step else ""))
    return lines


def _without_depth(document: Doc) -> list[str]:
    """Symbols known to the feed that have no depth now: nothing is wrong, but their books stay empty."""
    components: Mapping[str, Doc] = document.get("components") or {}
    said = [text for one in components.values() for text in _of(one.get("gauges") or {}, "feed_without_depth_symbols")]
    return [f"  no depth    {text}" for text in said if text]


def _corrections(document: Doc) -> list[str]:
    """Corrections of trades that changed no bar; `symbol` says why."""
    components: Mapping[str, Doc] = document.get("components") or {}
    gauges = [one.get("gauges") or {} for one in components.values()]
    done, missed = (
        sum(value for each in gauges for value in _of(each, name) if isinstance(value, int | float))
        for name in ("corrections", "corrections_not_applied")
    )
    return [f"  corrections {number(done)} applied, {number(missed)} not   → symbol NAME"] if missed else []


def _dead_letters(document: Doc) -> list[str]:
    """What could not be used since the start, by reason."""
    letters: Doc = document.get("dead_letters") or {}
    if not letters.get("count"):
        return []
    reasons = " · ".join(f"{reason} {number(count)}" for reason, count in (letters.get("by_reason") or {}).items())
    return [f"  refused     {number(letters['count'])} since start: {reasons}   → manage_pipeline.py dlq list"]


def _figures(document: Doc) -> list[str]:
    metrics: Doc = document.get("metrics") or {}
    if not metrics:
        return []
    totals = " → ".join(
        f"{word} {number(metrics.get(key))}"
        for word, key in (("received", "ingested_total"), ("processed", "processed_total"), ("stored", "stored_total"))
    )
    latency = (
        f"p50 {milliseconds(metrics.get('latency_p50_ms'))} p99 {milliseconds(metrics.get('latency_p99_ms'))}"
        if metrics.get("latency_p50_ms") is not None
        else UNKNOWN
    )
    return [f"  totals      {totals}", f"  latency     {latency}"]


def _missing(document: Doc) -> list[str]:
    names = [str(name).replace("_", " ") for name in document.get("not_evaluated") or []]
    return [f"  not judged  {', '.join(names)}"] if names else []


def services_line(document: Doc, style: Style = plain) -> str:
    """`kafka ok 3 ms · clickhouse slow 412 ms · redis unknown`."""
    services: Mapping[str, Doc] = document.get("infrastructure_status") or {}
    parts = []
    for name, service in services.items():
        state = str(service.get("state", UNKNOWN))
        text = f"{name} {style(state, {'slow': 'warn', 'unreachable': 'bad'}.get(state, ''))}"
        if service.get("round_trip_ms") is not None:
            text += f" {milliseconds(service['round_trip_ms'])}"
        if service.get("mode") == "embedded":
            text += " (embedded)"
        if state == "unreachable" and service.get("address"):
            text += f" at {service['address']}"
        parts.append(text)
    return " · ".join(parts) or UNKNOWN


def _breakers(document: Doc, style: Style, now: float) -> list[str]:
    """Circuit breakers by dependency; of one that is not closed who holds it, for how long, why, and the next probe."""
    services: Mapping[str, Doc] = document.get("infrastructure_status") or {}
    known = {name: one["breaker"] for name, one in services.items() if one.get("breaker")}
    if not known:
        return []
    states = [f"{name} {style(one['state'], '' if one['state'] == 'closed' else 'bad')}" for name, one in known.items()]
    lines = ["  breakers    " + " · ".join(states)]
    for name, one in known.items():
        if one["state"] == "closed":
            continue
        since, probe = moment(one.get("since")), moment(one.get("next_probe"))
        parts = [f"{name} {one['state']} in {one['component']}"]
        parts += [f"for {duration(now - since)}"] if since is not None else []
        parts += [f"next probe in {max(0.0, probe - now):.1f} s"] if probe is not None else []
        others = sum(state != "closed" for state in one["components"].values()) - 1
        parts += [f"in {others} more process{'es' * (others > 1)}"] if others else []
        lines.append(f"  {style('▲', 'warn')} {', '.join(parts)}: {one['reason']}")
    return lines


def _degradation(document: Doc, style: Style, now: float) -> list[str]:
    """What gives way at the moment, in the stated order, since when; and what nobody can tell."""
    found: Doc | None = document.get("degradation")
    if not found:
        return []
    parts = []
    for one in found["in_force"]:
        if one.get("lag_seconds") is not None:
            text = f"{one['what']} {number(one['lag_seconds'])} s"
            text += f" ({number(one['lag_records'])} rec)" if one.get("lag_records") is not None else ""
        else:
            text = f"{one['what']} {number(one['cache_coalescing'])}:1"
        text += f", yields to {one['yields_to']}" if one.get("yields_to") else ""
        since = moment(one.get("since"))
        parts.append(style(text, "warn") + (f" for {duration(now - since)}" if since is not None else ""))
    silent = dict.fromkeys(one["component"] for one in found["unknown"])
    parts += [f"{UNKNOWN} of {', '.join(silent)}"] if silent else []
    return ["  degradation " + (" · ".join(parts) or "none")]


def _feed(document: Doc) -> list[str]:
    """Where the feed listens, port by port: a simulated one has other ports at each start."""
    feed: Doc = (document.get("infrastructure_status") or {}).get("iqfeed") or {}
    addresses: Mapping[str, str] = feed.get("addresses") or {}
    hosts = {address.rpartition(":")[0] for address in addresses.values()}
    if not addresses:
        return []
    ports = " · ".join(f"{name} {address.rpartition(':')[2]}" for name, address in addresses.items())
    mode = f"{feed['mode']}, " if feed.get("mode") not in {None, "", UNKNOWN} else ""
    return [f"  feed        {mode}{' '.join(sorted(hosts))}: {ports}"]


def _budgets(document: Doc) -> list[str]:
    budgets: Mapping[str, Doc] = document.get("budgets") or {}
    parts = []
    for name, budget in budgets.items():
        text = f"{name} {size(budget.get('used_bytes'))}"
        if budget.get("limit_bytes"):
            text += f" of {size(budget['limit_bytes'])}"
        if budget.get("bytes_per_day") is not None:
            text += f", {size(budget['bytes_per_day'])}/day"
        if budget.get("seconds_to_full") is not None:
            text += f", full in {duration(budget['seconds_to_full'])}"
        if _short_of_room(budget):
            text += f", {size(budget['free_bytes'])} free on {budget['volume']}"
        parts.append(text)
    return ["  budgets     " + " · ".join(parts)] if parts else []


def _short_of_room(budget: Doc) -> bool:
    """Whether its file system is full before its limit is reached."""
    free, used, limit = budget.get("free_bytes"), budget.get("used_bytes"), budget.get("limit_bytes")
    return free is not None and used is not None and limit is not None and free < limit - used


def _audit(document: Doc, style: Style) -> list[str]:
    """The last cheap audit of storage, with its age."""
    audit: Doc | None = document.get("audit")
    if not audit:
        return []
    if audit.get("result") == "pending":
        return ["  audit       pending: the tables have not been counted since this start"]
    rows, age = f"{number(audit.get('rows'))} rows", duration(audit.get("age_s") or 0)
    if audit.get("result") != "damaged":
        told = "each stored once" if audit.get("result") == "whole" else "some not counted by the ledger"
        return [f"  audit       {rows}, {told}, {age} ago{'; the next one is pending' if audit.get('pending') else ''}"]
    damage = f"{number(audit['missing_rows'])} missing, {number(audit['duplicated_rows'])} duplicated"
    return [f"  audit       {style('damaged', 'bad')}: {damage} of {rows}, {age} ago   → manage_pipeline.py audit"]
