"""Exactly once, or not at all: transactions whose outcome is found out, idempotency keys, and their retention."""
