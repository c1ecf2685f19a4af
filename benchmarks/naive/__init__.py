"""The pipeline one would write in an afternoon, doing the same job as the product: what its speed is compared with.

Same feed, same topics, keys, partitions and wire format, same tables, same Redis keys; asyncio `readline`, a dict
per record, fastavro, aiokafka `send()` and `getmany()`, dict books, row tuples inserted twice a second. Like the
product it runs ingestion, processing, storage and cache as a process each. It has no spool, no ledger, no recovery.
"""
