"""Books, features and bars: a pure function of the log."""
