-- What could not be used, with its bytes and its position.
CREATE TABLE IF NOT EXISTS {database}.dlq
(
    writer LowCardinality(String),
    epoch Int64,
    seq Int64 CODEC(Delta, LZ4),
    idx Int32,
    out Int32,
    reason LowCardinality(String),
    detail String,
    source LowCardinality(String),
    src_instance Nullable(Int32),
    src_epoch Nullable(Int64),
    src_seq Nullable(Int64) CODEC(Delta, LZ4),
    src_partition Nullable(Int32),
    src_offset Nullable(Int64) CODEC(Delta, LZ4),
    symbol LowCardinality(Nullable(String)),
    port LowCardinality(String),
    headers Nullable(String),
    recv_time DateTime64(6, 'UTC'),
    raw String,
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64 CODEC(Delta, LZ4),
    k_idx Int32,
    sort_time DateTime64(6, 'UTC') MATERIALIZED recv_time,
    INDEX k_off_minmax k_off TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(sort_time)
ORDER BY (writer, sort_time)
SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 100;
