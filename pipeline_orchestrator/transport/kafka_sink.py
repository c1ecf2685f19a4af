"""Writes outputs to Kafka: returns when every record is acknowledged by all in-sync replicas, in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from config.sections import KafkaConfig
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.errors import PermanentError, RetryableError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Outgoing, Output
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.dead_letter import dead_letter_rows
from pipeline_orchestrator.transport.kafka_clients import (
    CONNECT_SECONDS,
    aiokafka_options,
    is_lost,
    stop_producer,
    within,
)
from pipeline_orchestrator.transport.kafka_probe import KafkaProbe
from pipeline_orchestrator.transport.outgoing_batches import key_spans, split
from pipeline_orchestrator.transport.record_batch import BatchMaker, PreparedBatch

WRITE_SECONDS = 10.0

_FINAL = (MessageSizeTooLargeError, TopicAuthorizationFailedError)

Acknowledgement = asyncio.Future[object]


class KafkaSink:
    """One idempotent producer (acks=all); implements flow.connector.Sink.

    `write` puts `Output.outgoing` and `Output.dead` (as market.dlq) into batches per partition and returns when all
    are acknowledged. After any failure or a missed deadline the producer is thrown away and RetryableError raised:
    nobody knows which batches landed, so the caller repeats the same output and readers drop repeats by their marks.
    Nothing of a later output can land before, because it is written only after this one was acknowledged; calls at
    the same time take turns.
    `name` is the component (writer of the dead letters); `prefix` precedes every topic's name (tests).
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        name: str,
        *,
        prefix: str = "",
        deadline_seconds: float = WRITE_SECONDS,
        clock: Clock = SYSTEM,
    ) -> None:
        self._kafka, self.name, self._prefix = kafka, name, prefix
        self._deadline, self._clock = deadline_seconds, clock
        self._one_at_a_time = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._codecs: dict[str, AvroCodec] = {}
        self._maker = BatchMaker(kafka.batch_size, kafka.compression_type)
        self._probe = KafkaProbe(kafka)
        self.rebuilt = 0  # producers thrown away after a failure
        self.records = 0  # acknowledged, dead letters included
        self.bytes = 0  # of their values
        self.acknowledge_seconds: float | None = None  # of the newest write

    async def open(self) -> None:
        """Connect, and get a producer id. Raises NotConnectedError."""
        if self._producer is not None:
            return
        producer = AIOKafkaProducer(
            **aiokafka_options(self._kafka),
            enable_idempotence=True,
            acks="all",
            linger_ms=0,  # outputs come as whole batches; the wait for more lies upstream
            max_batch_size=self._kafka.batch_size,
            max_request_size=max(1 << 20, 2 * self._kafka.batch_size),
        )
        try:
            await within(CONNECT_SECONDS, producer.start(), "connect to", self._kafka)
        except BaseException:
            await stop_producer(producer)
            raise
        self._producer = producer

    async def write(self, output: Output) -> None:
        """See flow.connector.Sink. Raises RetryableError, NotConnectedError, PermanentError."""
        outgoing = [out for out in output.outgoing if out.rows.num_rows]
        if output.dead:
            log_id = output.batch.log_id
            outgoing.append(dead_letter_rows(output.dead, self.name, log_id=log_id, clock=self._clock))
        if not outgoing:
            return
        async with self._one_at_a_time:
            await self._write(outgoing)

    async def _write(self, outgoing: Sequence[Outgoing]) -> None:
        await self.open()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline):
                await self._send(outgoing)
        except TimeoutError as error:
            raise await self._failed(f"no acknowledgement within {self._deadline:g} s") from error
        except _FINAL as error:
            await self._failed(str(error))
            raise PermanentError(f"Kafka refuses a record of {self.name}: {error!r}") from error
        except (RuntimeError, OSError) as error:
            if not is_lost(error):
                raise
            raise await self._failed(repr(error)) from error
        except asyncio.CancelledError:
            await self.close()
            raise
        self.acknowledge_seconds = time.perf_counter() - began

    async def _send(self, outgoing: Sequence[Outgoing]) -> None:
        """Queue every first batch without yielding, so that one request carries them; then the rest, in order."""
        assert self._producer is not None
        acknowledgements: list[Acknowledgement] = []
        later: list[tuple[str, int, list[PreparedBatch]]] = []
        records = size = 0
        for out in outgoing:
            topic = self._prefix + out.topic
            known = await self._producer.partitions_for(topic)
            for partition, batches in self._build(out, len(known or ())):
                records += sum(batch.record_count() for batch in batches)
                size += sum(batch.size() for batch in batches)
                acknowledgements.append(await self._queue(topic, partition, batches[0]))
                if len(batches) > 1:
                    later.append((topic, partition, batches[1:]))
        for rest in await asyncio.gather(*(self._queue_all(*entry) for entry in later)):
            acknowledgements.extend(rest)
        await _all(acknowledgements)
        self.records += records
        self.bytes += size

    def _build(self, out: Outgoing, partitions: int) -> Iterator[tuple[int, list[PreparedBatch]]]:
        """Per partition its records in batches of at most kafka.batch_size bytes, at least one each."""
        codec = self._codec(out.topic)
        values, keys = codec.encode_spans(out.rows), key_spans(out.keys, out.rows.num_rows)
        now_ms = self._clock.wall_ns() // 1_000_000
        for part in split(out, partitions):
            yield part.partition, list(self._maker.batches(values, keys, part.rows, part.keyless, now_ms))

    def _codec(self, topic: str) -> AvroCodec:
        if topic not in self._codecs:
            self._codecs[topic] = AvroCodec(topic)
        return self._codecs[topic]

    async def _queue(self, topic: str, partition: int, batch: PreparedBatch) -> Acknowledgement:
        assert self._producer is not None
        future: Acknowledgement = await self._producer.send_batch(batch, topic, partition=partition)
        future.add_done_callback(_seen)
        return future

    async def _queue_all(self, topic: str, partition: int, batches: list[PreparedBatch]) -> list[Acknowledgement]:
        return [await self._queue(topic, partition, batch) for batch in batches]

    async def _failed(self, cause: str) -> RetryableError:
        """Throw the producer away; the error to raise."""
        self.rebuilt += 1
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)
        return RetryableError(
            f"Kafka at {self._kafka.bootstrap_servers} did not take the records of {self.name}: {cause}",
            next_step="manage_pipeline.py services status",
            dependency="kafka",
        )

    async def close(self) -> None:
        """Release the producer; nothing is pending unless a write was cancelled, and that is given up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)

    async def probe(self) -> Probe:
        return await self._probe.probe()


async def _all(acknowledgements: Sequence[Acknowledgement]) -> None:
    """Wait for all; raises the first error."""
    done, pending = await asyncio.wait(acknowledgements, return_when=asyncio.FIRST_EXCEPTION)
    for future in done:
        future.result()
    assert not pending


def _seen(future: Acknowledgement) -> None:
    """Mark an error as retrieved: after the first one the others are of no interest."""
    if not future.cancelled():
        future.exception()
