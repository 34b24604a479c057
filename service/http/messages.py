"""msgspec's messages about wrong values, in words that are not Python's."""

import re
from ast import literal_eval
from collections.abc import Sequence

import msgspec

TYPES = {
    "array": "an array",
    "bool": "true or false",
    "bytes": "binary data",
    "datetime": "a timestamp",
    "ext": "an extension",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
}
NAMED = re.compile(r"`([a-z0-9 |]+)`")


def plain_message(error: msgspec.ValidationError, choices: Sequence[object] = ()) -> str:
    """Return msgspec's message without its path; `choices` are the values of an enumeration, of which it names none."""
    message = str(error).partition(" - at `")[0]
    if message.startswith("Invalid enum value"):
        return f"Expected one of {', '.join(map(str, choices))}" if choices else "Expected one of other values"
    if not message.startswith("Expected"):
        return message
    text, matching, pattern = message.partition(" matching regex ")
    text = NAMED.sub(lambda found: " or ".join(TYPES.get(name, name) for name in found[1].split(" | ")), text)
    return f"{text} that matches {literal_eval(pattern)}" if matching else text
