"""Feed to market.events: two sockets read line by line, one `send()` per event."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.naive import lines
from benchmarks.naive.wire import encode
from benchmarks.naive.worker import Job

TOPIC = "market.events"


class Ingest:
    """Both connections share one counter, as the product's identity asks."""

    def __init__(self, job: Job, producer: AIOKafkaProducer) -> None:
        self.job, self.producer = job, producer
        self.epoch, self.seq = int(time.time()), 0

    async def publish(self, event: dict[str, Any], port: str) -> None:
        """Give the event its identity and send it."""
        event |= {
            "instance": 0,
            "epoch": self.epoch,
            "seq": self.seq,
            "port": port,
            "recv_time_us": time.time_ns() // 1000,
            "source": "L",
            "summary": event.get("summary") or False,
        }
        self.seq += 1
        symbol = event["symbol"]
        key, partition = (symbol.encode(), None) if symbol else (None, 0)
        await self.producer.send(TOPIC, encode(TOPIC, event), key=key, partition=partition)

    async def level1(self) -> None:
        """Quotes and trades."""
        reader, writer = await asyncio.open_connection(self.job.feed_host, self.job.level1_port)
        writer.write(b"S,SET PROTOCOL,6.2\r\n")
        writer.write(f"S,SELECT UPDATE FIELDS,{','.join(lines.SELECTED)}\r\n".encode())
        layout: list[str] = []
        while layout[1:] != list(lines.SELECTED):
            text = (await reader.readline()).decode("latin-1").rstrip("\r\n")
            if text.startswith("S,CURRENT UPDATE FIELDNAMES,"):
                layout = text.rstrip(",").split(",")[2:]
        for symbol in self.job.symbols:
            writer.write(f"w{symbol}\r\n".encode())
        while line := await reader.readline():
            event = lines.level1(line.decode("latin-1").rstrip("\r\n"), layout)
            if event:
                await self.publish(event, "level1")

    async def level2(self) -> None:
        """Depth by price level."""
        reader, writer = await asyncio.open_connection(self.job.feed_host, self.job.level2_port)
        writer.write(b"S,SET PROTOCOL,6.2\r\n")
        for symbol in self.job.symbols:
            writer.write(f"WPL,{symbol}\r\n".encode())
        while line := await reader.readline():
            event = lines.level2(line.decode("latin-1").rstrip("\r\n"))
            if event:
                await self.publish(event, "level2")


async def main(job: Job) -> None:
    """Read until the feed ends."""
    producer = AIOKafkaProducer(bootstrap_servers=job.kafka, acks="all", linger_ms=5, max_batch_size=1 << 20)
    await producer.start()
    try:
        ingest = Ingest(job, producer)
        await asyncio.gather(ingest.level1(), ingest.level2())
    finally:
        await producer.stop()
