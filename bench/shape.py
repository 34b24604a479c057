"""The shape of a day for locust: users arrive, stay, and for a while there are many more of them.

Give this file beside the users: `locust -f bench/locustfile.py,bench/shape.py Mixed --users 50 --run-time 2m`, or say
`make load`. The users are those that stay; the run time is that of everything together.
"""

from typing import ClassVar, NamedTuple

from locust import LoadTestShape


class Stage(NamedTuple):
    """Until which part of the run there are how many times the users."""

    title: str
    until: float
    users_from: float
    users_to: float


STAGES = (
    Stage("ramp", until=0.25, users_from=0.0, users_to=1.0),
    Stage("hold", until=0.55, users_from=1.0, users_to=1.0),
    Stage("spike", until=0.7, users_from=4.0, users_to=4.0),
    Stage("recovery", until=1.0, users_from=1.0, users_to=1.0),
)
SECONDS, USERS = 60, 50


class RampHoldSpike(LoadTestShape):
    """Ramps up, holds, spikes, and holds again: the last stage shows whether the spike left anything behind."""

    use_common_options: ClassVar[bool] = True

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are by now, and how many may come or go in a second; None ends the run."""
        options = self.runner.environment.parsed_options if self.runner else None
        users = getattr(options, "num_users", None) or USERS
        share = self.get_run_time() / (getattr(options, "run_time", None) or SECONDS)  # type: ignore[no-untyped-call]
        begin = 0.0
        for stage in STAGES:
            if share < stage.until:
                progress = (share - begin) / (stage.until - begin)
                wanted = users * (stage.users_from + (stage.users_to - stage.users_from) * progress)
                return max(1, round(wanted)), float(max(1, users))
            begin = stage.until
        return None
