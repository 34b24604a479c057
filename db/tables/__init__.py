"""Rows of a table: the statements that serve a batch, and the pages of a list."""
