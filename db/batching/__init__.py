"""Batching of concurrent calls: calls that arrive while a statement is in flight share the next one.

A batcher starts its first call at once; calls that arrive while its batch is in flight are queued, and run together as
the next batch. Nothing here knows SQL or HTTP.
"""
