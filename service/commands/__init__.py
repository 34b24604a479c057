"""What each command does; it returns the exit code: 1 if it failed, with the errors printed."""
