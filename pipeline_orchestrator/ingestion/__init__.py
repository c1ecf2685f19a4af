"""Feed to market.events."""
