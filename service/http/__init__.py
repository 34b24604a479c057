"""What every request goes through, whatever it is for: from its head and body to its response, problems included."""
