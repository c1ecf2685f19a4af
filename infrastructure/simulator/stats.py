"""S,STATS and S,CLIENTSTATS lines."""

from __future__ import annotations

from datetime import UTC, datetime

from infrastructure.simulator.columns import SECOND_US
from infrastructure.simulator.feed import VERSION, Feed
from infrastructure.simulator.session import Session


def stats_line(feed: Feed) -> str:
    """The 19 fields of S,STATS. The simulator has no upstream traffic: the received figures are those sent out."""
    seconds = max(1.0, (datetime.now().astimezone() - feed.started).total_seconds())
    sent = sum(s.connection.bytes_sent for s in feed.sessions) / 1024
    received = sum(s.connection.bytes_received for s in feed.sessions) / 1024
    limit, watched, clients = feed.symbol_limit, feed.symbols_watched, len(feed.sessions)
    rates = f"{received:.2f},{received / seconds:.2f},{received / seconds:.2f}"
    rates += f",{sent:.2f},{sent / seconds:.2f},{sent / seconds:.2f}"
    login = feed.login.login_id
    if not feed.connected:
        return (
            f"S,STATS,,,{limit},{watched},{clients},0,{feed.reconnections},0,,,Not Connected,{VERSION},{login},{rates},"
        )
    started = feed.started.strftime("%b %d ") + feed.started.strftime("%I:%M%p").removeprefix("0")
    market = datetime.fromtimestamp(feed.market.second_us // SECOND_US, tz=UTC).strftime("%b %d %I:%M%p")
    return (
        f"S,STATS,127.0.0.1,60003,{limit},{watched},{clients},0,{feed.reconnections},{feed.reconnections},"
        f"{started},{market},Connected,{VERSION},{login},{rates},"
    )


def client_stats_line(session: Session) -> str:
    """The 9 fields of S,CLIENTSTATS for one client."""
    connection = session.connection
    symbols = str(session.symbols_watched) if session.streams else ""
    regional = "0" if session.stats_type == 1 else ""
    return (
        f"S,CLIENTSTATS,{session.stats_type},{session.number},{session.client_name},"
        f"{session.since.strftime('%Y%m%d %H%M%S')},{symbols},{regional},{connection.bytes_received / 1024:.2f},"
        f"{connection.bytes_sent / 1024:.2f},{connection.queued_bytes / 1024:.2f},"
    )
