-- Which pipeline writes into this database: one row per pipeline (state directory) and storage instance, renewed
-- every few seconds with the server's own time. A row is alive for 30 s after `renewed`, unless it was released.
-- asked = 1: no writer yet, only somebody who wants to become one; two who ask at once both see it and step back.
CREATE TABLE IF NOT EXISTS {database}.claims
(
    owner String,
    instance Int32,
    asked Bool,
    alive Bool,
    host String,
    pid Int64,
    state_dir String,
    renewed DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(renewed)
ORDER BY (owner, instance, asked);
