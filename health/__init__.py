"""Health monitor; measured figures only."""
