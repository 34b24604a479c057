"""The user and the password in DATABASE_URL_FILE, which are read anew when the database refuses those of before."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from db.engines.connector import Credentials
from service.database_url import normalized
from service.dotenv_file import read_text, reason

VARIABLE = "DATABASE_URL_FILE"


def read_credentials(path: str, database_url: str) -> Credentials:
    """Return the user and the password in the file; all else of its URL has to be as before.

    Raises ValueError, whose text says why there are none, and shows no secret.
    """
    try:
        text = read_text(Path(path)).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{VARIABLE} cannot be read: {reason(error)}") from None
    try:
        url = make_url(normalized(text))
    except (ValueError, ArgumentError):
        raise ValueError(f"what {VARIABLE} has by now is no URL that can be used") from None
    if _without_credentials(url) != _without_credentials(make_url(database_url)):
        raise ValueError(f"{VARIABLE} has another database's URL by now: it is used when the service is started again")
    return Credentials(url.username, None if url.password is None else str(url.password))


def _without_credentials(url: URL) -> URL:
    return url._replace(username=None, password=None)
