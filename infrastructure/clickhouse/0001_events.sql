-- Every event of the feed and of ingestion, once (clock events are counted, not stored).
-- Prices are Int64 in 1e-6 units, as everywhere in the pipeline; the column NAME_decimal shows the same
-- value as Decimal(18, 6): SELECT symbol, event_time, price_decimal, size FROM events WHERE kind = 'trade'.
-- Identity: (instance, epoch, seq, idx). Kafka position of the row: (k_log, k_part, k_off, k_idx).
CREATE TABLE IF NOT EXISTS {database}.events
(
    instance Int32,
    epoch Int64,
    seq Int64 CODEC(Delta, LZ4),
    idx Int32,
    port LowCardinality(String),
    kind LowCardinality(String),
    symbol LowCardinality(Nullable(String)),
    trading_date Nullable(Date32),
    event_time Nullable(DateTime64(6, 'UTC')),
    recv_time DateTime64(6, 'UTC'),
    price Nullable(Int64),
    size Nullable(Int64),
    side LowCardinality(Nullable(String)),
    basis LowCardinality(Nullable(String)),
    bid Nullable(Int64),
    bid_size Nullable(Int64),
    ask Nullable(Int64),
    ask_size Nullable(Int64),
    tick_id Nullable(Int64),
    total_volume Nullable(Int64),
    market_center Nullable(Int32),
    conditions LowCardinality(Nullable(String)),
    aggressor Nullable(Int32),
    level Nullable(Int32),
    order_id Nullable(UInt64),
    mmid LowCardinality(Nullable(String)),
    order_count Nullable(Int32),
    priority Nullable(UInt64),
    precision Nullable(Int32),
    summary Bool,
    correction LowCardinality(Nullable(String)),
    source LowCardinality(String),
    replay_of Nullable(String),
    raw Nullable(String),
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64 CODEC(Delta, LZ4),
    k_idx Int32,
    sort_time DateTime64(6, 'UTC') MATERIALIZED ifNull(event_time, recv_time),
    price_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(price, 'Decimal(18, 6)'),
    bid_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(bid, 'Decimal(18, 6)'),
    ask_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(ask, 'Decimal(18, 6)'),
    INDEX k_off_minmax k_off TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(sort_time)
ORDER BY (symbol, sort_time)
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 100;
