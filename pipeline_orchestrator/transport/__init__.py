"""Kafka, Avro and the schema registry."""
