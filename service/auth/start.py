"""Who may come in, which is decided and said before the service listens."""

import logging
from ipaddress import ip_address

from service.settings import Settings
from service.variables import shown

log = logging.getLogger("service")

REFUSAL = (
    "ITEMSVC_AUTH is off, and {} is not a loopback address: every client that reaches the service could read and write"
    " everything. ITEMSVC_AUTH=tokens lets callers with a token in alone, ITEMSVC_HOST=127.0.0.1 this machine alone;"
    " where something else keeps all others out, ITEMSVC_AUTH_OFF_ANYWHERE=on"
)
OFF = "authentication is off: every client that reaches the service may read and write everything"


def refusal(settings: Settings, host: str) -> str:
    """Return why the service must not listen on an address, or ""."""
    is_open = not settings.auth and not ip_address(host).is_loopback
    return REFUSAL.format(host) if is_open and not settings.auth_off_anywhere else ""


def say_who_may_come_in(settings: Settings, host: str) -> None:
    """Log who may come in: as a warning, if that is everybody."""
    if settings.auth:
        log.info("callers are authenticated", extra={"auth": shown("auth", settings.auth)})
    elif ip_address(host).is_loopback:
        log.info("authentication is off: every client on this machine may read and write everything")
    else:
        log.warning(OFF, extra={"address": host})
