"""Processes: Granian, the supervisor that starts, replaces and ends its workers, and the pipe to each of them."""
