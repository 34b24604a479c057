"""The principal: the user that a request comes from, and the scopes of what they may do."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from db.tables.call import Call

ADMIN = "admin"
EVERYTHING = "*"  # in the place of scopes: also those of resources that are added later
OWN = ":own"  # after a scope: for what is at a path with the caller's own id alone
ISSUING = {"tokens:write", "tokens:write" + OWN}
READER = frozenset({"items:read", "users:read:own", "tokens:read:own", "tokens:write:own"})
SCOPES_BY_ROLE: Mapping[str, frozenset[str]] = {
    "reader": READER,
    "writer": READER | {"items:write"},
    ADMIN: frozenset({EVERYTHING}),
}


class Principal(NamedTuple):
    """The user that a request comes from, and the calls of the store for it, which are made once.

    `owning_call` is for tables whose rows have owners: it writes the user's own rows and those of nobody alone, and of
    an admin all.
    """

    user_id: int
    role: str
    scopes: frozenset[str]
    call: Call
    owning_call: Call

    def may(self, scope: str) -> bool:
        """Return whether a scope is granted."""
        return scope in self.scopes or EVERYTHING in self.scopes


def principal_of(user_id: int, role: str, claimed: Collection[str] | None = None) -> Principal:
    """Return the principal of a user, with the scopes of the role; a role that is not known has none.

    A credential that claims scopes has those of the role alone that it claims; a scope covers that for one's own. One
    that has not all of them issues no tokens.
    """
    scopes = SCOPES_BY_ROLE.get(role, frozenset())
    if claimed is not None:
        of_role = frozenset(claimed) if EVERYTHING in scopes else scopes
        granted = frozenset(scope for scope in of_role if scope in claimed or scope.removesuffix(OWN) in claimed)
        # A stored token has all scopes of the role: who has fewer must not make themselves one.
        scopes = granted if granted >= scopes else granted - ISSUING
    owner = None if role == ADMIN else user_id
    return Principal(user_id, role, scopes, Call(caller=user_id), Call(caller=user_id, owner=owner))
