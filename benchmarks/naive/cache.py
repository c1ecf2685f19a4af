"""market.features to Redis: the newest value of each symbol of a poll in one pipeline."""

from __future__ import annotations

import json

from aiokafka import ConsumerRecord
from redis.asyncio import Redis

from benchmarks.naive.wire import decode
from benchmarks.naive.worker import Job, consume


async def main(job: Job) -> None:
    """Cache for ever."""
    redis = Redis(host=job.redis_host, port=job.redis_port)

    async def handle(records: list[ConsumerRecord]) -> None:
        newest = {}
        for record in records:
            row = decode("market.features", record.value)
            newest[row["symbol"]] = row
        if newest:
            pipeline = redis.pipeline(transaction=False)
            for symbol, row in newest.items():
                pipeline.set(f"md:last:{symbol}", json.dumps(row, default=str))
            await pipeline.execute()

    await consume(job, ("market.features",), handle)
