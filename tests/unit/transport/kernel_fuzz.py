"""Run as a program with NUMBA_BOUNDSCHECK=1: damaged payloads and record sets through the kernels.

A read outside an array raises IndexError there instead of returning whatever lies behind it. Prints "ok".
"""

from __future__ import annotations

import random
import struct
import sys

import numpy as np
from crc32c import crc32c

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import TOPICS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.outgoing_batches import key_spans
from pipeline_orchestrator.transport.partitioning import murmur2
from pipeline_orchestrator.transport.record_batch import BatchMaker
from pipeline_orchestrator.transport.record_set import _skip_bytes, parse_record_sets
from tests.unit.transport.rows import random_rows


def damaged(data: bytes, rng: random.Random, first: int) -> bytes:
    value = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        how, at = rng.randrange(4), rng.randrange(first, max(first + 1, len(value)))
        if how == 0:
            del value[at:]
        elif how == 1 and at < len(value):
            value[at] = rng.randrange(256)
        elif how == 2:
            value[at:at] = b"\xff" * rng.randrange(1, 12)
        else:
            value[at:at] = rng.randbytes(3)
    return bytes(value)


def fuzz_codec(rng: random.Random, rounds: int) -> None:
    for topic in TOPICS:
        codec = AvroCodec(topic)
        good = codec.encode(random_rows(topic, 40, 1))
        for _ in range(rounds):
            payloads = [damaged(payload, rng, 5) if rng.random() < 0.7 else payload for payload in good]
            rows, bad = codec.decode(payloads)
            assert rows.num_rows + len(bad) == len(payloads)


def fuzz_record_sets(rng: random.Random, rounds: int) -> None:
    codec = AvroCodec(TOPICS[0])
    rows = random_rows(TOPICS[0], 40, 2)
    values, keys = codec.encode_spans(rows), key_spans(rows.column("symbol"), 40)
    order = np.arange(40, dtype=np.int64)
    for limit in (100, 1000, 1 << 20):
        made = list(BatchMaker(limit, "none").batches(values, keys, order, np.zeros(40, np.bool_), 1))
        assert sum(batch.record_count() for batch in made) == 40
    whole = made[0]._build()
    for _ in range(rounds):
        data = bytearray(damaged(whole, rng, 61))
        struct.pack_into(">i", data, 8, len(data) - 12)
        struct.pack_into(">i", data, 57, rng.choice((40, 40, 0, 1, 39, 41)))
        struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
        try:
            spans = parse_record_sets([(0, rng.randrange(45), bytes(data))])
        except PermanentError:
            continue
        for index in range(spans.offsets.size):
            spans.headers(index)


def main() -> int:
    try:
        _skip_bytes(np.full(2, 255, np.uint8), 0, 9)  # told to read behind the end
    except IndexError:
        pass
    else:
        raise AssertionError("bounds are not checked: run me with NUMBA_BOUNDSCHECK=1")
    rng = random.Random(20261121)
    fuzz_codec(rng, 60)
    fuzz_record_sets(rng, 2000)
    for size in range(9):
        murmur2(bytes(size))
    sys.stdout.write("ok\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
