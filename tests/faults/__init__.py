"""Broadcasts under faults that follow from a seed, and what must be true after each of them."""
