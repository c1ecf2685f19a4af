"""A feed simulator that speaks the vendor's protocol."""
