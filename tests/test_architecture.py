"""The rooms of the package and who may import whom, read off the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ckpt_doctor"
# Every room, and those that it may import from: nobody imports from a room that stands further down.
FLOORS = ("core", "knowledge", "runtime", "sources", "formats", "layouts", "analysis", "scanning", "rules")
BELOW = frozenset(FLOORS)
MAY_IMPORT = {
    **{room: frozenset(FLOORS[:number]) for number, room in enumerate(FLOORS)},
    # Of the reports only the names of their formats.
    "settings": BELOW | {"reporting"},
    "inspection": BELOW,
    "conversion": BELOW | {"inspection"},
    "repair": BELOW | {"inspection", "conversion"},
    "contracts": BELOW | {"inspection"},
    "reporting": frozenset(("core", "analysis")),
    "verification": BELOW | {"inspection", "conversion"},
    "integrations": frozenset(("core", "rules", "inspection", "verification")),
    "gate": BELOW | {"inspection"},
    "cli": BELOW | {"inspection", "conversion", "repair", "verification", "contracts", "gate", "reporting", "settings"},
}
# The package's own front door and `python -m` stand above all rooms.
ABOVE_ALL = {"__init__", "__main__"}
NEVER = {"torch", "peft", "transformers", "safetensors", "pickle", "pickletools"}
# Torch's own format is written by torch, and models are loaded by the libraries that made them. What the processes of
# an inspection tell each other is made by this package at both ends.
EXCEPT = {
    "conversion/to_bin.py": {"torch"},
    "inspection/worker.py": {"pickle"},
    "inspection/workers.py": {"pickle"},
    "verification/apart.py": {"pickle"},
}
LIBRARIES = {"torch", "peft", "transformers", "safetensors"}
ROOMS_EXCEPT = {"verification": LIBRARIES, "integrations": LIBRARIES}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> set[str]:
    """Dotted names that a file imports, those of the package made absolute."""
    package = ["ckpt_doctor", *file.relative_to(PACKAGE).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nobody_imports_from_a_later_room(file: Path) -> None:
    room = room_of(file)
    if room in ABOVE_ALL:
        return
    allowed = MAY_IMPORT[room] | {room}
    own = {name.split(".")[1] for name in imports_of(file) if name.startswith("ckpt_doctor.")}
    assert own <= allowed, f"{room} may not import {sorted(own - allowed)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_imports_what_could_execute_a_checkpoint(file: Path) -> None:
    allowed = EXCEPT.get(file.relative_to(PACKAGE).as_posix(), set()) | ROOMS_EXCEPT.get(room_of(file), set())
    assert not {name.partition(".")[0] for name in imports_of(file)} & NEVER - allowed


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nobody_prints_but_the_command_line(file: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert room_of(file) == "cli" or "print" not in calls


def test_every_room_is_in_the_table() -> None:
    assert {room_of(file) for file in FILES} - ABOVE_ALL <= set(MAY_IMPORT)


def test_one_function_makes_what_every_json_document_begins_with() -> None:
    # A contract is read as well as written.
    naming = {file.relative_to(PACKAGE).as_posix() for file in FILES if '"schema_version"' in file.read_text("utf-8")}
    assert naming == {"core/envelope.py", "contracts/reading.py"}
