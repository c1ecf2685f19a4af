-- Values after each trade, quote or depth event. Prices: Int64 in 1e-6 units; NAME_decimal shows Decimal(18, 6).
-- src_* is the identity of the event that the row was made from, and its partition and offset in market.events.
CREATE TABLE IF NOT EXISTS {database}.features
(
    src_instance Int32,
    src_epoch Int64,
    src_seq Int64 CODEC(Delta, LZ4),
    src_idx Int32,
    src_partition Int32,
    src_offset Int64 CODEC(Delta, LZ4),
    out Int32,
    symbol LowCardinality(String),
    trading_date Nullable(Date32),
    kind LowCardinality(String),
    event_time Nullable(DateTime64(6, 'UTC')),
    recv_time DateTime64(6, 'UTC'),
    best_bid Nullable(Int64),
    best_bid_size Nullable(Int64),
    best_ask Nullable(Int64),
    best_ask_size Nullable(Int64),
    spread Nullable(Int64),
    mid Nullable(Int64),
    microprice Nullable(Int64),
    imbalance Nullable(Float64),
    order_flow_imbalance Nullable(Int64),
    vwap Nullable(Int64),
    volatility Nullable(Float64),
    last_price Nullable(Int64),
    last_size Nullable(Int64),
    book_state LowCardinality(String),
    book_source LowCardinality(String),
    null_reason LowCardinality(Nullable(String)),
    gap_flag Bool,
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64 CODEC(Delta, LZ4),
    k_idx Int32,
    sort_time DateTime64(6, 'UTC') MATERIALIZED ifNull(event_time, recv_time),
    best_bid_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(best_bid, 'Decimal(18, 6)'),
    best_ask_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(best_ask, 'Decimal(18, 6)'),
    spread_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(spread, 'Decimal(18, 6)'),
    mid_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(mid, 'Decimal(18, 6)'),
    microprice_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(microprice, 'Decimal(18, 6)'),
    vwap_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(vwap, 'Decimal(18, 6)'),
    last_price_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(last_price, 'Decimal(18, 6)'),
    INDEX k_off_minmax k_off TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(sort_time)
ORDER BY (symbol, sort_time)
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 100;
