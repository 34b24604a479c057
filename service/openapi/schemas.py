"""JSON Schemas of types, and examples made from them."""

from typing import Any, get_args, get_origin

import msgspec

from service.http.media_types import MEDIA_TYPES
from service.http.operation import Result

Schema = dict[str, Any]


class Schemas:
    """Makes schemas, and collects the components that they refer to: one for each Struct."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return a type's schema; of a Result, that of its value."""
        kind = get_args(kind)[0] if get_origin(kind) is Result else kind
        (schema,), found = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        self.components |= found
        return schema

    def forms(self, kind: Any) -> list[Schema]:
        """Return the schema of each member of a union, a Struct's in full."""
        schema = self.of(kind)
        return [self._resolved(form) for form in schema.get("anyOf", [schema])]

    def content(self, kind: Any) -> dict[str, Any]:
        """Return the content of a type in each media type, with an example for each form of it."""
        examples = {
            "batch" if form["type"] == "array" else "one": {"value": self.example(form)} for form in self.forms(kind)
        }
        return {media_type.content_type: {"schema": self.of(kind), "examples": examples} for media_type in MEDIA_TYPES}

    def example(self, schema: Schema) -> Any:
        """Return a value made from the examples of a schema's parts."""
        schema = self._resolved(schema)
        if "examples" in schema:
            return schema["examples"][0]
        if "enum" in schema:
            return schema["enum"][0]
        if schema["type"] == "array":
            return [self.example(schema["items"])]
        return {name: self.example(part) for name, part in schema.get("properties", {}).items()}

    def _resolved(self, schema: Schema) -> Schema:
        return self.components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
