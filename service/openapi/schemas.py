"""JSON Schemas of types, and examples made from them."""

from collections.abc import Iterable
from types import NoneType
from typing import Any

import msgspec

from service.http.media_types import ANY_BODY
from service.http.validation import union_members

Schema = dict[str, Any]


class Schemas:
    """Makes schemas, and collects the components that they refer to: one for each Struct."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return a type's schema; it may be a union of several Structs, which only a response is."""
        template = "#/components/schemas/{name}"
        schemas, found = msgspec.json.schema_components(union_members(kind), ref_template=template)
        self.components |= found
        return {"anyOf": list(schemas)} if len(schemas) > 1 else schemas[0]

    def forms(self, kind: Any) -> list[Schema]:
        """Return the schema of each member of a union, a Struct's in full; of no type, none."""
        schema = {"anyOf": []} if kind in {None, NoneType} else self.of(kind)
        return [self._resolved(form) for form in schema.get("anyOf", [schema])]

    def content(self, kind: Any, media_types: Iterable[str] = ANY_BODY.by_name) -> dict[str, Any]:
        """Return the content of a type in each of these media types, with an example for each form of it."""
        examples = {form.get("title", form["type"]): {"value": self.example(form)} for form in self.forms(kind)}
        return {media_type: {"schema": self.of(kind), "examples": examples} for media_type in media_types}

    def example(self, schema: Schema) -> Any:
        """Return a value made from the examples of a schema's parts."""
        schema = self._resolved(schema)
        for name in ("examples", "enum"):
            if name in schema:
                return schema[name][0]
        if schema.get("type") == "array":
            return [self.example(schema["items"])]
        if schema.get("type") != "object":
            raise TypeError(f"there is no example of {schema}: Meta takes it, around a union with None")
        return {name: self._example_of(schema, name, part) for name, part in schema.get("properties", {}).items()}

    def _example_of(self, schema: Schema, name: str, part: Schema) -> Any:
        try:
            return self.example(part)
        except TypeError as error:
            error.add_note(f"It is of {schema.get('title')}.{name}")
            raise

    def _resolved(self, schema: Schema) -> Schema:
        return self.components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
