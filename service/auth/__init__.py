"""Who calls, and what they may do: tokens, the principal of a request, and the scopes of operations."""
