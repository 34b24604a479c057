"""Reads the settings: once, from options, the environment and a .env file, with all errors listed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from msgspec import ValidationError, convert
from msgspec.structs import FieldInfo
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from db.engines.url import InvalidURL
from service.cgroup import limits
from service.contradictions import contradictions
from service.database_url import DEFAULT, SWITCH, normalized
from service.dotenv_file import Dotenv, read_dotenv, read_text, reason
from service.quotas import InvalidQuotas, Quotas
from service.service_links import is_link
from service.settings import WORKERS_MAX, Settings, setting_fields
from service.variables import NOTHING, PLATFORM_NAMES, PREFIX, expected, kind_of, quoted, variable_of
from service.worker_count import AUTO, auto_workers, processors

SEPARATORS = re.compile("[-._]+")
FILE_SUFFIX = "_FILE"


class SettingsError(Exception):
    """The settings cannot be used: `errors` has a sentence for each reason, and none of them shows a secret."""

    def __init__(self, errors: Sequence[str]) -> None:
        """Join the errors, each on a line of the text."""
        super().__init__("\n".join(errors))
        self.errors = list(errors)


def read_settings(
    environ: Mapping[str, str], dotenv_path: Path | None = None, options: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings: options (a command line's, by variable) win over the environment, that over the .env file.

    Raises SettingsError with all errors. An empty value is one: a DATABASE_URL that got lost on its way must not become
    the default.
    """
    dotenv = read_dotenv(dotenv_path, _known()) if dotenv_path else Dotenv({}, [])
    sources = [options or {}, environ, dotenv.values]
    # The environment is shared: a port in lower case there may be another program's.
    ours = {name for name, value in environ.items() if name.upper().startswith(PREFIX) and not is_link(name, value)}
    errors = [*dotenv.errors, *_unknown({*sources[0], *ours, *dotenv.values})]
    values: dict[str, Any] = {}
    for field in setting_fields():
        try:
            values[field.name] = _read(field, sources)
        except SettingsError as error:
            errors += error.errors
    values["workers_are_auto"] = values.get("workers") == AUTO
    if values["workers_are_auto"]:
        values["workers"] = _auto_workers(values.get("database_url", DEFAULT))
    settings = Settings(**values, database_url_file=_database_url_file(sources))
    errors += contradictions(settings)
    if errors:
        raise SettingsError(errors)
    return settings


def _auto_workers(database_url: str) -> int:
    """Return as many workers as there is time and memory for; SQLite has one writer."""
    if make_url(database_url).get_backend_name() == "sqlite":
        return 1
    return auto_workers(limits(), processors(), WORKERS_MAX)


def _database_url_file(sources: Sequence[Mapping[str, str]]) -> str | None:
    """Return the path of the file that DATABASE_URL is read from, None if it has its value from elsewhere."""
    variable = PLATFORM_NAMES["database_url"]
    for source in sources:
        if variable in source or variable + FILE_SUFFIX in source:
            return source.get(variable + FILE_SUFFIX)
    return None


def _known() -> set[str]:
    return {variable_of(field.name) + suffix for field in setting_fields() for suffix in ("", FILE_SUFFIX)}


def _unknown(names: set[str]) -> Iterator[str]:
    known = _known()
    for name in sorted(names - known):
        upper = SEPARATORS.sub("_", name.upper()).strip("_")  # in another case it is not read, and was meant
        if upper in known or upper.startswith(PREFIX):
            # Compared without the prefix, as DATABASE_URL and PORT have none.
            field = upper.removeprefix(PREFIX).removesuffix(FILE_SUFFIX).lower()
            nearest = get_close_matches(field, [one.name for one in setting_fields()], n=1)
            yield f"{name} is not a setting" + "".join(f"; did you mean {variable_of(field)}?" for field in nearest)


def _read(field: FieldInfo, sources: Sequence[Mapping[str, str]]) -> Any:
    variable, file_variable = variable_of(field.name), variable_of(field.name) + FILE_SUFFIX
    for source in sources:
        if variable in source and file_variable in source:
            raise SettingsError([f"{variable} and {file_variable} are both set; expected one of them"])
        if file_variable in source:
            text = _read_file(file_variable, source[file_variable])
            return _decode(field, text, f"(in {file_variable}) {_mistake(text)}")
        if variable in source:
            text = source[variable]
            return _decode(field, text, _mistake(text) if field.name == "database_url" else f"is {quoted(text)}")
    return field.default


def _read_file(variable: str, path: str) -> str:
    try:
        return read_text(Path(path)).rstrip("\r\n")
    except (OSError, ValueError) as error:
        problem = f"is {quoted(path)}; expected a file that can be read: {reason(error)}"
        raise SettingsError([f"{variable} {problem}"]) from None


def _decode(field: FieldInfo, text: str, found: str) -> Any:
    problem = f"{found}; expected {expected(field)}"
    if text.strip() and text.isprintable():
        try:
            return normalized(text) if field.name == "database_url" else _converted(field, text)
        except InvalidURL as error:
            problem = str(error)
        except InvalidQuotas as error:
            problem = f"{found}: {error}; expected {expected(field)}"
        except (ValidationError, ArgumentError, ValueError):  # their texts may hold a secret
            pass
    raise SettingsError([f"{variable_of(field.name)} {problem}"])


def _converted(field: FieldInfo, text: str) -> Any:
    kind: Any = kind_of(field)[0]
    if kind is Quotas:
        return Quotas.read(text)
    if field.name == "workers" and text == AUTO:
        return AUTO
    value: Any = SWITCH.get(text.lower(), text) if kind is bool else text
    if get_origin(kind) is frozenset:
        value = [] if text == NOTHING and not field.default else [part.strip() for part in text.split(",")]
    return convert(value, field.type, strict=False)


def _mistake(text: str) -> str:
    """Return what is wrong with a value that may be a secret, if it cannot be read."""
    if not text.strip():
        return "is empty"
    lines = len(text.splitlines())
    return f"has {lines} lines" if lines > 1 else "is wrong"
