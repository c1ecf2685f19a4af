"""One frozen model per section of the settings. Units stand in the key's name; seed keys keep the guide's spelling.

Unknown keys are errors everywhere (`extra="forbid"`). Reading files and environment is settings.py's part.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from config import symbols as symbol_names
from config.durations import seconds
from config.split import faults
from config.variables import nearest

Symbol = Annotated[str, AfterValidator(symbol_names.normal)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _duration(text: str) -> str:
    if seconds(text) <= 0:
        raise ValueError("must be longer than 0")
    return text


def _books(text: str) -> str:
    return text if text in {"change", "off"} else _duration(text)


PROTOCOLS = ("6.2", "6.1", "6.0", "5.2", "5.1", "5.0")


def _protocol(text: str) -> str:
    if text in PROTOCOLS:
        return text
    if re.fullmatch(r"[0-4](\.[0-9]+)?", text):
        raise ValueError(
            f"protocol {text} cannot be served: before 5.0 Level 1 has no field list, so its lines have no date and no"
            " tick id, and depth comes as U lines; the oldest that can is 5.0"
        )
    near = nearest(text, PROTOCOLS) or PROTOCOLS[0]
    raise ValueError(f"{text!r} is not one of {', '.join(PROTOCOLS)}; did you mean {near}?")


Protocol = Annotated[str, AfterValidator(_protocol)]  # of IQFeed
Duration = Annotated[str, AfterValidator(_duration)]  # as written; durations.seconds() gives the number


class Section(BaseModel):
    """Base: frozen, no unknown keys, only finite numbers, inputs never quoted in errors (they may be secret).

    What a validator of a whole section says names every key involved: by these the layer at fault is found.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class IQFeedConfig(Section):
    """Where the feed listens. `port` is Level 2 (the guide's key), the others are named."""

    host: str = "127.0.0.1"
    port: Port = 9200
    level1_port: Port = 5009
    lookup_port: Port = 9100
    admin_port: Port = 9300
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: str = ""
    protocol: Protocol = "6.2"  # asked for on every connection; before 6.2 depth comes per participant, from w<symbol>
    level1: bool = True
    level2: bool = True
    depth: Literal["levels", "orders"] = "levels"  # form of Level 2: by price level (WPL) or by order (WOR)
    depth_by_symbol: dict[Symbol, Literal["levels", "orders"]] = {}  # symbols whose form is another
    depth_levels: Annotated[int, Field(ge=0, le=40)] = 0  # WPL levels asked for; 0 = all
    depth_redrive_seconds: Annotated[float, Field(ge=0)] = 20.0  # watch a silent symbol's depth again; 0 = never
    first_line_seconds: Annotated[float, Field(ge=0)] = 10.0  # a watch without any answer is sent again; 0 = never
    news: bool = False  # ask for headlines (S,NEWSON)
    regional: bool = False  # ask for quotes per market center of each symbol (S,REGON)
    volume_gaps: bool = True  # trades that Total Volume tells of and that never came are a gap
    backfill: bool = True  # fetch the trades of a closed gap from the Lookup port
    backfill_answer_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0  # without a byte of an answer = none comes
    backfill_requests_per_second: Annotated[float, Field(gt=0, le=50)] = 10.0  # of the account's 50
    backfill_trades_per_second: Annotated[int, Field(gt=0)] = 1000  # spooled beside what is received
    silence_seconds: Annotated[float, Field(gt=0)] = 5.0  # no line of any kind for this long = connection dead
    reconnect_max_seconds: Annotated[float, Field(gt=0)] = 30.0

    @model_validator(mode="after")
    def _served(self) -> Self:
        ordered = [name for name, form in self.depth_by_symbol.items() if form == "orders"]
        if self.level2 and self.protocol != PROTOCOLS[0] and (ordered or self.depth == "orders"):
            asked = "depth orders" if self.depth == "orders" else f"depth_by_symbol orders for {ordered[0]}"
            raise ValueError(
                f"{asked} cannot be served with protocol {self.protocol}: before {PROTOCOLS[0]} depth has one form,"
                f" per participant; set protocol to {PROTOCOLS[0]}, or depth to levels"
            )
        return self


class IngestionConfig(Section):
    """Readers of the feed, a process each. `assign`: one list of symbols per instance; empty = by rule (split.py)."""

    instances: Annotated[int, Field(ge=1, le=16)] = 1
    assign: tuple[tuple[Symbol, ...], ...] = ()


