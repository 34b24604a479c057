"""Faults that really happen, and what it takes to see whether a promise held."""
