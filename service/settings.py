"""The settings: one frozen value, read once from the environment, with all errors listed."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from db.engines.failover import TARGETS
from db.engines.url import FRONT, PORT_MAX, Host, HostsError, hosts_of, parse_url
from service.dotenv_file import Dotenv, read_dotenv, read_text, reason

PREFIX = "ITEMSVC_"
SEPARATORS = re.compile("[-._]+")
PLATFORM_NAMES = {"database_url": "DATABASE_URL", "port": "PORT"}
FILE_SUFFIX = "_FILE"
SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
# Platforms hand out URLs that name no driver, or a scheme that SQLAlchemy no longer knows.
DRIVERS = {"postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
SSL_MODES = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")
# What a URL may have after its "?", each with its values if it takes no other. To asyncpg anything else is an error at
# every connection. SQLite would ignore it; of its own (sqlite.org/uri.html) those are missing that take away its locks,
# and of Python's those that the service sets itself, such as timeout.
OPTIONS: dict[str, dict[str, Collection[str]]] = {
    "postgresql": {
        "host": (),
        "port": (),
        "ssl": SSL_MODES,
        "sslmode": SSL_MODES,  # libpq's name for it
        "target_session_attrs": TARGETS,
    },
    "sqlite": {"cache": ("private", "shared"), "immutable": SWITCH, "mode": ("ro", "rw", "rwc"), "uri": SWITCH},
}


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

    database_url: Annotated[
        str,
        Meta(
            description="The database that stores the items.",
            examples=["postgresql+asyncpg://user:password@host:5432/database", "sqlite+aiosqlite:///./items.db"],
        ),
    ] = "sqlite+aiosqlite:///./items.db"
    port: Annotated[int, Meta(ge=0, le=PORT_MAX, description="The TCP port; 0 takes any free one.")] = 8000
    host: Annotated[str, Meta(description="The address to listen on.", examples=["127.0.0.1", "::"])] = "127.0.0.1"
    workers: Annotated[int, Meta(ge=1, le=64, description="Worker processes.")] = 1
    coalesce: Annotated[bool, Meta(description="Whether requests that wait at the same time share a statement.")] = True
    batch_size_max: Annotated[int, Meta(ge=1, le=1000, description="Requests that share one statement.")] = 256
    queue_length_max: Annotated[int, Meta(ge=1, le=10**6, description="Requests waiting in a batcher; then 503.")] = (
        4096
    )
    queue_wait_ms_max: Annotated[int, Meta(ge=1, le=60_000, description="Longest wait in a batcher; then 503.")] = 1000
    pool_size: Annotated[int, Meta(ge=1, le=100, description="A worker's connections for transactions.")] = 4
    pool_wait_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="Longest wait for one of them that is expected; then 503.")
    ] = 1000
    connect_timeout_ms: Annotated[int, Meta(ge=1, le=60_000, description="How long connecting may take.")] = 2000
    statement_timeout_ms: Annotated[int, Meta(ge=1, le=600_000, description="How long a statement may take.")] = 5000
    request_timeout_ms: Annotated[int, Meta(ge=10, le=600_000, description="How long a request may take.")] = 10_000
    idempotency_key_lifetime_s: Annotated[
        int, Meta(ge=60, le=10**8, description="How long an idempotency key is remembered.")
    ] = 86_400
    pgbouncer: Annotated[bool, Meta(description="Whether DATABASE_URL leads to PgBouncer in transaction mode.")] = False
    body_bytes_max: Annotated[int, Meta(ge=1024, le=2**30, description="The largest body; beyond, 413.")] = 4 * 1024**2
    body_timeout_ms: Annotated[
        int, Meta(ge=1, le=600_000, description="How long a body may take, beside the time for its bytes; then 408.")
    ] = 10_000
    body_bytes_per_s_min: Annotated[int, Meta(ge=1, le=2**30, description="The slowest rate of a body's bytes.")] = (
        64 * 1024
    )
    idle_timeout_ms: Annotated[  # longer than load balancers' 60 s: the client's side has to close first
        int, Meta(ge=1, le=3_600_000, description="How long a connection may wait for a request's whole head.")
    ] = 65_000
    requests_max: Annotated[
        int, Meta(ge=1, le=10**6, description="Requests that a worker serves at the same time; then 503.")
    ] = 4096
    access_log: Annotated[bool, Meta(description="Log a line for every request.")] = False
    slow_request_ms: Annotated[int, Meta(ge=1, le=600_000, description="Always log requests slower than this.")] = 1000
    debug: Annotated[bool, Meta(description="Log SQL and tracebacks; responses never show them.")] = False
    shutdown_timeout_s: Annotated[
        int, Meta(ge=1, le=600, description="How long a shutdown waits for open requests.")
    ] = 20
    drain_delay_ms: Annotated[
        int,
        Meta(
            ge=0, le=600_000, description="How long the service goes on serving after SIGTERM, while clients turn away."
        ),
    ] = 5000
    worker_lifetime_s: Annotated[
        int, Meta(ge=0, le=30 * 86_400, description="Age at which a process is replaced; 0: never.")
    ] = 0
    worker_memory_mib_max: Annotated[
        int, Meta(ge=0, le=2**20, description="Resident memory at which a process is replaced, in MiB; 0: never.")
    ] = 0

    def __repr__(self) -> str:
        """Return the settings by variable, without the database's password."""
        return f"Settings({', '.join(f'{row.variable}={row.value}' for row in self.described())})"

    def described(self) -> list[Setting]:
        """Return the rows of the settings table, with the values of these settings."""
        return [
            Setting(
                variable=_variable(field.name),
                default=_shown(field.name, field.default),
                value=_shown(field.name, getattr(self, field.name)),
                expected=_expected(field),
                description=_kind(field)[1].description or "",
            )
            for field in fields(Settings)
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
    ours = {name for name in environ if name.upper().startswith(PREFIX)}
    errors = [*dotenv.errors, *_unknown({*(options or {}), *ours, *dotenv.values})]
    values: dict[str, Any] = {}
    for field in fields(Settings):
        try:
            values |= _read(field, sources)
        except _InvalidSettingError as error:
            errors.append(str(error))
    settings = Settings(**values)
    if settings.workers > 1 and _is_in_memory(make_url(settings.database_url)):
        errors.append(f"{_variable('workers')} is {settings.workers}; expected 1: workers cannot share SQLite's memory")
    if settings.statement_timeout_ms > settings.request_timeout_ms:
        errors.append(
            f"{_variable('statement_timeout_ms')} is {settings.statement_timeout_ms}; expected at most "
            f"{_variable('request_timeout_ms')}, which is {settings.request_timeout_ms}"
        )
    if errors:
        raise SettingsError(errors)
    return settings


class _InvalidSettingError(Exception):
    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")


def _known() -> set[str]:
    return {_variable(field) + suffix for field in Settings.__struct_fields__ for suffix in ("", FILE_SUFFIX)}


def _unknown(names: set[str]) -> list[str]:
    known, errors = _known(), []
    for name in sorted(names - known):
        upper = SEPARATORS.sub("_", name.upper()).strip("_")  # in another case it is not read, and was meant
        if upper not in known and not upper.startswith(PREFIX):
            continue
        # Compared without the prefix, as DATABASE_URL and PORT have none.
        field = upper.removeprefix(PREFIX).removesuffix(FILE_SUFFIX).lower()
        nearest = get_close_matches(field, Settings.__struct_fields__, n=1)
        hint = f"; did you mean {_variable(nearest[0])}?" if nearest else ""
        errors.append(f"{name} is not a setting{hint}")
    return errors


def _read(field: FieldInfo, sources: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    variable, file_variable = _variable(field.name), _variable(field.name) + FILE_SUFFIX
    for source in sources:
        if variable in source and file_variable in source:
            raise _InvalidSettingError(variable, f"and {file_variable} are both set; expected one of them")
        if file_variable in source:
            text = _read_file(file_variable, source[file_variable])
            return {field.name: _decode(field, text, found=f"(in {file_variable}) is wrong")}
        if variable in source:
            found = "is wrong" if field.name == "database_url" else f"is {_quoted(source[variable])}"
            return {field.name: _decode(field, source[variable], found=found)}
    return {}


def _read_file(variable: str, path: str) -> str:
    try:
        return read_text(Path(path)).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise _InvalidSettingError(
            variable, f"is {_quoted(path)}; expected a file that can be read: {reason(error)}"
        ) from None


def _decode(field: FieldInfo, text: str, *, found: str) -> Any:
    variable, problem = _variable(field.name), f"{found}; expected {_expected(field)}"
    if not text.strip() or not text.isprintable():
        raise _InvalidSettingError(variable, problem)
    value = SWITCH.get(text.lower(), text) if _kind(field)[0] is bool else text
    try:
        return _database_url(text) if field.name == "database_url" else msgspec.convert(value, field.type, strict=False)
    except HostsError as error:
        raise _InvalidSettingError(variable, str(error)) from None
    except (msgspec.ValidationError, ArgumentError, ValueError):  # their texts may hold a secret
        raise _InvalidSettingError(variable, problem) from None


def _database_url(text: str) -> str:
    url = parse_url(text)
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if problem := _problem(url, text):
        raise _InvalidSettingError(_variable("database_url"), problem)
    if "sslmode" in url.query:
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    return url.render_as_string(hide_password=False)


def _problem(url: URL, text: str) -> str:
    if url.drivername not in DRIVERS.values():
        return f"is for {url.drivername}; expected {' or '.join(sorted(set(DRIVERS.values())))}"
    if "%00" in text:
        return "has a %00; expected no such character"
    _, _, query = FRONT.sub("", text, count=1).partition("?")
    if url.get_backend_name() == "sqlite":
        return _problem_of_options(url, query) or _problem_of_sqlite(url, text)
    if "@" in f"{url.host}{query}":
        return "has two @; expected the one in the password as %40"
    return _problem_of_options(url, query) or _problem_of_postgresql(url)


def _problem_of_options(url: URL, query: str) -> str:
    known = OPTIONS[url.get_backend_name()]
    if not all(value for _, value in parse_qsl(query, keep_blank_values=True)):  # SQLAlchemy would leave them out
        return "has an option without a value; expected one after each ="
    if unknown := url.query.keys() - known:
        return f"has the option {min(unknown)}; expected only {', '.join(known)}"
    for name, words in known.items():
        value = url.query.get(name)
        if words and isinstance(value, tuple):
            return f"has {name} more than once; expected one value"
        if words and value is not None and value not in words:
            return f"has a value of {name} that does not exist; expected {', '.join(words)}"
    return ""


def _problem_of_sqlite(url: URL, text: str) -> str:
    path, is_uri = url.database or "", SWITCH[str(url.query.get("uri", "off"))]
    if url.host or url.port or url.username or url.password:
        return "has two slashes; expected three and a relative path, or four and an absolute one"
    if path != path.strip() or (not path and text.partition(":")[2] != "//"):
        return "has no path, or blanks around it; expected sqlite:///PATH, or sqlite:// for a database in memory"
    if path.startswith("file:") != is_uri or (url.query.keys() - {"uri"} and not is_uri):
        return "is half a URI of SQLite; expected sqlite:///file:PATH?uri=true, or only sqlite:///PATH"
    if path.startswith("file://") and not path.startswith(("file:///", "file://localhost/")):
        return "has a host in its path; expected sqlite:///file:PATH?uri=true"
    # Each connection would have its own.
    return "is a URI of a database in memory; expected sqlite://" if is_uri and _is_in_memory(url) else ""


def _problem_of_postgresql(url: URL) -> str:
    if {"ssl", "sslmode"} <= url.query.keys():
        return "has ssl and sslmode; expected one of them"
    if not all(_can_be_looked_up(host) for host in hosts_of(url)):
        return "has a host that cannot exist; expected 1 to 63 characters between its dots"
    if not url.username and not _has_a_user():
        return "has no user; expected one, as this process's own has no name"
    return ""


def _can_be_looked_up(host: Host) -> bool:
    try:
        return host.name is None or host.name.startswith("/") or bool(host.name.encode("idna"))
    except UnicodeError:
        return False


def _has_a_user() -> bool:
    try:  # as asyncpg does; in a container there may be no name
        return bool(os.environ.get("PGUSER") or getuser())
    except (KeyError, OSError):
        return False


def _is_in_memory(url: URL) -> bool:
    return (url.database or "").removeprefix("file:") in {"", ":memory:"} and url.get_backend_name() == "sqlite"


def _variable(name: str) -> str:
    return PLATFORM_NAMES.get(name, PREFIX + name.upper())


def _kind(field: FieldInfo) -> tuple[type, Meta]:
    kind, meta = get_args(field.type)
    return kind, meta


def _expected(field: FieldInfo) -> str:
    kind, meta = _kind(field)
    if kind is bool:
        return "on or off"
    return f"{meta.ge} to {meta.le}" if kind is int else f"such as {' or '.join(meta.examples or [])}"


def _shown(name: str, value: object) -> str:
    if name == "database_url":
        return make_url(str(value)).render_as_string(hide_password=True)
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    # A URL may hold a password, also where none belongs.
    return "a URL" if "://" in text or "@" in text else repr(text)
