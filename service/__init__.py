"""Speaks HTTP about items."""
