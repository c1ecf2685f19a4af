"""Delays, circuit breaker, budget of repeats, and the dependencies that have one of each."""
