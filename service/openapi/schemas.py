"""The schemas of types, and examples made out of them."""

from typing import Any, get_args, get_origin

import msgspec

from service.http.media_types import MEDIA_TYPES
from service.http.operation import Reply

Schema = dict[str, Any]


class Schemas:
    """Gives schemas, and collects those of the Structs that they refer to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return a type's schema; of a Reply, that of its value."""
        kind = get_args(kind)[0] if get_origin(kind) is Reply else kind
        (schema,), found = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        self.components |= found
        return schema

    def forms(self, kind: Any) -> list[Schema]:
        """Return the schema of each member of a union, a Struct's in full."""
        schema = self.of(kind)
        return [self._resolved(form) for form in schema.get("anyOf", [schema])]

    def content(self, kind: Any) -> dict[str, Any]:
        """Describe a type in every media type, with an example for each of its forms."""
        examples = {
            "set" if form["type"] == "array" else "one": {"value": self.example(form)} for form in self.forms(kind)
        }
        return {media.content_type: {"schema": self.of(kind), "examples": examples} for media in MEDIA_TYPES}

    def example(self, schema: Schema) -> Any:
        """Make a value out of the examples of its parts."""
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
