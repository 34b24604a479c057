"""Timestamps as PostgreSQL sends them: microseconds since 2000."""

from datetime import UTC, datetime, timedelta

from db.engines.statement import cached
from db.types import timestamp

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
INFINITY = 2**63 - 1
LAST = datetime.max.replace(tzinfo=UTC)


@cached
def timestamp_of(microseconds: tuple[int]) -> datetime:
    """Return the timestamp of microseconds, in asyncpg's form.

    In sessions asyncpg writes the last moment of the year 9999 as infinity (0.32, pgproto/codecs/datetime.pyx).
    """
    if microseconds[0] == INFINITY:
        return LAST
    return timestamp(EPOCH + timedelta(microseconds=microseconds[0]))


def microseconds_of(time: datetime) -> tuple[int]:
    """Return the microseconds of a timestamp, in asyncpg's form."""
    return ((time - EPOCH) // timedelta(microseconds=1),)
