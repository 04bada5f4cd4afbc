"""The table engine by itself: what a column reads, which columns stay, what the notes and the legend say."""

from __future__ import annotations

from types import SimpleNamespace as Subject

from rich.cells import cell_len

from bnaudit.records.finding import Severity
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread
from bnaudit.render.text.cells import Charset
from bnaudit.render.text.table import LEFT, RIGHT, Column, Refusal, Room, Row, Table, Withheld

GONE = Skipped("not recorded")
NAME: Column[Subject] = Column("layer", "name", str, 1, align=LEFT, room=Room(6, 20))


def lines(table: Table[Subject]) -> list[str]:
    return [line.plain for line in table.lines]


def table(*columns: Column[Subject], rows: list[Row[Subject]], width: int = 60) -> Table[Subject]:
    return Table(rows, [NAME, *columns], Charset(), width)


def row(name: str = "bn", **fields: object) -> Row[Subject]:
    return Row(Subject(name=name, **fields), name)


def test_a_path_is_followed_to_the_median_or_to_the_reason() -> None:
    column: Column[Subject] = Column("x", "group.value", "{:g}".format, 2)
    assert column.read(Subject(group=Subject(value=Spread(1.5, 1, 2, 3)))) == ("1.5", False)
    assert column.read(Subject(group=Subject(value=2.0))) == ("2", False)
    assert column.read(Subject(group=Subject(value=GONE))) == (GONE, False)
    assert column.read(Subject(group=GONE)) == (GONE, True)
    assert column.read(Subject(group=Subject(value=None))) == ("–", False)


def test_what_is_missing_is_marked_and_told_once() -> None:
    x: Column[Subject] = Column("x", "group.x", str, 2, group="both", align=RIGHT)
    y: Column[Subject] = Column("y", "group.y", str, 3, group="both", align=RIGHT, about="why")
    rows = [
        row("a", group=GONE),
        row("b", group=Subject(x=1, y=GONE)),
        row("c", group=Subject(x=Withheld("doubtful"), y=NOT_REQUESTED)),
    ]
    shown = table(x, y, rows=rows)
    assert lines(shown)[3:] == ["  a      –  –", "  b      1  –", "  c      ✗  –"]
    assert [text for text, _ in shown.notes.lines()] == [
        "– both of a: not recorded",
        "– why of b: not recorded",
        "✗ x of c: doubtful",
    ]


def test_a_reason_stands_from_the_first_column_that_it_explains() -> None:
    before: Column[Subject] = Column("m", "m", str, 3)
    x: Column[Subject] = Column("x", "group.x", str, 2)
    refusal = Refusal("r" * 80, failed=True, roots=frozenset({"group"}))
    subject = Subject(name="bn", m=7, group=GONE)
    shown = table(before, x, rows=[Row(subject, "bn", Severity.ERROR, refusal)])
    assert lines(shown)[-1].startswith("E bn     7  ✗ rrr")
    assert cell_len(lines(shown)[-1]) == 60
    assert shown.notes.lines() == [("✗ bn: " + "r" * 80, "bold red")]


def test_columns_go_by_rank_and_names_take_what_is_left() -> None:
    columns: list[Column[Subject]] = [
        Column(title, "value", str, rank) for title, rank in (("a", 4), ("b", 2), ("c", 3))
    ]
    rows = [row("n" * 30, value="8" * 10)]
    for width, titles in ((60, "abc"), (46, "abc"), (43, "bc"), (30, "b"), (18, "b")):
        shown = table(*columns, rows=rows, width=width)
        assert [column.title for column in shown.columns] == ["layer", *titles]
        assert "8" * 10 in lines(shown)[-1]
        assert all(cell_len(line) <= width for line in lines(shown))


def test_a_group_makes_room_for_its_name_or_is_left_out() -> None:
    column: Column[Subject] = Column("x", "value", str, 2, group="a long name")
    rows = [row(value=1)]
    assert lines(table(column, rows=rows))[0].endswith("a long name")
    squeezed = Table(rows, [NAME, column], Charset(), 60, margin=0, widen=False)
    assert lines(squeezed) == ["layer  x", "─" * 8, "bn     1"]


def test_the_legend_is_of_the_columns_that_are_shown() -> None:
    x: Column[Subject] = Column("x", "value", str, 2, (1, 1, "; x: one"))
    y: Column[Subject] = Column("y", "value", str, 3, (1, 2, "; y: two"), from_width=100)
    z: Column[Subject] = Column(
        "z", "value", str, 4, (2, 0, ", three"), when=lambda rows, _: bool(rows)
    )
    rows = [row(value=1)]
    assert table(x, y, z, rows=rows).legend() == ["x: one", "three"]
    assert table(y, z, rows=rows, width=100).legend({1: "head", 3: "none"}) == [
        "head; y: two",
        "three",
    ]
