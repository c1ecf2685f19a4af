"""What `--repair` does: storage and cache are asked to store again, through their own paths, what others still hold.

Storage goes back to the first missing offset and inserts what its table lacks (ledger.rewound): a row that is there is
not inserted again. A cache value goes through the cache's script, which never replaces a newer one. Duplicates are
never removed: which of two rows is the right one is for a person to say.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from pipeline_orchestrator.audit.cut import take_cut
from pipeline_orchestrator.audit.run import Audit, place_orders
from pipeline_orchestrator.storage.cache_rebuild import rebuild_from
from pipeline_orchestrator.storage.repair_orders import RepairOrders

POLL_S = 0.2


async def mend_cache(audit: Audit) -> int:
    """Write the values of the symbols that are behind from ClickHouse; how many were written.

    Raises NotConnectedError. What ClickHouse does not have yet stays behind, and the next audit says so.
    """
    cache = audit.cache
    if cache is None or not cache.behind or cache.log_id is None:
        return 0
    rebuilt = await rebuild_from(audit.store, audit.state_dir)(cache.log_id)
    if rebuilt is None:
        return 0
    values = {symbol: rebuilt.values[symbol] for symbol in cache.behind if symbol in rebuilt.values}
    if not values:
        return 0
    await cache.open()
    try:
        return await cache.mend(values)
    finally:
        await cache.close()


async def mend_tables(audit: Audit, timeout_s: float) -> bool:
    """Place the orders and wait until storage has carried them out; False when it did not in time."""
    await asyncio.to_thread(place_orders, audit)
    limit = time.monotonic() + timeout_s
    while not await asyncio.to_thread(carried_out, audit.state_dir, list(audit.orders)):
        if time.monotonic() > limit:
            return False
        await asyncio.sleep(POLL_S)
    return True


def carried_out(state_dir: Path, orders: list[tuple[str, int]]) -> bool:
    """Whether storage has taken these orders (table, partition) and stored all that they ask for."""
    positions = take_cut(state_dir).positions
    for table, partition in orders:
        position = positions.get(table, {}).get(partition)
        if RepairOrders(state_dir, table).of([partition]) or position is None or position.reads_again:
            return False
    return True
