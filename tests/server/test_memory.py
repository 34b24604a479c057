"""What the processes of the service have in memory, and what they share."""

import multiprocessing
import sys

import pytest

from tests.support.serving import ServiceProcess

FORKS = sys.platform == "linux" and multiprocessing.get_start_method() == "fork"


@pytest.mark.skipif(not FORKS, reason="what is spawned shares less")
def test_workers_share_with_their_parent_what_it_has_imported(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2) as service:
        for worker in service.workers:
            memory = worker.memory_full_info()
            assert memory.uss < 0.4 * memory.rss
