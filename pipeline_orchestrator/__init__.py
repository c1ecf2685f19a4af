"""Supervised stages from feed to stores; see topology.py first."""
