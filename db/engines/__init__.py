"""Two databases behind one interface: how to connect, which SQL they want, and what their failures mean.

`Database` in database.py is the interface; sqlite.py, postgresql.py and pgbouncer.py are behind it, and engine.py
chooses. failover.py finds the primary among several hosts, replication.py knows what no synchronous standby has.
"""
