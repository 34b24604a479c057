"""The limits on waiting work, by which requests are refused before anything is done for them."""

from enum import StrEnum


class Limit(StrEnum):
    """What may be reached: the bounds of queues, pools and callers."""

    REQUESTS = "requests_max"
    QUEUE_LENGTH = "queue_length"
    QUEUE_WAIT = "queue_wait"
    POOL_WAIT = "pool_wait"
    CALLER = "caller"  # of a caller's own requests, by settings
    CALLER_SHARE = "caller_share"  # of a caller where there are too many requests
    IDEMPOTENCY_KEYS = "idempotency_keys"
    OTHER = "other"
