"""One idle socket on the admin port: IQConnect ends itself some seconds after its last client has left.

It is a courtesy to IQConnect and nothing depends on it: where the port does not answer, nobody is told.
"""

from __future__ import annotations

import asyncio

from config.sections import IQFeedConfig
from pipeline_orchestrator.resilience.backoff import Backoff

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 60.0


async def hold_admin_socket(feed: IQFeedConfig) -> None:
    """Connect, read and forget, again and again, until cancelled."""
    backoff = Backoff(base=5.0, cap=RETRY_SECONDS, floor=1.0)
    while True:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(feed.host, feed.admin_port)
        except (OSError, TimeoutError):
            await asyncio.sleep(backoff.next_delay())
            continue
        backoff.reset()
        try:
            while await reader.read(1 << 16):
                continue
        except OSError:
            pass  # the peer is gone: the same as an end of stream
        finally:
            writer.close()
        await asyncio.sleep(backoff.next_delay())
