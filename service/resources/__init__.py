"""What the service serves: a module for each resource, with its handlers."""
