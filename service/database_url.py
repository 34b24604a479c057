"""DATABASE_URL: what the service makes of it, and every reason why one cannot work."""

import os
from collections.abc import Collection
from contextlib import suppress
from getpass import getuser
from urllib.parse import parse_qsl

from sqlalchemy import URL

from db.engines.failover import TARGETS
from db.engines.url import DRIVERS, FRONT, Host, InvalidURL, hosts_of, parse_url, with_driver

DEFAULT = "sqlite+aiosqlite:///./items.db"
EXAMPLES = ["postgresql+asyncpg://user:password@host:5432/database", DEFAULT]
SSL_MODES = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")
SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
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


def normalized(text: str) -> str:
    """Return a URL with the driver that the service uses, and with `ssl` in place of libpq's `sslmode`.

    Raises InvalidURL if it cannot work, ArgumentError or another ValueError if it is no URL.
    """
    url = parse_url(text)
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if problem := _problem(url, text):
        raise InvalidURL(problem)
    return with_driver(url).render_as_string(hide_password=False)


def is_in_memory(url: URL) -> bool:
    """Return whether a URL is that of a SQLite database without a file."""
    return (url.database or "").removeprefix("file:") in {"", ":memory:"} and url.get_backend_name() == "sqlite"


def _problem(url: URL, text: str) -> str:
    if url.drivername not in DRIVERS.values():
        return f"is for {url.drivername}; expected {' or '.join(sorted(set(DRIVERS.values())))}"
    if "%00" in text:
        return "has a %00; expected no such character"
    _, _, query = FRONT.sub("", text, count=1).partition("?")
    if url.get_backend_name() == "sqlite":
        return _problem_of_options(url, query) or _problem_of_sqlite(url, text)
    if "@" in f"{url.host}{url.database}{query}":
        return "has two @; expected the one in the password as %40, as a / in it is %2F"
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
    return "is a URI of a database in memory; expected sqlite://" if is_uri and is_in_memory(url) else ""


def _problem_of_postgresql(url: URL) -> str:
    if {"ssl", "sslmode"} <= url.query.keys():
        return "has ssl and sslmode; expected one of them"
    if not all(_can_be_looked_up(host) for host in hosts_of(url)):
        return "has a host that cannot exist; expected 1 to 63 characters between its dots"
    if not url.username and not _has_a_user():
        return "has no user; expected one, as this process's own has no name"
    return ""


def _can_be_looked_up(host: Host) -> bool:
    with suppress(UnicodeError):
        return host.name is None or host.name.startswith("/") or bool(host.name.encode("idna"))
    return False


def _has_a_user() -> bool:
    with suppress(KeyError, OSError):  # as asyncpg looks for one; in a container there may be no name
        return bool(os.environ.get("PGUSER") or getuser())
    return False
