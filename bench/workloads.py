"""What is asked of every contestant."""

from msgspec import Struct


class Workload(Struct, frozen=True):
    """One kind of request, repeated; `script` is its file under bench/wrk."""

    key: str
    title: str
    script: str
    adds_rows: bool = False


# POST comes last, so that the rows it adds are no part of the other figures.
WORKLOADS = [
    Workload("get", "GET by id", "get.lua"),
    Workload("list", "GET list of 100", "list.lua"),
    Workload("post", "POST one", "post.lua", adds_rows=True),
]
