"""A hasher of passwords that takes as long as a test wants, and says what it was asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from argon2 import PasswordHasher

LIMIT_S = 15


class Verifications:
    """The verifications of a service: the hashes that were compared with, and how many ran at once at most."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.running = self.running_max = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no verification end."""
        self._open.clear()
        yield
        self._open.set()

    def run(self, stored: str) -> None:
        """Note a verification, and wait until it may end."""
        with self._lock:
            self.hashes.append(stored)
            self.running += 1
            self.running_max = max(self.running_max, self.running)
        assert self._open.wait(LIMIT_S)
        with self._lock:
            self.running -= 1


def watched(monkeypatch: pytest.MonkeyPatch) -> Verifications:
    """Watch the verifications of all hashers."""
    verifications, verify = Verifications(), PasswordHasher.verify

    def run(hasher: PasswordHasher, stored: str, password: str) -> bool:
        verifications.run(stored)
        return verify(hasher, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", run)
    return verifications
