"""The handlers of every resource that is stored in a table; a Collection gives them its Structs."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import astuple
from starlette.routing import Route

from db.tables.call import Call
from db.tables.store import Store
from db.tables.table import Deletion, Patch, Table
from service.context import Context
from service.http.conditional import write_at_version
from service.http.derived import batch_patch, list_query, merge_patch, without_default
from service.http.handler import Handler
from service.http.headers import IfMatch
from service.http.listing import Listing
from service.http.media_types import BATCH_PATCH, MERGE_PATCH
from service.http.operation import Operation, Resource
from service.http.ownership import of_caller, refuse_others
from service.http.patches import given, patches
from service.http.problems import UNKNOWN_REFERENCE, already_exists, owned
from service.http.response import Result
from service.http.validation import struct_fields
from service.schemas import BATCH, IdsQuery, ListQuery

# The types of one resource: of what is created, of a patch, alone and in a batch, of a row, its id, and a list's query.
C = TypeVar("C", bound=Struct)
P = TypeVar("P", bound=Struct)
B = TypeVar("B", bound=Struct)
R = TypeVar("R", bound=Struct)
I = TypeVar("I", bound=int)  # noqa: E741 - as the others, an initial
Q = TypeVar("Q", bound=ListQuery)

Values = Mapping[str, Any]


class Conversion(NamedTuple):
    """A column that is stored in place of a field of the body, and the function that makes its value."""

    column: str
    make: Callable[[Context, Call, Any], Awaitable[Any]]


class Collection(Generic[C, R]):
    """The list of a resource at the path /NAME, and its rows at /NAME/ID: their handlers, Struct in and Struct out.

    `store` finds its store. `conversions` has the fields, by name, that are stored as another column.
    """

    def __init__(
        self,
        table: Table,
        create: type[C],
        response: type[R],
        store: Callable[[Context], Store[R]],
        conversions: Mapping[str, Conversion] = MappingProxyType({}),
    ) -> None:
        _check_fields(response, tuple(column.name for column in table.columns), response.__struct_fields__)
        columns = {name: one.column for name, one in conversions.items()}
        _check_fields(create, table.row_fields, tuple(columns.get(name, name) for name in create.__struct_fields__))
        self._table, self._store, self._conversions = table, store, conversions
        self.path = f"/{table.name}"
        self.listing = Listing(table, response)
        patch, id_type = merge_patch(create), struct_fields(response)["id"].type
        self._types = {"C": create, "P": patch, "B": batch_patch(patch, id_type), "R": response, "I": id_type}
        self._types["Q"] = list_query(table, response)
        # Of a caller who writes its own rows alone: an owner that is absent is not null.
        self._owner_types = self._types | ({"C": without_default(create, table.owner)} if table.owner else {})

    def routes(self, **own: Operation) -> list[Route]:
        """Return the routes of a row and of the list; an operation that is given, by method, is for a row."""
        # Relative to the list's own URL, as a proxy may have it below another path (RFC 9110, section 10.2.2).
        noun, location = self._table.noun, f"{self._table.name}/%d".encode()
        refused = [already_exists(noun)] if self._table.unique else []
        refused += [UNKNOWN_REFERENCE] if self._table.references else []
        owns = [owned(reference.other.name) for reference in self._table.referenced_by]
        reading, writing = f"{self._table.name}:read", f"{self._table.name}:write"
        refusals = {"PUT": refused, "PATCH": refused, "DELETE": owns}  # of the table, whichever handler it has
        one = {
            "GET": self._operation(self.read_one, scope=reading),
            "PUT": self._operation(self.replace_one, scope=writing, problems=refused),
            "PATCH": self._operation(self.update_one, scope=writing, problems=refused, body_types=MERGE_PATCH),
            "DELETE": self._operation(self.delete_one, scope=writing, problems=owns, status=204),
        }
        many = {
            "GET": self._operation(self.list_page, scope=reading),
            "POST": self._operation(self.create_many, scope=writing, problems=refused, status=201, location=location),
            "PATCH": self._operation(self.update_many, scope=writing, problems=refused, body_types=BATCH_PATCH),
            "DELETE": self._operation(self.delete_many, scope=writing, problems=owns),
        }
        for method, operation in own.items():
            if self._table.owner and method != "GET" and operation.for_owner is None:
                raise TypeError(f"{method} of one {noun} needs for_owner: else it writes other users' rows, too")
            one[method] = operation.of_table(refusals.get(method, ()), is_audited=self._table.audited is not None)
        return [Route(f"{self.path}/{{id}}", Resource(noun, **one)), Route(self.path, Resource(noun, **many))]

    def _operation(self, run: Callable[..., Awaitable[Any]], scope: str, **options: Any) -> Operation:
        handler, names = Handler.of(run), (self._table.noun, self._table.name)
        is_owned = self._table.owner is not None and scope.endswith(":write")
        for_owner = handler.applied(*names, self._owner_types) if is_owned else None
        options["is_audited"] = self._table.audited is not None
        return Operation(handler.applied(*names, self._types), scope=scope, for_owner=for_owner, **options)

    async def read_one(self, context: Context, call: Call, id: I) -> R:
        """Read one {noun}.

        Its `ETag` tells its version: with `If-None-Match`, a client that has that version gets a 304.
        """
        return await self._store(context).get(call, id)

    async def replace_one(self, context: Context, call: Call, id: I, if_match: IfMatch, body: C) -> R:
        """Replace all of one {noun}.

        What the body leaves out gets its default, unless the field says otherwise. With `If-Match`, only while the
        {noun} is at a version that the client has seen; else 412.
        """
        return await self.update_one(context, call, id, if_match, body)

    async def update_one(self, context: Context, call: Call, id: I, if_match: IfMatch, body: P) -> R:
        """Update some fields of one {noun}.

        The body is a merge patch (RFC 7396): what is absent stays, and null clears what may be null. With `If-Match`,
        only while the {noun} is at a version that the client has seen; else 412.
        """
        store = self._store(context)
        values: Values = given(body)
        if call.owner is not None:
            self._refuse_others(call.owner, [values], in_batch=False)
        if self._conversions:
            call, [values] = await self._stored(context, call, [values])
        return await write_at_version(
            store, call, id, if_match, lambda call, version: store.update(call, Patch(id, version, values))
        )

    async def delete_one(self, context: Context, call: Call, id: I, if_match: IfMatch) -> None:
        """Delete one {noun}.

        With `If-Match`, only while the {noun} is at a version that the client has seen; else 412.
        """
        store = self._store(context)
        await write_at_version(
            store, call, id, if_match, lambda call, version: store.delete(call, Deletion(id, version))
        )

    async def list_page(self, context: Context, call: Call, query: Q) -> Result[list[R]]:
        """List {name}.

        Filters hold all together. `Link` leads to the next page, which costs no more than the first; `ids` asks for
        some {name} in its own order instead.
        """
        return await self.listing.read(self._store(context), call, query)

    async def create_many(self, context: Context, call: Call, body: C | Annotated[list[C], BATCH]) -> R | list[R]:
        """Create one {noun}, or a batch of {name}, all or nothing.

        A batch is an array of 1 to 1,000; its response has the same order, and if one {noun} is refused, none is
        created. With an `Idempotency-Key`, a repeat creates nothing more.
        """
        store = self._store(context)
        bodies = body if (is_batch := isinstance(body, list)) else [body]
        if call.owner is not None and self._table.owner:
            bodies = of_caller(self._table.noun, self._table.owner, call.owner, bodies, in_batch=is_batch)
        if self._conversions:
            call, sent = await self._stored(context, call, list(map(given, bodies)))
            rows = [tuple(map(values.get, self._table.row_fields)) for values in sent]
        else:
            rows = list(map(astuple, bodies))
        return await (store.create_many(call, rows) if is_batch else store.create(call, rows[0]))

    async def update_many(self, context: Context, call: Call, body: Annotated[list[B], BATCH]) -> list[R]:
        """Update a batch of {name}, all or nothing.

        Each of 1 to 1,000 members has an `id` and a merge patch, and is changed only at its `version`, if it has one.
        The response has the same order; if one cannot be changed, none is.
        """
        changes = patches(body)
        if call.owner is not None:
            self._refuse_others(call.owner, [each.values for each in changes], in_batch=True)
        if self._conversions:
            call, stored = await self._stored(context, call, [each.values for each in changes])
            changes = [each._replace(values=values) for each, values in zip(changes, stored, strict=True)]
        return await self._store(context).update_many(call, changes)

    async def delete_many(self, context: Context, call: Call, query: IdsQuery) -> list[I]:
        """Delete a batch of {name}; unknown ids are left out of the response.

        `ids` has 1 to 1,000 of them, with commas or repeated. The response has those that were deleted.
        """
        return await self._store(context).delete_many(call, query.ids)  # type: ignore[return-value] # an id is one

    def _refuse_others(self, caller: int, sent: list[Values], *, in_batch: bool) -> None:
        """Raise a 403 for changes that give a row to another user than the caller."""
        if owner := self._table.owner:
            owners = [values.get(owner, UNSET) for values in sent]
            refuse_others(self._table.noun, owner, caller, owners, in_batch=in_batch)

    async def _stored(self, context: Context, call: Call, sent: list[Values]) -> tuple[Call, list[Values]]:
        """Return what is stored of the values that a client sent, and the call to write it with."""
        if all(map(self._conversions.keys().isdisjoint, sent)):
            return call, sent
        call = self._store(context).bounded(call)  # converting and writing have one deadline
        return call, [await self._convert(context, call, values) for values in sent]

    async def _convert(self, context: Context, call: Call, values: Values) -> Values:
        stored = dict(values)
        for name, (column, make) in self._conversions.items():
            if name in stored:
                stored[column] = await make(context, call, stored.pop(name))
        return stored


def _check_fields(struct: type[Struct], names: tuple[str, ...], found: tuple[str, ...]) -> None:
    """Raise TypeError if a Struct is not made of a row's values as they come, in their order."""
    if found != names:
        raise TypeError(f"the fields of {struct.__name__} are {found}; those of its table are {names}")
