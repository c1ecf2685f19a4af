"""The feed's Lookup port (9100): history and reference tables on request, as Arrow batches.

`requests` says what is asked, `client` asks it, `row_parser` and `table_rows` read the answers.
"""
