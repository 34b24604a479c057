"""The handlers of every resource that is stored in a table; a Collection gives them its Structs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import astuple
from starlette.routing import Route

from db.tables.call import Call
from db.tables.store import Store
from db.tables.table import Deletion, Patch, Row, Table
from service.context import Context
from service.http.conditional import write_at_version
from service.http.derived import batch_patch, list_query, merge_patch
from service.http.headers import IfMatch
from service.http.listing import Listing
from service.http.operation import Handler, Operation, Resource
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
Prepare = Callable[[Context, Call, Values], Awaitable[Values]]


class Collection(Generic[C, R]):
    """The list of a resource at the path /NAME, and its rows at /NAME/ID: their handlers, Struct in and Struct out.

    `store` finds its store. `prepare`, if there is one, returns what is stored of the values that a client sent.
    """

    def __init__(
        self,
        table: Table,
        create: type[C],
        response: type[R],
        store: Callable[[Context], Store[R]],
        prepare: Prepare | None = None,
    ) -> None:
        _check_fields(response, tuple(column.name for column in table.columns))
        if prepare is None:
            _check_fields(create, table.row_fields)
        self._table, self._store, self._prepare = table, store, prepare
        self.path = f"/{table.name}"
        self.listing = Listing(self.path, table, response)
        patch, id_type = merge_patch(create), struct_fields(response)["id"].type
        self._types = {"C": create, "P": patch, "B": batch_patch(patch, id_type), "R": response, "I": id_type}
        self._types["Q"] = list_query(table, response)

    def routes(self, **own: Operation) -> list[Route]:
        """Return the routes of a row and of the list; an operation that is given, by method, is for a row."""
        noun, location = self._table.noun, f"{self.path}/%d".encode()
        refused = [already_exists(noun)] if self._table.unique else []
        refused += [UNKNOWN_REFERENCE] if self._table.references else []
        owns = [owned(reference.other.name) for reference in self._table.referenced_by]
        refusals = {"PUT": refused, "PATCH": refused, "DELETE": owns}  # of the table, whichever handler it has
        one = {
            "GET": self._operation(self.read_one),
            "PUT": self._operation(self.replace_one, problems=refused),
            "PATCH": self._operation(self.update_one, problems=refused),
            "DELETE": self._operation(self.delete_one, problems=owns, status=204),
        }
        many = {
            "GET": self._operation(self.list_page),
            "POST": self._operation(self.create_many, problems=refused, status=201, location=location),
            "PATCH": self._operation(self.update_many, problems=refused),
            "DELETE": self._operation(self.delete_many, problems=owns),
        }
        one |= {method: operation.with_problems(refusals.get(method, ())) for method, operation in own.items()}
        return [Route(f"{self.path}/{{id}}", Resource(noun, **one)), Route(self.path, Resource(noun, **many))]

    def _operation(self, run: Callable[..., Awaitable[Any]], **options: Any) -> Operation:
        return Operation(Handler.of(run).applied(self._table.noun, self._table.name, self._types), **options)

    async def read_one(self, context: Context, call: Call, id: I) -> R:
        """Read one {noun}."""
        return await self._store(context).get(call, id)

    async def replace_one(self, context: Context, call: Call, id: I, if_match: IfMatch, body: C) -> R:
        """Replace all of one {noun}."""
        return await self.update_one(context, call, id, if_match, body)

    async def update_one(self, context: Context, call: Call, id: I, if_match: IfMatch, body: P) -> R:
        """Update some fields of one {noun}."""
        store, call = self._begin(context, call)
        values: Values = given(body)

        async def write(call: Call, version: int | None) -> R:
            stored = values if self._prepare is None else await self._prepare(context, call, values)
            return await store.update(call, Patch(id, version, stored))

        return await write_at_version(store, call, id, if_match, write)

    async def delete_one(self, context: Context, call: Call, id: I, if_match: IfMatch) -> None:
        """Delete one {noun}."""
        store = self._store(context)

        async def write(call: Call, version: int | None) -> None:
            await store.delete(call, Deletion(id, version))

        await write_at_version(store, call, id, if_match, write)

    async def list_page(self, context: Context, call: Call, query: Q) -> Result[list[R]]:
        """List {name}."""
        return await self.listing.read(self._store(context), call, query)

    async def create_many(self, context: Context, call: Call, body: C | Annotated[list[C], BATCH]) -> R | list[R]:
        """Create one {noun}, or a batch of {name}, all or nothing."""
        store, call = self._begin(context, call)
        if isinstance(body, list):
            return await store.create_many(call, await self._rows(context, call, body))
        [row] = await self._rows(context, call, [body])
        return await store.create(call, row)

    async def update_many(self, context: Context, call: Call, body: Annotated[list[B], BATCH]) -> list[R]:
        """Update a batch of {name}, all or nothing."""
        store, call = self._begin(context, call)
        changes = patches(body)
        if self._prepare is not None:
            changes = [each._replace(values=await self._prepare(context, call, each.values)) for each in changes]
        return await store.update_many(call, changes)

    async def delete_many(self, context: Context, call: Call, query: IdsQuery) -> list[I]:
        """Delete a batch of {name}; unknown ids are left out of the response."""
        return await self._store(context).delete_many(call, query.ids)  # type: ignore[return-value] # an id is one

    def _begin(self, context: Context, call: Call) -> tuple[Store[R], Call]:
        store = self._store(context)
        return store, store.bounded(call) if self._prepare else call  # what is prepared and written has one deadline

    async def _rows(self, context: Context, call: Call, bodies: Sequence[C]) -> list[Row]:
        if self._prepare is None:
            return list(map(astuple, bodies))
        prepared = [await self._prepare(context, call, given(body)) for body in bodies]
        return [tuple(map(values.get, self._table.row_fields)) for values in prepared]


def _check_fields(struct: type[Struct], names: tuple[str, ...]) -> None:
    """Raise TypeError if a Struct is not made of a row's values as they come, in their order."""
    found = struct.__struct_fields__
    if found != names:
        raise TypeError(f"the fields of {struct.__name__} are {found}; those of its table are {names}")
