"""What is asked of every contestant."""

from msgspec import Struct

BATCH_SIZE = 100


class Workload(Struct, frozen=True):
    """One kind of request, repeated.

    Each driver finds its own words for it under `script`: drivers/lua/*.lua, drivers/sql/*.sql, drivers/questions.py.
    """

    key: str
    title: str
    script: str
    items: int = 1
    """How many items each response is about."""
    changes_items: bool = False
    creates_items: bool = False
    """Whether each good response is about items that are new, all of them."""
    path: str = "/items"
    """Where it goes, for the script that asks for one and the same path."""


GET = Workload("get", "GET by id", "get")
LIST = Workload("list", "GET list of 100", "path", items=BATCH_SIZE, path=f"/items?limit={BATCH_SIZE}")
READ_BATCH = Workload("read-batch", "GET a batch of 100", "read-batch", items=BATCH_SIZE)
PUT = Workload("put", "PUT one", "put", changes_items=True)
MIXED = Workload("mixed", "mixed: 75 % GET, 10 % PUT, 5 % list, 10 % POST", "mixed", changes_items=True)
POST = Workload("post", "POST one", "post", changes_items=True, creates_items=True)
WRITE_BATCH = Workload(
    "write-batch", "POST a batch of 100", "write-batch", items=BATCH_SIZE, changes_items=True, creates_items=True
)

WORKLOADS = [GET, LIST, READ_BATCH, PUT, MIXED, POST, WRITE_BATCH]
BATCHES = frozenset({READ_BATCH.key, WRITE_BATCH.key})

# A page in the order of an index beside the key. Where the deep one begins is only known once the table is filled.
PAGE = f"/items?order=price&limit={BATCH_SIZE}"
FIRST_PAGE = Workload("first-page", "first page of 100", "path", items=BATCH_SIZE, path=PAGE)
DEEP_PAGE = Workload("deep-page", "page of 100 in the middle", "path", items=BATCH_SIZE)
GROWTH_WORKLOADS = [GET, FIRST_PAGE, DEEP_PAGE]
