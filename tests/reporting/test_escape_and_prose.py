from __future__ import annotations

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from ckpt_doctor.reporting.escape import printable
from ckpt_doctor.reporting.prose import command_lines, joined, wrapped

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_printable_leaves_nothing_that_a_terminal_acts_upon(text: str) -> None:
    shown = printable(text)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    shown.encode("utf-8")


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_printable_leaves_ordinary_text_alone(text: str) -> None:
    assert printable(text) == text


def test_printable_names_the_bidirectional_overrides() -> None:
    for point in (*range(0x202A, 0x202F), *range(0x2066, 0x206A)):
        assert printable(chr(point)) == f"\\u{point:04x}"


@given(st.text("ab -/.", max_size=200), st.integers(min_value=5, max_value=40))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)


def test_a_word_that_fits_on_a_line_is_never_broken() -> None:
    assert wrapped("see model-00001-of-00002.bin there", 26) == ["see", "model-00001-of-00002.bin", "there"]
    assert wrapped("a longer-word-than-the-line b", 10) == ["a", "longer-wor", "d-than-the", "-line b"]


def test_colours_take_no_room() -> None:
    assert joined(["\x1b[1;31m1 error\x1b[0m", "2 notes"], ", ", 16) == ["\x1b[1;31m1 error\x1b[0m, 2 notes"]


def test_a_command_with_quotes_stays_on_one_line() -> None:
    command = "ckpt-doctor fix 'my long run/weaver' --select CKD201"
    assert command_lines("fix:", command, 30) == [f"fix: {command}"]
