"""Kernels never index outside their arrays: numba checks bounds only when asked, and its cache ignores the question."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.paths import PROJECT_ROOT
from tests.fuzz import bounds


@pytest.mark.slow
@pytest.mark.timeout(620)
def test_damaged_bytes_stay_inside_the_arrays() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.transport.kernel_fuzz"],
        env=bounds.environment(),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "ok\n"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_warming_leaves_nothing_to_compile() -> None:
    code = """
import numpy as np
from pipeline_orchestrator.market.events import TOPICS
from pipeline_orchestrator.transport import avro_codec, avro_decode_kernel, avro_encode_kernel
from pipeline_orchestrator.transport import partitioning, record_batch, record_set
from pipeline_orchestrator.transport.outgoing_batches import key_spans
from tests.unit.transport.rows import random_rows
for module in (avro_codec, record_batch, record_set, partitioning):
    module.warm()
kernels = [
    value for module in (avro_decode_kernel, avro_encode_kernel, partitioning, record_batch, record_set)
    for value in vars(module).values() if hasattr(value, "signatures")
]
before = [len(kernel.signatures) for kernel in kernels]
for topic in TOPICS:
    codec = avro_codec.AvroCodec(topic)
    rows = codec.decode(codec.encode(random_rows(topic, 30, 1)))[0]
    for keys in (None, rows.column("symbol")):
        values, spans = codec.encode_spans(rows), key_spans(keys, 30)
        maker = record_batch.BatchMaker(1 << 20, "zstd")
        (batch,) = maker.batches(values, spans, np.arange(30), np.zeros(30, bool), 1)
        found = record_set.parse_record_sets([(0, 3, batch._build())])
        assert codec.decode_spans(found.data, found.begins, found.ends)[0].num_rows == 27
partitioning.partition_of("AAPL", 16)
after = [len(kernel.signatures) for kernel in kernels]
print("ok" if before == after else [kernel for kernel in kernels if len(kernel.signatures) > 1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout == "ok\n", done.stdout + done.stderr[-2000:]
