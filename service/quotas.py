"""Quotas: a number for every caller, or by role and by user."""

import re
from collections.abc import Mapping
from typing import Self

from msgspec import Struct

ROLES = ("reader", "writer", "admin")
QUOTA_MAX = 10**6
PARTS_MAX = 1000
EXPECTED = f"0 to {QUOTA_MAX}, by role or user's id with commas if need be, such as 100,admin=0,17=1000"
PART = re.compile(r"(?:([a-z]+|[1-9][0-9]{0,18})=)?([0-9]{1,7})", re.ASCII)


class InvalidQuotas(ValueError):
    """A text is no quotas; why, without any of the text."""


class Quotas(Struct, frozen=True):
    """How much callers may have: a user's own number, else that of the role, else that of all others. 0: no limit."""

    others: int = 0
    by_name: Mapping[str, int] = {}

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the quotas in a text such as `100,admin=0,17=1000`. Raise InvalidQuotas."""
        numbers: dict[str, int] = {}
        parts = text.split(",")
        if len(parts) > PARTS_MAX:
            raise InvalidQuotas(f"it has more than {PARTS_MAX} parts")
        for place, part in enumerate(parts, 1):
            which = f"part {place}" if len(parts) > 1 else "it"
            found = PART.fullmatch(part.strip())
            if found is None or int(found[2]) > QUOTA_MAX:
                raise InvalidQuotas(f"{which} is neither a number nor a name, = and a number, up to {QUOTA_MAX}")
            name = found[1] or ""
            if name.isalpha() and name not in ROLES:
                raise InvalidQuotas(f"{which} has a name that is no role ({', '.join(ROLES)}) and no user's id")
            if name in numbers:
                raise InvalidQuotas(f"{which} is for those whom a part before is for")
            numbers[name] = int(found[2])
        return cls(numbers.pop("", 0), numbers)

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return self.others > 0 or any(self.by_name.values())

    def __str__(self) -> str:
        """Return the text that these are read from."""
        named = [f"{name}={number}" for name, number in self.by_name.items()]
        return ",".join([*([str(self.others)] if self.others or not named else []), *named])

    def of(self, user_id: int, role: str) -> int:
        """Return a caller's own number; 0: no limit."""
        by_name = self.by_name
        return by_name.get(str(user_id), by_name.get(role, self.others)) if by_name else self.others


NO_QUOTAS = Quotas()
