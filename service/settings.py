"""The settings: one frozen value, read once from the environment, with all errors listed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_origin

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import FieldInfo, fields
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from db.engines.url import PORT_MAX, InvalidURL
from service.database_url import DEFAULT, EXAMPLES, SWITCH, is_in_memory, normalized
from service.dotenv_file import Dotenv, read_dotenv, read_text, reason
from service.service_links import is_link
from service.variables import NOTHING, PLATFORM_NAMES, PREFIX, bounds, expected, kind_of, quoted, shown, variable_of

SEPARATORS = re.compile("[-._]+")
FILE_SUFFIX = "_FILE"


class SettingsError(Exception):
    """The settings cannot be used: `errors` has a sentence for each reason, and none of them shows a secret."""

    def __init__(self, errors: Sequence[str]) -> None:
        """Join the errors, each on a line of the text."""
        super().__init__("\n".join(errors))
        self.errors = list(errors)


class Setting(NamedTuple):
    """A row of the settings table, without passwords."""

    variable: str
    default: str
    value: str
    expected: str
    description: str


class Settings(Struct, frozen=True, kw_only=True):
    """The settings: each field is an environment variable, and its type says which values it takes."""

    database_url: Annotated[str, Meta(description="The database that stores the items.", examples=EXAMPLES)] = DEFAULT
    database_url_file: str | None = None  # the path in DATABASE_URL_FILE, if that was read; not a setting of its own
    port: Annotated[int, bounds(0, PORT_MAX, "The TCP port; 0 takes any free one.")] = 8000
    host: Annotated[str, Meta(description="The address to listen on.", examples=["127.0.0.1", "::"])] = "127.0.0.1"
    auth: Annotated[
        frozenset[Literal["tokens"]],
        Meta(description="How callers are authenticated; off: whoever reaches the service may do everything."),
    ] = frozenset()
    auth_off_anywhere: Annotated[
        bool, Meta(description="Whether ITEMSVC_AUTH may be off on an address that is not loopback.")
    ] = False
    auth_cache_ms: Annotated[
        int, bounds(1, 5000, "For how long a token that was revoked, or a user who was changed, may count as before.")
    ] = 5000
    workers: Annotated[int, bounds(1, 64, "Worker processes.")] = 1
    coalesce: Annotated[bool, Meta(description="Whether requests that wait at the same time share a statement.")] = True
    batch_size_max: Annotated[int, bounds(1, 1000, "Requests that share one statement.")] = 256
    batch_connections: Annotated[int, bounds(3, 100, "A worker's connections for batches, two of them for lists.")] = 6
    queue_length_max: Annotated[int, bounds(1, 10**6, "Requests waiting in a batcher; then 503.")] = 4096
    queue_wait_ms_max: Annotated[int, bounds(1, 60_000, "Longest wait in a batcher; then 503.")] = 1000
    pool_size: Annotated[int, bounds(1, 100, "A worker's connections for transactions.")] = 4
    pool_wait_ms: Annotated[
        int, bounds(1, 60_000, "A transaction that would wait longer for one of them is refused with a 503.")
    ] = 1000
    connect_timeout_ms: Annotated[int, bounds(1, 60_000, "How long connecting may take.")] = 2000
    statement_timeout_ms: Annotated[int, bounds(1, 600_000, "How long a statement may take.")] = 5000
    request_timeout_ms: Annotated[int, bounds(10, 600_000, "How long a request may take.")] = 10_000
    idempotency_key_lifetime_s: Annotated[int, bounds(60, 10**8, "How long an idempotency key is remembered.")] = 86_400
    idempotency_keys_max: Annotated[
        int, bounds(1, 10**12, "About so many keys are remembered; a write with another one is then a 503.")
    ] = 10**8
    pgbouncer: Annotated[bool, Meta(description="Whether DATABASE_URL leads to PgBouncer in transaction mode.")] = False
    body_bytes_max: Annotated[int, bounds(1024, 2**30, "The largest body; beyond, 413.")] = 4 * 1024**2
    body_timeout_ms: Annotated[
        int,
        bounds(
            1, 600_000, "How long a body may take, in addition to the time for its bytes at the slowest rate; then 408."
        ),
    ] = 10_000
    body_bytes_per_s_min: Annotated[int, bounds(1, 2**30, "The slowest rate of a body's bytes.")] = 64 * 1024
    idle_timeout_ms: Annotated[  # longer than load balancers' 60 s: the client's side has to close first
        int, bounds(1, 3_600_000, "How long a connection may wait for a request's whole head.")
    ] = 65_000
    send_timeout_ms: Annotated[
        int, bounds(100, 600_000, "How long a client may take nothing of a response; then its connection is closed.")
    ] = 10_000
    requests_max: Annotated[int, bounds(1, 10**6, "Requests that a worker serves at the same time; then 503.")] = 4096
    access_log: Annotated[bool, Meta(description="Log a line for every request.")] = False
    slow_request_ms: Annotated[int, bounds(1, 600_000, "Always log requests slower than this.")] = 1000
    debug: Annotated[bool, Meta(description="Log SQL and tracebacks; responses never show them.")] = False
    shutdown_timeout_s: Annotated[int, bounds(1, 600, "How long a shutdown waits for open requests.")] = 20
    drain_delay_ms: Annotated[
        int, bounds(0, 600_000, "How long the service goes on serving after SIGTERM, while clients turn away.")
    ] = 5000
    worker_lifetime_s: Annotated[int, bounds(0, 30 * 86_400, "Age at which a process is replaced; 0: never.")] = 0
    worker_memory_mib_max: Annotated[
        int, bounds(0, 2**20, "Resident memory at which a process is replaced, in MiB; 0: never.")
    ] = 0

    def __repr__(self) -> str:
        """Return the settings by variable, without the database's password."""
        return f"Settings({', '.join(f'{row.variable}={row.value}' for row in self.described())})"

    def described(self) -> list[Setting]:
        """Return the rows of the settings table, with the values of these settings."""
        return [
            Setting(
                variable=variable_of(field.name),
                default=shown(field.name, field.default),
                value=shown(field.name, getattr(self, field.name)),
                expected=expected(field),
                description=kind_of(field)[1].description or "",
            )
            for field in _fields()
        ]


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
    for field in _fields():
        try:
            values[field.name] = _read(field, sources)
        except SettingsError as error:
            errors += error.errors
    settings = Settings(**values, database_url_file=_database_url_file(sources))
    errors += _contradictions(settings)
    if errors:
        raise SettingsError(errors)
    return settings


