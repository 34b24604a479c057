"""Processes, the command line, settings and logs."""
