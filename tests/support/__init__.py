"""What the tests stand on: databases, services and clients of their own."""
