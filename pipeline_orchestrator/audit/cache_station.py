"""Redis against the features: each symbol's newest value below the cache's own position must be there.

Positions are read before the log and values after it, so a pipeline that runs can only be further than is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from config.sections import RedisConfig
from pipeline_orchestrator.audit.findings import BEHIND, MISSING, Finding
from pipeline_orchestrator.audit.ranges import LineRange
from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.record import Batch
from pipeline_orchestrator.storage.batch_plan import BatchPlan, identity_columns
from pipeline_orchestrator.storage.columns import codes, rows_at
from pipeline_orchestrator.storage.redis_rows import KEY_PREFIX, LOG_KEY, POSITION_KEY, newest_per_symbol
from pipeline_orchestrator.storage.redis_scripts import WRITE
from pipeline_orchestrator.storage.tables import TABLES

ANSWER_S = 5.0
KEYS_AT_ONCE = 1000


class Newest(NamedTuple):
    """The newest features row of a symbol that the cache has passed."""

    offset: int
    instance: int
    epoch: int
    seq: int


@dataclass(slots=True)
class CacheStation:
    """`open`, `take` each batch of market.features, `close_values`, then `findings`."""

    config: RedisConfig
    log_id: str | None = None  # of the cache; None = it was emptied, or nothing was ever written
    positions: dict[int, int] = field(default_factory=dict)
    expected: dict[str, Newest] = field(default_factory=dict)
    behind: dict[str, str] = field(default_factory=dict)  # symbol -> what stands there instead
    _client: Redis | None = None

    async def open(self) -> None:
        """Read the cache's log and positions. Raises NotConnectedError."""
        config = self.config
        self._client = Redis(
            host=config.host,
            port=config.port,
            db=config.db,
            username=config.username or None,
            password=config.password.get_secret_value() or None,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0),
        )
        log = await self._asked("get", LOG_KEY)
        self.log_id = None if log is None else log.decode()
        self.positions = {int(p): int(at) for p, at in (await self._asked("hgetall", POSITION_KEY)).items()}

    async def close(self) -> None:
        """Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def take(self, batch: Batch, plan: BatchPlan) -> None:
        """Remember the newest row of each symbol below the cache's position; cost is per symbol."""
        if batch.log_id != self.log_id:
            return
        ends = np.zeros(1 + max((span.partition for span in batch.ranges), default=0), dtype=np.int64)
        for partition, position in self.positions.items():
            if partition < len(ends):
                ends[partition] = position
        at = np.flatnonzero(plan.keep & (batch.offsets < ends[plan.partitions]))
        if not len(at):
            return
        rows = rows_at(batch.rows, at)
        symbols = rows.column("symbol")
        names, code = symbols.dictionary.to_pylist(), codes(symbols)
        who, identity, writers = identity_columns(TABLES[batch.ranges[0].topic], rows)
        for number in newest_per_symbol(rows).tolist():
            epoch, seq = (int(value) for value in identity[:2, number])
            found = Newest(int(batch.offsets[at[number]]), int(writers[who[number]]), epoch, seq)
            self.expected[names[code[number]]] = found

    async def close_values(self) -> None:
        """Compare the values. Raises NotConnectedError."""
        symbols = sorted(self.expected)
        for begin in range(0, len(symbols), KEYS_AT_ONCE):
            part = symbols[begin : begin + KEYS_AT_ONCE]
            values = await self._asked("mget", [KEY_PREFIX + symbol for symbol in part])
            for symbol, value in zip(part, values, strict=True):
                wrong = _wrong(value, str(self.log_id), self.expected[symbol].offset)
                if wrong:
                    self.behind[symbol] = wrong

    def findings(self) -> Iterator[Finding]:
        """One per symbol: the line of the value that should be there."""
        for symbol, wrong in self.behind.items():
            newest = self.expected[symbol]
            line = LineRange(newest.instance, newest.epoch, newest.seq, newest.seq, 1)
            problem = MISSING if wrong == "absent" else BEHIND
            cause = f"the cache has passed offset {newest.offset} of market.features; the value of {symbol} is {wrong}"
            yield Finding("redis", problem, cause, line, symbol=symbol, mend="cache")

    async def mend(self, values: dict[str, bytes]) -> int:
        """Write these values through the script that every writer uses: a newer one is never overwritten."""
        keys = [LOG_KEY, POSITION_KEY, *(KEY_PREFIX + symbol for symbol in values)]
        written = await self._asked("eval", WRITE, len(keys), *keys, str(self.log_id), 0, *values.values())
        return max(0, int(written))

    async def _asked(self, verb: str, *arguments: Any) -> Any:  # Any: redis-py's commands and answers have no types
        if self._client is None:
            raise NotConnectedError("Redis is not open")
        try:
            return await getattr(self._client, verb)(*arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise NotConnectedError(
                f"Redis at {self.config.host}:{self.config.port}: {str(error) or type(error).__name__}",
                next_step=f"check that it answers: redis-cli -h {self.config.host} -p {self.config.port} ping",
            ) from error


def _wrong(value: bytes | None, log_id: str, offset: int) -> str:
    """What is wrong with a value that must be of this log and at least at this offset; "" = nothing."""
    if value is None:
        return "absent"
    try:
        told = json.loads(value)
        if told["k_log"] != log_id:
            return f"of another log, {told['k_log']}"
        return "" if int(told["k_off"]) >= offset else f"of offset {int(told['k_off'])}"
    except (ValueError, KeyError, TypeError):
        return "no value of ours"
