"""A table that could not be served as it should be is refused when it is made; what is written is what will be read."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import DateTime, Double, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.tables.filters import equals, starts_with
from db.tables.table import Table
from db.types import Float64, Name, Timestamp


def event_table(*arguments: Any, **options: Any) -> Table:
    """Return a table of events, whose model has these table arguments."""

    class Base(DeclarativeBase):
        metadata = MetaData()

    class Event(Base):
        __tablename__ = "events"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(Name)
        place: Mapped[str | None] = mapped_column(Name)
        weight: Mapped[float] = mapped_column(Float64)
        starts_at: Mapped[datetime | None] = mapped_column(Timestamp)
        seen_at: Mapped[datetime] = mapped_column(DateTime)
        height: Mapped[float] = mapped_column(Double)
        code: Mapped[str] = mapped_column(String(9))
        version: Mapped[int]
        created_at: Mapped[datetime] = mapped_column(Timestamp)
        updated_at: Mapped[datetime] = mapped_column(Timestamp)

        __table_args__ = arguments

    return Table(Event, noun="event", fields=("name", "place", "weight", "starts_at"), **options)  # type: ignore[arg-type]


def indexed(name: str) -> Index:
    return Index(f"ix_{name}", name, "id")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ([indexed("place")], {"orders": ("id", "place")}, "events.place is nullable"),
        ([], {"orders": ("id", "name")}, r"events.name .* needs an index on \(name, id\)"),
        ([indexed("name")], {"filters": {"place": equals("place")}}, r"events.place .* needs an index"),
        ([], {"orders": ("id", "nam")}, "events has no column nam"),
        ([], {"filters": {"nam": equals("nam")}}, "events has no column nam"),
        ([], {"owner": "code"}, "events has no field code"),
        ([], {"write_only": ("seen_at",)}, r"events.seen_at needs the type db.types.Timestamp"),
        ([], {"write_only": ("height",)}, r"events.height needs the type db.types.Float64"),
        ([indexed("code")], {"orders": ("id", "code")}, r"events.code needs the type db.types.Name"),
        (
            [indexed("code")],
            {"filters": {"code_prefix": starts_with("code")}},
            r"events.code needs the type db.types.Name",
        ),
        ([UniqueConstraint("name", "place")], {}, r"events has a unique constraint of several columns"),
        ([Index("ux", "name", "place", unique=True)], {}, r"events has a unique constraint of several columns"),
    ],
)
def test_a_table_that_could_not_be_served_is_refused(arguments: list[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        event_table(*arguments, **options)


def test_a_table_with_its_indexes_is_not_refused() -> None:
    table = event_table(
        indexed("name"), UniqueConstraint("place"), orders=("id", "name"), filters={"place": equals("place")}
    )
    assert table.unique == ("place",)


def test_values_are_written_as_they_will_be_read() -> None:
    table = event_table()
    local = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
    name, place, weight, starts_at = table.stored_row(("x", None, -0.0, local))
    assert (name, place, f"{weight}", starts_at.tzinfo) == ("x", None, "0.0", UTC)
    assert starts_at == local
    assert table.stored_row(("x", None, 1.5, None)) == ("x", None, 1.5, None)
