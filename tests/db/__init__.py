"""Batchers, transactions and connections, also when the database fails."""
