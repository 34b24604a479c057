"""The variables that Kubernetes sets in each container for the services of its namespace, by their names.

A service that is called itemsvc-db makes ITEMSVC_DB_SERVICE_HOST and more, which look like settings of this service
(Kubernetes' documentation of Service, "Environment variables"; all but the first two are the form of Docker's links).
"""

import re
from ipaddress import ip_address

NAME = re.compile(
    r"""[A-Z0-9_]+?_(?:
        (?P<host>SERVICE_HOST) | (?P<number>SERVICE_PORT(?:_[A-Z0-9_]+)?) | (?P<url>PORT)
        | PORT_\d+_(?P<protocol>TCP|UDP|SCTP)(?:(?P<url_of_port>)|_(?P<word>PROTO)|_(?P<port>PORT)|_(?P<address>ADDR))
    )""",
    re.VERBOSE,
)
URL = re.compile(r"(?:tcp|udp|sctp)://.+:\d+")


def is_link(name: str, value: str) -> bool:
    """Return whether a variable is one of these: by its name and its value: a setting may be mistyped like one."""
    match = NAME.fullmatch(name)
    if match is None:
        return False
    if match["host"] or match["address"]:
        return _is_address(value)
    if match["number"] or match["port"]:
        return value.isdecimal()
    return value.upper() == match["protocol"] if match["word"] else URL.fullmatch(value) is not None


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True
