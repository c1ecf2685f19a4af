"""Command line, control socket and daemon."""
