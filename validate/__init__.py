"""Checks of settings, services and, later, of the whole."""
