"""Keeps items: models, row sets, lanes and the verbs over them."""
