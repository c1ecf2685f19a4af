"""Counters, histograms, time accounting, logs."""