class SymbolsSearchConfig(Section):
    """The Lookup port's symbol search as the source of `symbols`; asked at each start. No `text` = no search.

    Taken is what lies on one of `listed_markets` and is of one of `security_types` (ids of the feed's tables SLM and
    SST; none = any), the first `limit` by name.
    """

    text: Annotated[str, AfterValidator(symbol_names.search_text)] = ""  # found anywhere in the field, in either case
    field: Literal["symbol", "description"] = "symbol"
    listed_markets: tuple[Annotated[int, Field(ge=1)], ...] = ()
    security_types: tuple[Annotated[int, Field(ge=1)], ...] = ()
    limit: Annotated[int, Field(ge=1, le=20_000)] = 500


class SpoolConfig(Section):
    """The durable store between receipt and Kafka; `quota_bytes` is that of each ingestion instance."""

    quota_bytes: Annotated[int, Field(ge=1 << 20)] = 20 << 30
    segment_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    keep: Duration = "24h"
    fsync_ms: Annotated[int, Field(ge=1)] = 100


class KafkaConfig(Section):
    """The seam. batch_size in bytes per batch; linger_ms = longest age of a batch under load."""

    bootstrap_servers: str = "localhost:9092"
    compression_type: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    batch_size: Annotated[int, Field(ge=1024)] = 1 << 20
    linger_ms: Annotated[int, Field(ge=0, le=1000)] = 5
    partitions: Annotated[int, Field(ge=1, le=256)] = 16
    log_id: str = ""  # set by hand only for clusters without topic ids
    fetch_max_wait_ms: Annotated[int, Field(ge=1)] = 500  # of a fetch that finds nothing; data answers it at once
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")
    sasl_password_file: str = ""
    ssl_cafile: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol.startswith("SASL_") and not (self.sasl_mechanism and self.sasl_username):
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism and sasl_username")
        return self


class ServicesConfig(Section):
    """embedded: started inside the daemon; local: `services up` on this machine; external: somebody else's."""

    mode: Literal["embedded", "local", "external"] = "local"
    directory: str = ""  # where local services keep their data; default <project>/services


class ProcessingConfig(Section):
    """Books, features, bars."""

    instances: Annotated[int, Field(ge=1, le=64)] = 1
    books: Annotated[str, AfterValidator(_books)] = "change"  # change | off | a duration of market time such as 1s
    book_levels: Annotated[int, Field(ge=1, le=40)] = 5
    volatility_halflife_seconds: Annotated[float, Field(gt=0)] = 60.0
    snapshot_seconds: Annotated[float, Field(gt=0)] = 30.0
    snapshot_records: Annotated[int, Field(ge=1)] = 200_000
    snapshot_keep: Annotated[int, Field(ge=1)] = 3


class BarsConfig(Section):
    """Bars follow the T of Level 1."""

    keep: Duration = "2h"
    keep_trades: Annotated[int, Field(ge=0)] = 20_000  # per symbol, for corrections; 56 bytes each


class StorageConfig(Section):
    """ClickHouse writer: a flush is due after flush_ms or flush_rows, whichever comes first."""

    instances: Annotated[int, Field(ge=1, le=64)] = 1
    flush_ms: Annotated[int, Field(ge=10)] = 500
    flush_rows: Annotated[int, Field(ge=1)] = 200_000


class ClickHouseConfig(Section):
    """HTTP endpoint of the store."""

    host: str = "127.0.0.1"
    port: Port = 8123
    database: str = "market_data"
    username: str = "default"
    password: SecretStr = SecretStr("")
    password_file: str = ""
    secure: bool = False
    ttl_days: Annotated[int, Field(ge=0)] = 0  # 0 = keep for ever


class RedisConfig(Section):
    """Newest values."""

    host: str = "127.0.0.1"
    port: Port = 6379
    db: Annotated[int, Field(ge=0)] = 0
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: str = ""
    flush_ms: Annotated[int, Field(ge=1)] = 20


CALENDARS = ("24x7", "XNYS", "CME")  # config/calendars holds the sessions of all but the first


class MarketConfig(Section):
    """Calendar of sessions. It decides trading dates that lines do not name, and whether a bar lies in a session."""

    calendar: Literal["24x7", "XNYS", "CME"] = "24x7"


class PerformanceConfig(Section):
    """Operational limits."""

    startup_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    shutdown_grace_seconds: Annotated[float, Field(gt=0)] = 30.0


