-- Intervals in which lines may have been missed. Each change of state is a row of a higher revision; gaps_latest
-- shows the newest of each gap and symbol. symbol NULL = every symbol of the connection.
CREATE TABLE IF NOT EXISTS {database}.gaps
(
    src_instance Int32,
    src_epoch Int64,
    src_seq Int64 CODEC(Delta, LZ4),
    src_idx Int32,
    src_partition Int32,
    src_offset Int64 CODEC(Delta, LZ4),
    out Int32,
    gap_id String,
    symbol LowCardinality(Nullable(String)),
    port LowCardinality(String),
    cause LowCardinality(String),
    state LowCardinality(String),
    from_time Nullable(DateTime64(6, 'UTC')),
    to_time Nullable(DateTime64(6, 'UTC')),
    from_epoch Nullable(Int64),
    from_seq Nullable(Int64),
    to_epoch Nullable(Int64),
    to_seq Nullable(Int64),
    detail Nullable(String),
    recv_time DateTime64(6, 'UTC'),
    revision Int32,
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64 CODEC(Delta, LZ4),
    k_idx Int32,
    sort_time DateTime64(6, 'UTC') MATERIALIZED ifNull(from_time, recv_time),
    INDEX k_off_minmax k_off TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(sort_time)
ORDER BY (gap_id, sort_time)
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 100;

-- The newest state of each gap and symbol.
CREATE VIEW IF NOT EXISTS {database}.gaps_latest AS
SELECT *
FROM {database}.gaps
ORDER BY gap_id, symbol, revision DESC, src_epoch DESC, src_seq DESC, out DESC
LIMIT 1 BY gap_id, symbol;
