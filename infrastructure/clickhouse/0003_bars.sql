-- Closed intervals of one symbol. A late trade makes a new revision; bars_latest shows the newest of each bar.
-- Prices: Int64 in 1e-6 units; NAME_decimal shows Decimal(18, 6).
CREATE TABLE IF NOT EXISTS {database}.bars
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
    interval LowCardinality(String),
    open_time DateTime64(6, 'UTC'),
    event_time DateTime64(6, 'UTC'),
    recv_time DateTime64(6, 'UTC'),
    open Nullable(Int64),
    high Nullable(Int64),
    low Nullable(Int64),
    close Nullable(Int64),
    volume Int64,
    vwap Nullable(Int64),
    trade_count Int64,
    odd_lot_volume Int64,
    odd_lot_count Int64,
    final Bool,
    revision Int32,
    gap_flag Bool,
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64 CODEC(Delta, LZ4),
    k_idx Int32,
    sort_time DateTime64(6, 'UTC') MATERIALIZED open_time,
    open_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(open, 'Decimal(18, 6)'),
    high_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(high, 'Decimal(18, 6)'),
    low_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(low, 'Decimal(18, 6)'),
    close_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(close, 'Decimal(18, 6)'),
    vwap_decimal Nullable(Decimal(18, 6)) ALIAS reinterpret(vwap, 'Decimal(18, 6)'),
    INDEX k_off_minmax k_off TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toDate(open_time)
ORDER BY (symbol, interval, open_time)
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 100;

-- The newest revision of each bar.
CREATE VIEW IF NOT EXISTS {database}.bars_latest AS
SELECT *, open_decimal, high_decimal, low_decimal, close_decimal, vwap_decimal
FROM {database}.bars FINAL;
