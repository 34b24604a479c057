"""Load tests, and the contest between this service and others of its kind."""
