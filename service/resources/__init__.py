"""The resources that the service serves: a module for each, with its handlers."""
