"""Which symbols the feed does not serve, and why: counted, listed up to a bound, and said once per change.

beyond limit: behind the account's limit in the order of the settings, never asked for; limit: the account watches no
more (`S,SYMBOL LIMIT REACHED`); unknown: no such symbol (`n`); no depth: known, but without market depth now (`q`,
Level 2 only; the watch stays). All but the first are asked for again with every reconnect, and said again only where
their reason changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline_orchestrator.component import Context
from pipeline_orchestrator.ingestion.subscriptions import BEYOND, LIMIT, NO_DEPTH, UNKNOWN, Subscriptions
from pipeline_orchestrator.telemetry.refused import REFUSED_GAUGE, refused_gauge

LISTED = 20  # names at most in one text
SETTLED_NS = 5_000_000_000  # so long after its watch a symbol that is not refused counts as served


def names(symbols: Iterable[str]) -> str:
    """`A, B, C and 12 more`."""
    found = sorted(symbols)
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more


def refused_text(wishes: Subscriptions) -> str:
    """`level1: 3 of 500 symbols refused: 2 by the account's limit (500): A, B; 1 unknown: C`; "" for none."""
    if not wishes.refused:
        return ""
    parts = []
    limit = f" ({wishes.limit})" if wishes.limit is not None else ""
    words = {
        BEYOND: f"beyond the account's limit{limit}, not asked for",
        LIMIT: f"by the account's limit{limit}",
        UNKNOWN: "unknown",
    }
    for reason, said in words.items():
        of = [symbol for symbol, why in wishes.refused.items() if why == reason]
        if of:
            parts.append(f"{len(of)} {said}: {names(of)}")
    return f"{wishes.connection}: {len(wishes.refused)} of {len(wishes.wanted)} symbols refused: {'; '.join(parts)}"


def depth_text(wishes: Subscriptions) -> str:
    """`level2: 1 of 4 symbols without depth now: A`; "" for none."""
    if not wishes.without_depth:
        return ""
    counted = f"{len(wishes.without_depth)} of {len(wishes.wanted)}"
    return f"{wishes.connection}: {counted} symbols without depth now: {names(wishes.without_depth)}"


def next_step(wishes: Subscriptions) -> str:
    """What an operator can do about refused symbols."""
    if {LIMIT, BEYOND} & set(wishes.refused.values()):
        return "name fewer symbols (symbols, symbols_file), or have the account's limit raised; then restart"
    return "correct them where they are named: manage_pipeline.py config show --origin" if wishes.refused else ""


class RefusalReport:
    """Tells gauges and log lines of one connection; `tell` is called about once a second."""

    def __init__(self, wishes: Subscriptions) -> None:
        self.wishes = wishes
        self._said: dict[str, str] = {}
        self._missing_since: dict[str, int] = {}
        self._listed: dict[str, str] | None = None

    def tell(self, ctx: Context, now_ns: int) -> None:
        """Gauges, and what changed since it was last said. `now_ns` = monotonic clock."""
        wishes = self.wishes
        name = wishes.connection
        ctx.gauge("feed_symbols_limit", wishes.limit, connection=name)
        ctx.gauge("feed_symbols_refused", len(wishes.refused), connection=name)
        ctx.gauge("feed_refused_symbols", refused_text(wishes) or None, connection=name)
        if wishes.refused != self._listed:  # a long list is sent when it changes
            self._listed = dict(wishes.refused)
            ctx.gauge(REFUSED_GAUGE, refused_gauge(self._listed), connection=name)
        if name == "level2":
            ctx.gauge("feed_symbols_without_depth", len(wishes.without_depth), connection=name)
            ctx.gauge("feed_without_depth_symbols", depth_text(wishes) or None, connection=name)
        current = dict.fromkeys(wishes.without_depth, NO_DEPTH) | wishes.refused
        news = {symbol: why for symbol, why in current.items() if self._said.get(symbol) != why}
        if news:
            self._said |= news
            lists = {
                why.replace(" ", "_"): names(symbol for symbol, reason in news.items() if reason == why)
                for why in (BEYOND, LIMIT, UNKNOWN, NO_DEPTH)
                if why in news.values()
            }
            level = "INFO" if set(news.values()) == {NO_DEPTH} else "WARNING"
            ctx.event(level, "symbols_refused", connection=name, symbols=len(news), **lists)
        served = self._served(current, now_ns)
        if served:
            for symbol in served:
                del self._said[symbol]
            ctx.event("INFO", "symbols_served", connection=name, symbols=len(served), now_served=names(served))

    def _served(self, current: dict[str, str], now_ns: int) -> list[str]:
        """Symbols once refused that are watched again, and have not been refused for a while."""
        watched = self.wishes.watched
        missing = {symbol for symbol in self._said if symbol not in current and symbol in watched}
        self._missing_since = {symbol: self._missing_since.get(symbol, now_ns) for symbol in missing}
        return [symbol for symbol, since in self._missing_since.items() if now_ns - since >= SETTLED_NS]
