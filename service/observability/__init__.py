"""What is seen of the service from outside, beside its responses: logs."""
