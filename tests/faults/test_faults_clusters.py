"""A switchover of a Patroni cluster loses nothing acknowledged: the short form of tests/faults/clusters.py."""

import pytest

from tests.faults.clusters import switch_over_often
from tests.faults.failovers import WRITES
from tests.faults.patroni import INSTALL, MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason=INSTALL)


def test_in_a_switchover_of_a_cluster_nothing_is_lost_that_was_acknowledged() -> None:
    figures = switch_over_often(times=1, ways=["hosts"])["hosts"]
    assert figures["leaders_changed"] == 1
    assert figures["acknowledged"] > WRITES
