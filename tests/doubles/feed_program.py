"""The test team's own IQFeed as a process.

    python -m tests.doubles.feed_program CHANGES SEED LEVEL1 LEVEL2 ADMIN SYMBOL...

It plays when every symbol is watched on both ports, prints one line of JSON with its final books (best first) and
places in queues, then goes on sending `T` once a second until it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.doubles.feed_server import PORTS, FeedServer, Habits, in_pieces
from tests.doubles.order_market import OrderMarket


async def serve(changes: int, seed: int, ports: dict[str, int], symbols: list[str]) -> None:
    """See the module. A pause after every 50 changes spreads the flow over seconds."""
    market = OrderMarket(symbols, seed)
    async with FeedServer(market, Habits(cut=in_pieces(seed, 4000)), ports) as feed:
        for port in ("level1", "level2"):
            await feed.watched(port, len(symbols), seconds=90)
        await feed.play(changes, clock_every=500, pause=0.02)
        books = {symbol: [book.side("B"), book.side("A")] for symbol, book in market.books.items()}
        queue = {
            f"{symbol}:{key[0]}": book.ahead(key[0])
            for symbol, book in market.books.items()
            for key in list(book.orders)[:5]
            if book.future
        }
        sent = {symbol: feed.clients["level2"][-1].lines[symbol] for symbol in symbols}
        print(json.dumps({"books": books, "queue": queue, "sent": sent}), flush=True)
        while True:
            feed.strike()
            await asyncio.sleep(1)


if __name__ == "__main__":
    changes, seed, *ports = map(int, sys.argv[1:6])
    asyncio.run(serve(changes, seed, dict(zip(PORTS, ports, strict=True)), sys.argv[6:]))
