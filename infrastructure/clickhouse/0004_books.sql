-- Top levels of one book after each change of them (or every T, by processing.books), best first.
-- Prices: Int64 in 1e-6 units; NAME_decimal shows Decimal(18, 6).
CREATE TABLE IF NOT EXISTS {database}.books
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
    event_time Nullable(DateTime64(6, 'UTC')),
    recv_time DateTime64(6, 'UTC'),
    book_state LowCardinality(String),
    bid_prices Array(Int64),
    bid_sizes Array(Int64),
    ask_prices Array(Int64),
    ask_sizes Array(Int64),
    gap_flag Bool,
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64 CODEC(Delta, LZ4),
    k_idx Int32,
    sort_time DateTime64(6, 'UTC') MATERIALIZED ifNull(event_time, recv_time),
    bid_prices_decimal Array(Decimal(18, 6)) ALIAS arrayMap(x -> reinterpret(x, 'Decimal(18, 6)'), bid_prices),
    ask_prices_decimal Array(Decimal(18, 6)) ALIAS arrayMap(x -> reinterpret(x, 'Decimal(18, 6)'), ask_prices),
    INDEX k_off_minmax k_off TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(sort_time)
ORDER BY (symbol, sort_time)
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 100;
