"""What every request goes through, whatever its resource: from its head and body to its response or problem."""