def _fields() -> list[FieldInfo]:
    """Return the fields that are settings."""
    return [field for field in fields(Settings) if field.name != "database_url_file"]


def _database_url_file(sources: Sequence[Mapping[str, str]]) -> str | None:
    """Return the path of the file that DATABASE_URL is read from, None if it has its value from elsewhere."""
    variable = PLATFORM_NAMES["database_url"]
    for source in sources:
        if variable in source or variable + FILE_SUFFIX in source:
            return source.get(variable + FILE_SUFFIX)
    return None


def _known() -> set[str]:
    return {variable_of(field.name) + suffix for field in _fields() for suffix in ("", FILE_SUFFIX)}


def _unknown(names: set[str]) -> Iterator[str]:
    known = _known()
    for name in sorted(names - known):
        upper = SEPARATORS.sub("_", name.upper()).strip("_")  # in another case it is not read, and was meant
        if upper in known or upper.startswith(PREFIX):
            # Compared without the prefix, as DATABASE_URL and PORT have none.
            field = upper.removeprefix(PREFIX).removesuffix(FILE_SUFFIX).lower()
            nearest = get_close_matches(field, [one.name for one in _fields()], n=1)
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
        except (ValidationError, ArgumentError, ValueError):  # their texts may hold a secret
            pass
    raise SettingsError([f"{variable_of(field.name)} {problem}"])


def _converted(field: FieldInfo, text: str) -> Any:
    kind: Any = kind_of(field)[0]
    value: Any = SWITCH.get(text.lower(), text) if kind is bool else text
    if get_origin(kind) is frozenset:
        value = [] if text == NOTHING else [part.strip() for part in text.split(",")]
    return convert(value, field.type, strict=False)


def _mistake(text: str) -> str:
    """Return what is wrong with a value that may be a secret, if it cannot be read."""
    if not text.strip():
        return "is empty"
    lines = len(text.splitlines())
    return f"has {lines} lines" if lines > 1 else "is wrong"


def _contradictions(settings: Settings) -> Iterator[str]:
    if settings.workers > 1 and is_in_memory(make_url(settings.database_url)):
        yield f"{variable_of('workers')} is {settings.workers}; expected 1: workers cannot share SQLite's memory"
    if settings.statement_timeout_ms > settings.request_timeout_ms:
        yield (
            f"{variable_of('statement_timeout_ms')} is {settings.statement_timeout_ms}; expected at most "
            f"{variable_of('request_timeout_ms')}, which is {settings.request_timeout_ms}"
        )
