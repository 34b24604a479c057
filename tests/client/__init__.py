"""The client for Python callers, against the service as it is served."""