class SupervisionConfig(Section):
    """Restart policy and watchdog (fault goals, section 1)."""

    heartbeat_seconds: Annotated[float, Field(gt=0)] = 1.0
    hung_seconds: Annotated[float, Field(gt=0)] = 10.0
    backoff_min_seconds: Annotated[float, Field(gt=0)] = 0.5
    backoff_max_seconds: Annotated[float, Field(gt=0)] = 30.0
    intensity_restarts: Annotated[int, Field(ge=1)] = 5
    intensity_seconds: Annotated[float, Field(gt=0)] = 60.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.backoff_min_seconds > self.backoff_max_seconds:
            raise ValueError("backoff_min_seconds must not exceed backoff_max_seconds")
        if self.heartbeat_seconds >= self.hung_seconds:
            raise ValueError("heartbeat_seconds must be below hung_seconds")
        return self


class ResilienceConfig(Section):
    """Circuit breaker and retry budget of each process for each of kafka, clickhouse and redis."""

    failure_rate_percent: Annotated[float, Field(gt=0, le=100)] = 50.0  # of the window's calls opens the breaker
    minimum_calls: Annotated[int, Field(ge=1, le=1000)] = 5  # fewer in the window decide nothing
    window_calls: Annotated[int, Field(ge=1, le=1000)] = 10  # the window: so many newest calls,
    window_seconds: Annotated[float, Field(gt=0)] = 30.0  # of which none ended longer ago
    slow_call_seconds: Annotated[float, Field(gt=0)] = 10.0  # a write that took so long counts as failed
    probe_max_seconds: Annotated[float, Field(gt=0, le=5)] = 5.0  # longest time between two probes
    retry_percent: Annotated[float, Field(ge=0, le=100)] = 10.0  # repeats per first attempt

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.minimum_calls > self.window_calls:
            raise ValueError("minimum_calls must not exceed window_calls")
        return self


class AlertThresholds(Section):
    """The guide's thresholds."""

    latency_max_ms: Annotated[float, Field(gt=0)] = 1000
    throughput_min_msg_per_sec: Annotated[float, Field(ge=0)] = 100
    error_rate_max_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    health_score_min: Annotated[float, Field(ge=0, le=100)] = 70


class AlertsConfig(Section):
    """Alerting; evaluated once the health monitor exists."""

    alert_thresholds: AlertThresholds = AlertThresholds()


class LoggingConfig(Section):
    """Log files: text with key=value, or JSON lines."""

    format: Literal["text", "json"] = "text"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_bytes: Annotated[int, Field(ge=1 << 16)] = 50 << 20
    files: Annotated[int, Field(ge=1)] = 5
    directory: str = ""


class ControlConfig(Section):
    """The local control socket."""

    group: str = ""


class RetentionConfig(Section):
    """Budgets that status shows with bytes per day and time to full (design 5.10)."""

    kafka_bytes_per_partition: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    kafka_hours: Annotated[int, Field(ge=1)] = 168
    snapshots_bytes: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    logs_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30


class Settings(Section):
    """The whole document."""

    symbols: tuple[Symbol, ...] = ("AAPL", "GOOGL", "MSFT", "TSLA")
    symbols_file: str = ""  # one symbol per line; in place of `symbols` of a lower layer
    symbols_search: SymbolsSearchConfig = SymbolsSearchConfig()  # likewise; `symbols` is filled in when it was asked
    state_dir: str = ""
    iqfeed: IQFeedConfig = IQFeedConfig()
    ingestion: IngestionConfig = IngestionConfig()
    spool: SpoolConfig = SpoolConfig()
    kafka: KafkaConfig = KafkaConfig()
    services: ServicesConfig = ServicesConfig()
    processing: ProcessingConfig = ProcessingConfig()
    bars: BarsConfig = BarsConfig()
    storage: StorageConfig = StorageConfig()
    clickhouse: ClickHouseConfig = ClickHouseConfig()
    redis: RedisConfig = RedisConfig()
    market: MarketConfig = MarketConfig()
    performance: PerformanceConfig = PerformanceConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    resilience: ResilienceConfig = ResilienceConfig()
    alerts: AlertsConfig = AlertsConfig()
    logging: LoggingConfig = LoggingConfig()
    control: ControlConfig = ControlConfig()
    retention: RetentionConfig = RetentionConfig()

    @model_validator(mode="after")
    def _split(self) -> Self:
        found_later = bool(self.symbols_search.text)
        fault = faults(self.symbols, self.ingestion.instances, self.ingestion.assign, found_later=found_later)
        if fault:
            detail = PydanticCustomError("value_error", "{fault}", {"fault": fault})
            place = ("ingestion", "assign")
            line = InitErrorDetails(type=detail, loc=place, input=None)
            raise ValidationError.from_exception_data("Settings", [line], hide_input=True)
        return self
