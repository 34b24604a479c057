"""What is stored: a module for each resource, with its Table value and the verbs that only it has."""
