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
    """Where it goes, for the script that asks for one and the same path; else the file that lists the pages' paths."""
    rows: int = 0
    """How many rows the table has, if not as many as the plan says."""
    pages: int = 0
    """Among how many pages each request has its own: as many in each of the orders."""


MILLION = 10**6

PAGE = Workload("page", "page of 100, each another one", "paths", items=BATCH_SIZE, pages=3000)
COLD_PAGE = Workload(
    "cold-page", "page of 100, anywhere in a million rows", "paths", items=BATCH_SIZE, rows=MILLION, pages=10_000
)
GET = Workload("get", "GET by id", "get")
GET_OF_MANY = Workload("get-of-many", "GET by id, a million rows", "get", rows=MILLION)
LIST = Workload(
    "list", "the same page of 100 for everyone", "path", items=BATCH_SIZE, path=f"/items?limit={BATCH_SIZE}"
)
READ_BATCH = Workload("read-batch", "GET a batch of 100", "read-batch", items=BATCH_SIZE)
PUT = Workload("put", "PUT one", "put", changes_items=True)
MIXED = Workload("mixed", "mixed: 75 % GET, 10 % PUT, 5 % pages, 10 % POST", "mixed", changes_items=True, pages=3000)
POST = Workload("post", "POST one", "post", changes_items=True, creates_items=True)
WRITE_BATCH = Workload(
    "write-batch", "POST a batch of 100", "write-batch", items=BATCH_SIZE, changes_items=True, creates_items=True
)

WORKLOADS = [PAGE, COLD_PAGE, GET, GET_OF_MANY, POST, PUT, MIXED, READ_BATCH, WRITE_BATCH, LIST]
BATCHES = frozenset({READ_BATCH.key, WRITE_BATCH.key})
PAGES = frozenset({PAGE.key, COLD_PAGE.key})
GROWTH_WORKLOADS = [GET, PAGE]
