-- Probes that the health monitor sends through the pipeline; a row lives for one hour.
CREATE TABLE IF NOT EXISTS {database}.canaries
(
    canary_id String,
    symbol LowCardinality(String),
    sent_time DateTime64(6, 'UTC'),
    recv_time Nullable(DateTime64(6, 'UTC')),
    stored_time DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC'),
    instance Int32,
    epoch Int64,
    seq Int64,
    idx Int32,
    k_log LowCardinality(String),
    k_part Int32,
    k_off Int64,
    k_idx Int32
)
ENGINE = MergeTree
PARTITION BY toStartOfHour(sent_time)
ORDER BY (sent_time, canary_id)
TTL toDateTime(sent_time) + INTERVAL 1 HOUR
SETTINGS ttl_only_drop_parts = 1;
