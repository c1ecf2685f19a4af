"""Rates and speeds as people write them. Standard library only: a command line checks them without a simulator."""

from __future__ import annotations


class ConfigError(ValueError):
    """A value cannot be used; the message names it."""


def parse_rate(text: str) -> float | None:
    """Lines per second: a number, `0` for idle, `max` for no limit (None). Raises ConfigError."""
    if text.strip().lower() == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1e9:
        raise ConfigError(f"{text!r} is no rate: lines per second, 0 for idle, or max")
    return rate


def parse_speed(text: str) -> float | None:
    """Market seconds per second: `1x`, `10x`, any number, or `max` (None). Raises ConfigError."""
    if text.strip().lower() == "max":
        return None
    try:
        speed = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        speed = -1.0
    if not 0 < speed <= 1e6:
        raise ConfigError(f"{text!r} is no speed: 1x, 10x, or max")
    return speed
