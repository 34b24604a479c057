"""Which driver a machine has."""

import shutil

from bench.drivers.driver import Driver
from bench.drivers.locust import Locust
from bench.drivers.wrk import Wrk


def find_driver() -> Driver:
    """Choose wrk, or else locust, which is installed with the project."""
    program = shutil.which("wrk")
    return Wrk(program) if program else Locust()
