"""The environment variables of settings: their names, the values they take, and how these are shown."""

from typing import Literal, get_args, get_origin

from msgspec import Meta
from msgspec.structs import FieldInfo
from sqlalchemy import make_url

from service.quotas import EXPECTED, Quotas

PREFIX = "ITEMSVC_"
NOTHING = "off"  # in the place of a set of names
PLATFORM_NAMES = {"database_url": "DATABASE_URL", "port": "PORT"}


def bounds(lowest: int, highest: int, description: str) -> Meta:
    """Return what the type of a number says about it."""
    return Meta(ge=lowest, le=highest, description=description)


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return PLATFORM_NAMES.get(name, PREFIX + name.upper())


def kind_of(field: FieldInfo) -> tuple[type, Meta]:
    """Return the type of a setting, and what its Meta says about it."""
    kind, meta = get_args(field.type)
    return kind, meta


def expected(field: FieldInfo) -> str:
    """Return which values a setting takes."""
    kind, meta = kind_of(field)
    if kind is bool:
        return "on or off"
    if kind is Quotas:
        return EXPECTED
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is frozenset:
        names = get_args(get_args(kind)[0])
        nothing = "" if field.default else f"{NOTHING} alone, or "
        return f"{nothing}{', '.join(names)}{', several by commas' if len(names) > 1 else ''}"
    words = " or ".join(meta.examples or [])
    if kind in {int, float}:
        return f"{meta.ge} to {meta.le}{f', or {words}' if words else ''}"
    return f"such as {words}"


def shown(name: str, value: object) -> str:
    """Return a setting's value as it is shown, without a password."""
    if name == "database_url":
        return make_url(str(value)).render_as_string(hide_password=True)
    if isinstance(value, frozenset):
        return ",".join(sorted(value)) or NOTHING
    if isinstance(value, float):
        return f"{value:g}"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def quoted(text: str) -> str:
    """Return a wrong value as an error shows it."""
    # A URL may hold a password, also where none belongs.
    return "a URL" if "://" in text or "@" in text else repr(text)
