"""Backoff, breaker, retry."""
