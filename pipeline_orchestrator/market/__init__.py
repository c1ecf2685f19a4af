"""Events, calendar and gaps: the vocabulary of the data."""
