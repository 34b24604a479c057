"""The principal: the user that a request comes from, and the scopes of what they may do."""

from collections.abc import Mapping
from typing import NamedTuple

ADMIN = "admin"
EVERYTHING = "*"  # in the place of scopes: also those of resources that are added later
SCOPES_BY_ROLE: Mapping[str, frozenset[str]] = {
    "reader": frozenset({"items:read"}),
    "writer": frozenset({"items:read", "items:write"}),
    ADMIN: frozenset({EVERYTHING}),
}


class Principal(NamedTuple):
    """The user that a request comes from."""

    user_id: int
    role: str
    scopes: frozenset[str]

    @property
    def owner(self) -> int | None:
        """The user whose rows, and those of nobody, may be written; None: every row."""
        return None if self.role == ADMIN else self.user_id

    def may(self, scope: str) -> bool:
        """Return whether a scope is granted."""
        return scope in self.scopes or EVERYTHING in self.scopes


def principal_of(user_id: int, role: str) -> Principal:
    """Return the principal of a user, with the scopes of the role; a role that is not known has none."""
    return Principal(user_id, role, SCOPES_BY_ROLE.get(role, frozenset()))
