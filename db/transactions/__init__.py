"""Transactions that happen once or not at all: runner, commit log, idempotency keys, and their retention."""
