"""The SQL of tables: statements that serve a whole batch, and keyset pagination."""
