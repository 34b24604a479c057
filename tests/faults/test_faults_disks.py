"""A disk that is full."""

import pytest

from tests.faults import disks

pytestmark = pytest.mark.skipif(not disks.CAN_MOUNT, reason="only root can make a small file system")


def test_sqlite_with_a_full_disk_refuses_writes_goes_on_reading_and_recovers() -> None:
    assert disks.fill_sqlite()["batches_refused"]


def test_postgresql_with_a_full_disk_refuses_writes_goes_on_reading_and_recovers() -> None:
    assert disks.fill_postgresql()["batches_refused"]
