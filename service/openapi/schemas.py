"""JSON Schemas of types, and examples made from them."""

from collections.abc import Iterable
from types import NoneType
from typing import Any

import msgspec

from service.http.media_types import ANY_BODY
from service.http.validation import union_members

Schema = dict[str, Any]

INT32_MAX = 2**31 - 1
VALUES = ("const", "default", "enum", "examples")  # keywords that hold values, not schemas
JSON_TYPES = {bool: "boolean", int: "integer", str: "string"}


class Schemas:
    """Makes schemas, and collects the components that they refer to: one for each Struct."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return a type's schema; it may be a union of several Structs, which only a response is."""
        template = "#/components/schemas/{name}"
        schemas, found = msgspec.json.schema_components(union_members(kind), ref_template=template)
        self.components |= portable(found)
        forms = [portable(schema) for schema in schemas]
        if len(forms) == 1:
            return dict(forms[0])
        # A generator of clients has to know that no value has two of these forms: for anyOf some merge them into one.
        types = {self._resolved(form)["type"] for form in forms}
        return {"oneOf" if len(types) == len(forms) else "anyOf": forms}

    def forms(self, kind: Any) -> list[Schema]:
        """Return the schema of each member of a union, a Struct's in full; of no type, none."""
        schema = {"anyOf": []} if kind in {None, NoneType} else self.of(kind)
        return [self._resolved(form) for form in schema.get("oneOf", schema.get("anyOf", [schema]))]

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


def portable(schema: Any) -> Any:
    r"""Return a schema, or part of one, in terms that other languages and generators of clients share.

    Without a `format`, many generators take an integer for one of 32 bits, and some a number for one of single
    precision; without a `type`, an `enum` is of no type. Where Python's regular expressions say `\Z`, others say `$`.
    """
    if isinstance(schema, list):
        return [portable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: part if name in VALUES else portable(part) for name, part in schema.items()}
    if isinstance(schema.get("enum"), list):
        [schema["type"]] = {JSON_TYPES[type(value)] for value in schema["enum"]}
    if isinstance(pattern := schema.get("pattern"), str):
        schema["pattern"] = pattern.replace("\\Z", "$")
    if schema.get("type") == "integer":
        schema["format"] = "int32" if schema.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    if schema.get("type") == "number":
        schema["format"] = "double"
    return schema
