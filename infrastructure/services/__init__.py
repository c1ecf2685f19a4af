"""Embedded and local Kafka, ClickHouse and Redis."""
