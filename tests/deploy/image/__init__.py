"""The image as it is built and run, where there is neither a registry nor Docker."""
