"""Starts, watches, restarts and stops components."""
