"""The databases, PostgreSQL and SQLite, behind one interface: how to connect, which SQL to send, what an error means.

`Database` in database.py is the interface; sqlite.py, postgresql.py and pgbouncer.py implement it, and engine.py
chooses one by its URL. failover.py finds the primary among several hosts; replication.py detects commits that no
synchronous standby has confirmed.
"""
