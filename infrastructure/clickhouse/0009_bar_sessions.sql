-- Whether a bar lies in a session of market.calendar: open, closed, or unknown (older rows, and beyond its years).
ALTER TABLE {database}.bars ADD COLUMN IF NOT EXISTS session LowCardinality(String) DEFAULT 'unknown' AFTER gap_flag;

CREATE OR REPLACE VIEW {database}.bars_latest AS
SELECT *, open_decimal, high_decimal, low_decimal, close_decimal, vwap_decimal
FROM {database}.bars FINAL;
