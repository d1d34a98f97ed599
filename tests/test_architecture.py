"""The rooms of the package and who may import whom, read off the imports themselves."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from rooms import MAY_IMPORT

PACKAGE = Path(__file__).parents[1] / "ckpt_doctor"
# The package's own front door and `python -m` stand above all rooms.
ABOVE_ALL = {"__init__", "__main__"}
# Each file of the first room, in the order in which they may import each other.
CORE = (
    *("nothing", "version", "envelope", "wording", "dtypes", "defects", "weight_file", "entries", "layout"),
    *("architecture", "parts"),
    *("comparison", "checkpoint", "contract", "actions", "findings", "results", "difference"),
    *("errors", "coverage", "judgement", "path_ignores", "policy"),
)
NEVER = {"torch", "peft", "transformers", "safetensors", "pickle", "pickletools"}
# Models are loaded by the libraries that made them. What the processes of an inspection tell each other is made by this
# package at both ends.
EXCEPT = {
    "inspection/worker.py": {"pickle"},
    "inspection/workers.py": {"pickle"},
    "verification/apart.py": {"pickle"},
}
LIBRARIES = {"torch", "peft", "transformers", "safetensors"}
ROOMS_EXCEPT = {"verification": LIBRARIES, "integrations": LIBRARIES}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def named(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports_of(file: Path) -> set[str]:
    """Dotted names that a file imports, those of the package made absolute."""
    package = ["ckpt_doctor", *file.relative_to(PACKAGE).parent.parts]
    found: set[str] = set()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def calls_of(file: Path) -> set[str]:
    """The plain names that a file calls."""
    return {
        node.func.id
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


FILES = sorted(PACKAGE.rglob("*.py"))


def test_nobody_imports_from_a_later_room() -> None:
    later = {}
    for file in FILES:
        room = room_of(file)
        own = {name.split(".")[1] for name in imports_of(file) if name.startswith("ckpt_doctor.")}
        if room not in ABOVE_ALL and own - MAY_IMPORT[room] - {room}:
            later[named(file)] = own - MAY_IMPORT[room] - {room}
    assert not later, "may not be imported there"


def test_nothing_imports_what_could_execute_a_checkpoint() -> None:
    imported = {}
    for file in FILES:
        allowed = EXCEPT.get(named(file), set()) | ROOMS_EXCEPT.get(room_of(file), set())
        imported[named(file)] = {name.partition(".")[0] for name in imports_of(file)} & NEVER - allowed
    assert not {file: names for file, names in imported.items() if names}


def test_nobody_prints_but_the_command_line() -> None:
    assert not [named(file) for file in FILES if room_of(file) != "cli" and "print" in calls_of(file)]


def test_every_room_is_in_the_table() -> None:
    assert {room_of(file) for file in FILES} - ABOVE_ALL <= set(MAY_IMPORT)


def test_the_words_are_in_an_order() -> None:
    order = ("__init__", *CORE)
    for file in sorted((PACKAGE / "core").glob("*.py")):
        below = {name.split(".")[2] for name in imports_of(file) if name.startswith("ckpt_doctor.core.")}
        later = below - set(order[: order.index(file.stem)])
        assert not later, f"core/{file.name} may not import {sorted(later)}"


def test_no_two_files_import_each_other() -> None:
    """Not even through others, nor for annotations only: who reads one of them would have to read them all."""
    modules = {".".join(("ckpt_doctor", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in FILES}
    packages = {name.removesuffix(".__init__"): name for name in modules if name.endswith(".__init__")}

    def imported(name: str) -> set[str]:
        found = set()
        for target in imports_of(modules[name]):
            home = target if target in modules else packages.get(target, target.rpartition(".")[0])
            found.add(packages.get(home, home))
        return (found & modules.keys()) - {name}

    left = {name: imported(name) for name in modules}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle is among {sorted(left)}"


def test_no_file_is_too_long_to_read() -> None:
    generated = {"knowledge/peft_types.py"}
    lengths = {file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8").count("\n") for file in FILES}
    assert not {name: length for name, length in lengths.items() if length > 400 and name not in generated}


LAYOUTS = {"weaver", "trigger", "memgen", "peft", "transformers", "file"}


def compared_layouts(program: ast.Module) -> list[str]:
    """Where a program compares the name of a layout, or looks it up, instead of asking the layout's record."""
    found = []
    for node in ast.walk(program):
        sides: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Subscript):
            sides = [node.value, node.slice]
        elif isinstance(node, ast.Match):
            sides = [node.subject]
        asks = any(_is_layout_name(side) for side in sides)
        constants = {item.value for side in sides for item in ast.walk(side) if isinstance(item, ast.Constant)}
        lists = any(isinstance(side, ast.Name) and "LAYOUT" in side.id and side.id != "LAYOUTS" for side in sides)
        if asks and (constants & LAYOUTS or lists or isinstance(node, (ast.Subscript, ast.Match))):
            found.append(ast.unparse(node))
    return found


def _is_layout_name(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "layout" or (node.attr == "name" and _is_kind(node.value))
    return isinstance(node, ast.Name) and node.id == "layout"


def _is_kind(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "kind") or (
        isinstance(node, ast.Name) and node.id == "kind"
    )


@pytest.mark.parametrize(
    "program",
    [
        'checkpoint.layout == "peft"',
        'if item.kind.name in ("weaver", "trigger"): pass',
        'layout != "transformers"',
        "LOADERS[checkpoint.layout]",
        "match found.layout:\n    case _: pass",
    ],
)
def test_a_compared_layout_is_noticed(program: str) -> None:
    assert compared_layouts(ast.parse(program))


def test_kinds_of_checkpoints_are_asked_and_not_compared() -> None:
    compared = {named(file): compared_layouts(parsed(file)) for file in FILES if room_of(file) != "layouts"}
    assert not {file: names for file, names in compared.items() if names}


def test_one_function_makes_what_every_json_document_begins_with() -> None:
    # A contract is read as well as written.
    naming = {file.relative_to(PACKAGE).as_posix() for file in FILES if '"schema_version"' in file.read_text("utf-8")}
    assert naming == {"core/envelope.py", "contracts/reading.py"}
