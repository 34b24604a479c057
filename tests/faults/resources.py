"""The resources that writers under load use: how their rows are made, and what tells them apart."""

from typing import Any, NamedTuple

from tests.support.resources import COLLECTIONS, FOLDED, Collection

Body = dict[str, Any]


class Resource(NamedTuple):
    """A resource whose rows are recognized by the names that writers give them."""

    collection: Collection
    named_by: str  # the field with that name
    updated: str  # the field that tells a row that was updated from one that was not, where one field is enough

    def __str__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """Return the path of its collection."""
        return self.collection.path

    @property
    def noun(self) -> str:
        """Return the word for one of its rows."""
        return self.collection.noun

    @property
    def found_by(self) -> str:
        """Return the list's filter by name: by all of it, or by its beginning."""
        return next(name for name in self.collection.query.schemas if name.startswith(self.named_by))

    @property
    def fields(self) -> list[str]:
        """Return the fields that writers set and compare: all that are shown, without references to other rows."""
        collection = self.collection
        return [
            name for name in collection.created.kinds if name in collection.shown and name not in collection.references
        ]

    def body(self, name: str, number: int) -> Body:
        """Return a row of that name; its other values, unique ones among them, vary with the number."""
        values = {
            field: self.collection.created.value(field, number) for field in self.fields if field != self.named_by
        }
        return {self.named_by: name, **values}

    def columns(self, body: Body) -> Body:
        """Return the values of the columns that a row is inserted with, past the service."""
        folded = {f"{name}{FOLDED}": self.collection.comparable(name, value) for name, value in body.items()}
        return {name: value for name, value in (body | folded).items() if name in self.collection.table.c}


def resource(path: str, named_by: str, updated: str) -> Resource:
    """Return the resource at a path."""
    return Resource(next(one for one in COLLECTIONS if one.path == path), named_by, updated)


RESOURCES = ITEMS, USERS = resource("/items", "name", "price"), resource("/users", "username", "name")
BY_PATH = {one.path: one for one in RESOURCES}
