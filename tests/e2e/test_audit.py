"""`manage_pipeline.py audit` beside a running pipeline with real services: every damage is named, and mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from pipeline_orchestrator.flow.spool_format import iter_segment, list_segments
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealRedis
from tests.e2e.conftest import MakeSimulated

SYMBOLS = ("AAPL", "MSFT")
WHOLE, DAMAGED = 0, 99

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def running(simulated: MakeSimulated) -> tuple[Pipeline, Simulator]:
    """The pipeline and its feed, with spool segments so small that there are several."""
    pipeline, simulator = simulated(
        "--rate", "1500", "--seed", "7", symbols=SYMBOLS, extra={"PIPELINE_SPOOL__SEGMENT_BYTES": "65536"}
    )
    simulator.start()
    pipeline.start()
    return pipeline, simulator


def test_every_damage_is_named_as_its_range_and_is_gone_after_repair(
    running: tuple[Pipeline, Simulator], empty_redis: RealRedis, tmp_path: Path
) -> None:
    pipeline, simulator = running
    pipeline.wait("rows", lambda: pipeline.stored() > 4000)
    assert audit(pipeline, WHOLE)["compared"]["events_rows"] > 0  # while the feed runs
    simulator.stop()
    pipeline.wait("nothing in flight", lambda: not_in_flight(audit(pipeline, WHOLE)))
    pipeline.wait("the cheap audit", lambda: (pipeline.status()["audit"] or {}).get("result") == "whole")

    epoch = int(pipeline.sql("SELECT max(epoch) FROM {db}.events")[0][0])
    gone = delete(pipeline, "events", "seq", 1000, 1400)
    gone_features = delete(pipeline, "features", "src_seq", 2000, 2100)
    twice = double(pipeline, 3000, 3010)
    newest = age_value(empty_redis, SYMBOLS[0])
    aside, lines = take_segment_away(pipeline, tmp_path)

    found = audit(pipeline, DAMAGED)["findings"]
    told = {(one["station"], one["problem"], one["range"]) for one in found}
    assert told == {
        ("clickhouse.events", "missing", f"0:{epoch}:{gone[0]}..{gone[1]}"),
        ("clickhouse.features", "missing", f"0:{epoch}:{gone_features[0]}..{gone_features[1]}"),
        ("clickhouse.events", "duplicated", f"0:{epoch}:{twice[0]}..{twice[1]}"),
        ("redis", "behind", f"0:{epoch}:{newest}..{newest}"),
        ("spool", "missing", f"0:{epoch}:{lines[0]}..{lines[1]}"),
    }

    aside.rename(pipeline.state / "spool" / "0" / aside.name)
    left = audit(pipeline, DAMAGED, "--repair")
    assert left["repair"]["finished"]
    assert [(one["station"], one["problem"]) for one in left["findings"]] == [("clickhouse.events", "duplicated")]
    pipeline.command("ALTER TABLE {db}.events DELETE WHERE k_log = 'doubled' SETTINGS mutations_sync = 2")
    document = audit(pipeline, WHOLE)
    assert document["compared"]["redis_values"] == len(SYMBOLS)
    assert pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events") == [["0"]]


def audit(pipeline: Pipeline, expected: int, *options: str) -> dict[str, Any]:
    """The document of `audit`, whose exit code must be the expected one."""
    done = pipeline.cli("audit", *options)
    assert done.returncode == expected, f"{done.returncode}\n{done.stdout[:4000]}\n{done.stderr}\n{pipeline.log_tail()}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def not_in_flight(document: dict[str, Any]) -> bool:
    return not any("in flight" in one["why"] for one in document["explained"])


def delete(pipeline: Pipeline, table: str, seq: str, first: int, last: int) -> tuple[int, int]:
    """Remove the rows of these lines; the first and last line that had one."""
    where = f"{seq} BETWEEN {first} AND {last}"
    ((lowest, highest),) = pipeline.sql(f"SELECT min({seq}), max({seq}) FROM {{db}}.{table} WHERE {where}")
    pipeline.command(f"ALTER TABLE {{db}}.{table} DELETE WHERE {where} SETTINGS mutations_sync = 2")
    assert pipeline.sql(f"SELECT count() FROM {{db}}.{table} WHERE {where}") == [["0"]]
    return int(lowest), int(highest)


def double(pipeline: Pipeline, first: int, last: int) -> tuple[int, int]:
    """Insert these events once more, as nobody of the product would; their first and last line."""
    where = f"seq BETWEEN {first} AND {last}"
    ((lowest, highest),) = pipeline.sql(f"SELECT min(seq), max(seq) FROM {{db}}.events WHERE {where}")
    pipeline.command(f"INSERT INTO {{db}}.events SELECT * REPLACE('doubled' AS k_log) FROM {{db}}.events WHERE {where}")
    return int(lowest), int(highest)


def age_value(redis: RealRedis, symbol: str) -> int:
    """Put an older value in the place of a symbol's newest; the line of the newest."""
    with Redis(host=redis.host, port=redis.port) as client:
        value = json.loads(client.get(f"md:last:{symbol}") or "")
        newest = int(value["src_seq"])
        value |= {"k_off": value["k_off"] - 1, "src_seq": newest - 1}
        client.set(f"md:last:{symbol}", json.dumps(value, separators=(",", ":")))
    return newest


def take_segment_away(pipeline: Pipeline, directory: Path) -> tuple[Path, tuple[int, int]]:
    """Move a segment from the middle of the spool; where it is now, and its first and last line."""
    segments = list(list_segments(pipeline.state / "spool" / "0").values())
    assert len(segments) > 3
    chosen = segments[len(segments) // 2]
    frames = list(iter_segment(chosen))
    aside = directory / chosen.name
    chosen.rename(aside)
    return aside, (frames[0].first_seq, frames[-1].first_seq + frames[-1].count - 1)
