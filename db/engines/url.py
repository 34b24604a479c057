"""The hosts in the URL of a database: for PostgreSQL there may be several, of which one takes writes."""

import re
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import URL, make_url

PORT_MAX = 65_535
# Platforms hand out URLs that name no driver, or a scheme that SQLAlchemy no longer knows.
DRIVERS = {"postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
# libpq accepts several hosts between the password and the database, SQLAlchemy does not. The password ends at the first
# @, as in SQLAlchemy, so that a comma in it does not separate hosts.
FRONT = re.compile(r"[\w+]+://(?:[^:/]*(?::[^@]*)?@)?")
HOST_LIST = re.compile(r"([^/?@]*,[^/?@]*)(/[^?]*)?(?:\?(.*))?")
HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(.*))?")


class Host(NamedTuple):
    """The address of a server, or the folder of its socket; None is the default of PostgreSQL's own tools."""

    name: str | None
    port: int | None

    def __str__(self) -> str:
        """Return the address as `host:port`."""
        name = self.name or "the default host"
        if ":" in name and not name.startswith("/"):
            name = f"[{name}]"
        return name if self.port is None else f"{name}:{self.port}"


class InvalidURL(ValueError):
    """A URL cannot work; the message continues a sentence about the URL, and quotes none of it."""


def parse_url(text: str) -> URL:
    """Return a parsed URL, with hosts in libpq's form as SQLAlchemy's `?host=…&host=…`.

    Raises ArgumentError or ValueError, of which InvalidURL is one, if the URL is invalid.
    """
    front = FRONT.match(text)
    host_list = front and HOST_LIST.fullmatch(text, front.end())
    if not front or not host_list:
        return make_url(text)
    hosts, path, query = host_list.groups(default="")
    if not all(names := hosts.split(",")):
        raise InvalidURL("has an empty host; expected one before and after each comma")
    options = [*(f"host={quote(name, safe='%')}" for name in names), *filter(None, [query])]
    return make_url(f"{front[0]}{path}?{'&'.join(options)}")


def with_driver(url: URL) -> URL:
    """Return a URL with the driver that the service uses, and with `ssl` in place of libpq's `sslmode`."""
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if "sslmode" in url.query:
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    return url


def hosts_of(url: URL) -> list[Host]:
    """Return the hosts of a URL, in its order. Raises InvalidURL."""
    named = [_host(text) for text in _split(url.query.get("host", ()))]
    ports: list[int | None] = [_port(text) for text in _split(url.query.get("port", ()))]
    if ports and any(host.port is not None for host in named):
        raise InvalidURL("has ports twice; expected them behind the hosts, or as port=")
    hosts = named or [Host(url.host, None)]
    ports = ports or [None if url.port is None else _port(str(url.port))]
    if len(ports) not in {1, len(hosts)}:
        raise InvalidURL(f"has {len(hosts)} hosts and {len(ports)} ports; expected one port, or one for each host")
    if len(ports) == 1:
        ports *= len(hosts)
    return [host if host.port is not None else Host(host.name, port) for host, port in zip(hosts, ports, strict=True)]


def _split(value: str | Sequence[str]) -> list[str]:
    return [part for text in ([value] if isinstance(value, str) else value) for part in text.split(",")]


def _host(text: str) -> Host:
    if text.startswith("/"):
        return Host(text, None)
    match = HOST.fullmatch(text)
    if match is not None:
        ipv6, name, port = match.groups()
        number = _port(port) if port else None
        with suppress(ValueError):
            return Host(name or str(IPv6Address(ipv6)), number)
    raise InvalidURL("has a host that cannot be read; expected name, name:port or [IPv6 address]:port")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= PORT_MAX):
        raise InvalidURL(f"has a port that does not exist; expected 1 to {PORT_MAX}")
    return int(text)
