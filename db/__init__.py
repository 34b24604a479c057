"""Keeps items: models, row batches, batchers and the verbs over them."""
