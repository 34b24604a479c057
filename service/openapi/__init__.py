"""The OpenAPI document, made from the routes and the signatures of their handlers."""
