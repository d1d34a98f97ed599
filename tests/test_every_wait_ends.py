"""No test waits for a program without a limit, or leaves one behind: what hangs once, hangs a night."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
STARTING = ("run", "call", "check_call", "check_output", "getoutput", "getstatusoutput")
WAITING = ("communicate", "wait")


def endless(source: str) -> Iterator[int]:
    """The lines in which a program is started or waited for, and nothing says for how long."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        limited = any(keyword.arg == "timeout" for keyword in node.keywords)
        module = node.func.value.id if isinstance(node.func.value, ast.Name) else None
        if module == "subprocess":
            if node.func.attr == "Popen" or (node.func.attr in STARTING and not limited):
                yield node.lineno
        elif node.func.attr in WAITING and not limited and not node.args:
            yield node.lineno


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ("subprocess.run(['true'])", False),
        ("subprocess.run(['true'], timeout=1)", True),
        ("subprocess.check_output(['true'])", False),
        ("subprocess.Popen(['true'])", False),
        ("process.wait()", False),
        ("process.wait(3)", True),
        ("process.communicate()", False),
        ("process.communicate(timeout=3)", True),
    ],
)
def test_what_has_no_end_is_seen(line: str, ends: bool) -> None:
    assert (list(endless(line)) == []) == ends


def test_every_wait_has_a_limit() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if path.name != "children.py"
        for line in endless(path.read_text(encoding="utf-8"))
    ]
    assert found == []
