"""Where the keys of tokens are: at a URL, or in a file."""

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

EXPECTED = "an https URL, an http URL of a loopback address, or the path of a file that can be read"


def location(text: str) -> SplitResult | Path:
    """Return the URL or the path that a setting names. Raise ValueError for a URL of another kind."""
    if "://" not in text:
        return Path(text)
    url = urlsplit(text)
    is_plain = url.scheme == "http" and _is_loopback(url.hostname or "")
    is_sent = text.isascii() and " " not in text and "@" not in url.netloc and not url.fragment  # as it is written
    if not (url.scheme == "https" or is_plain) or not url.hostname or url.port == 0 or not is_sent:
        raise ValueError(text)
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
