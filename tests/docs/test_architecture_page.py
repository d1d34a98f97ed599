"""The page about the rooms names each of them, in an order that the imports keep, and leads to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "ckpt_doctor"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[`([^`]+)`\]\(\.\./([^)]+)\)")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its own head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_room_is_in_the_table() -> None:
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    named = [room.strip("`") for room, *_ in rows("Rooms")]
    assert sorted(named) == sorted(rooms)


def test_the_first_file_to_read_lies_in_the_room() -> None:
    for room, _, first, _ in rows("Rooms"):
        ((name, target),) = LINK.findall(first)
        assert target == f"ckpt_doctor/{room.strip('`')}/{name}"


@pytest.mark.slow
def test_no_room_imports_from_a_later_one() -> None:
    from test_architecture import FILES, imports_of, room_of

    order = [room.strip("`") for room, *_ in rows("Rooms")]
    backwards = {
        (room_of(file), name.split(".")[1])
        for file in FILES
        if room_of(file) in order
        for name in imports_of(file)
        if name.startswith("ckpt_doctor.") and name.split(".")[1] in order
        if order.index(name.split(".")[1]) > order.index(room_of(file))
    }
    assert backwards == {("settings", "reporting")}


def test_ten_questions_lead_to_files_that_exist() -> None:
    questions = rows("Where is …?")
    assert len(questions) == 10
    for question, answer in questions:
        assert LINK.search(answer), question


def test_links_bear_the_names_of_their_files() -> None:
    for name, target in LINK.findall(PAGE):
        assert (REPOSITORY / target).is_file(), target
        assert target.endswith(name), target
