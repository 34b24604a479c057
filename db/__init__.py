"""The database layer: models, transactions, batched statements, and the verbs of items over them."""
