"""The rooms of the package: what lives in each, what to read first, and which other rooms it may import from.

``tests/test_architecture.py`` holds every import against this table, and ``generate_docs.py`` writes it into
``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Room(NamedTuple):
    """A folder of ``ckpt_doctor/``. ``imports`` are the rooms that it may import from."""

    name: str
    what: str
    first: str
    imports: frozenset[str]


FLOORS = ("core", "knowledge", "runtime", "sources", "formats", "layouts", "analysis", "scanning", "rules")
"""The rooms below the commands: each may import from all before it."""
_BELOW = frozenset(FLOORS)


def _floor(name: str, what: str, first: str) -> Room:
    return Room(name, what, first, frozenset(FLOORS[: FLOORS.index(name)]))


def _above(name: str, what: str, first: str, *more: str) -> Room:
    return Room(name, what, first, _BELOW | set(more))


ROOMS = (
    _floor("core", "the values that all other rooms pass around; no input and no output", "checkpoint.py"),
    _floor(
        "knowledge", "facts about other libraries, as data: PEFT's types, pickle names, tensor names", "weight_names.py"
    ),
    _floor("runtime", "the machine: processes, cores, threads, file states", "processes.py"),
    _floor("sources", "where bytes come from, behind one protocol", "local_file.py"),
    _floor(
        "formats",
        "bytes to a `WeightFile`: one reader for each format, headers only, nothing executed",
        "recognise.py",
    ),
    _floor(
        "layouts", "a folder to a `Checkpoint`: which files belong together, and what each must hold", "registry.py"
    ),
    _floor(
        "analysis", "questions to values that several rooms ask: aliases, shards, the list of tensors", "sharding.py"
    ),
    _floor("scanning", "tensor bytes to statistics and digests, in bounded memory: what `--deep` adds", "run.py"),
    # Rules see values, never files.
    Room(
        "rules",
        "one file for each rule; `_kit/` holds what rules share",
        "_kit/rule.py",
        frozenset(("core", "knowledge", "analysis")),
    ),
    # Of the reports only the names of their formats.
    _above("settings", "the settings file and the environment to a `Policy`", "loading.py", "reporting"),
    _above("inspection", "paths and a policy to a `Report`, in one process or several", "run.py"),
    _above("conversion", "from one weight format to the other", "run.py", "inspection"),
    _above("repair", "the fixes of rules, applied as one transaction", "run.py", "inspection", "conversion"),
    _above("contracts", "what a good checkpoint holds, and how two checkpoints differ", "locking.py", "inspection"),
    _above("verification", "a real load into a model, and which tensors arrived", "run.py", "inspection", "conversion"),
    Room(
        "integrations",
        "a callback for `transformers.Trainer`, a helper for tests",
        "testing.py",
        frozenset(("core", "runtime", "rules", "inspection", "verification")),
    ),
    _above("gate", "the newest checkpoint of a tree, a verdict, and only then the command", "run.py", "inspection"),
    Room(
        "reporting",
        "what was judged to text: one file for each format",
        "reporter.py",
        frozenset(("core", "analysis")),
    ),
    _above(
        "cli",
        "options in, text out, exit codes",
        "root.py",
        *("inspection", "conversion", "repair", "verification", "contracts", "gate", "reporting", "settings"),
    ),
)
"""In an order in which nobody imports from a later room, except ``settings``, which reads the names of reports."""

MAY_IMPORT = {room.name: room.imports for room in ROOMS}


def table() -> Iterator[str]:
    """The rooms as Markdown."""
    yield "| room | what lives there | read first | may import |"
    yield "|---|---|---|---|"
    for number, room in enumerate(ROOMS):
        link = f"[`{room.first}`](../ckpt_doctor/{room.name}/{room.first})"
        yield f"| `{room.name}` | {room.what} | {link} | {_imports(room, number)} |"


def _imports(room: Room, number: int) -> str:
    if not room.imports:
        return "nothing"
    if room.imports == {other.name for other in ROOMS[:number]} and len(room.imports) > 1:
        return "all above"
    whole = room.imports >= _BELOW
    named = [other.name for other in ROOMS if other.name in room.imports and not (whole and other.name in _BELOW)]
    return ", ".join([*(["`core` to `rules`"] if whole else []), *(f"`{name}`" for name in named)])
