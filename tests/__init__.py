"""Promises, asked of the service through its front door."""
