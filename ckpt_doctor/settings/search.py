"""Which settings file holds: the nearest one upwards that is not part of what is inspected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ckpt_doctor.core.errors import SettingsError
from ckpt_doctor.core.wording import from_here

OWN_FILE = "ckpt-doctor.toml"
PROJECT_FILE = "pyproject.toml"
TABLE = "ckpt-doctor"
"""Our table in a project's file is ``[tool.ckpt-doctor]``."""

PREFIX = "CKPT_DOCTOR_"
"""What the names of our environment variables begin with."""
CONFIG_VARIABLE = PREFIX + "CONFIG"
"""Names the settings file, as ``--config`` does."""

_MISSPELT = "ckpt_doctor"  # what the package is called, so that people write the table so
_LIMIT = 16 << 20  # bytes


class SettingsFile(NamedTuple):
    """A file that was read. ``keys`` lead to the table in it that is ours."""

    path: Path
    document: Any
    keys: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The file as it is called from the current folder."""
        return from_here(self.path)


class Search(NamedTuple):
    """What was found, and whether that lies below a path which is to be inspected.

    ``passed_over`` are the files that lie in a checkpoint which is.
    """

    file: SettingsFile | None
    inside: bool = False
    passed_over: tuple[Path, ...] = ()


def search(start: Path, inspected: Sequence[str | os.PathLike[str]]) -> Search:
    """The nearest settings file from the folder ``start`` upwards.

    In one folder ``ckpt-doctor.toml`` comes before ``pyproject.toml``, and one of the latter without our table is
    skipped. So is what lies in one of the checkpoints that are ``inspected``: whoever made a checkpoint must not
    decide what is found in it. Raises ``SettingsError`` for a file that cannot be read.
    """
    passed_over: list[Path] = []
    for path in _candidates(start):
        if path.name == PROJECT_FILE and not _mentions_us(path):
            continue
        if inspected and _is_inspected(path.parent, inspected):
            passed_over.append(path)
            continue
        found = _parsed(path)
        if found is not None:
            return Search(found, _is_below(path.parent, inspected), tuple(passed_over))
    return Search(None, passed_over=tuple(passed_over))


def read(path: Path) -> SettingsFile:
    """The settings file that the user named. Raises ``SettingsError``."""
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such settings file")
    found = _parsed(path)
    if found is None:
        raise SettingsError(f"{path}: there is no [tool.{TABLE}] in it")
    return found


def _candidates(start: Path) -> Iterator[Path]:
    for folder in (start, *start.parents):
        for name in (OWN_FILE, PROJECT_FILE):
            if os.path.lexists(folder / name):
                yield folder / name


def _mentions_us(path: Path) -> bool:
    """True if our table may stand in a project's file: most say nothing about us, and need not be parsed."""
    data = _data(path)
    return any(name.encode() in data for name in (TABLE, _MISSPELT))


def _is_inspected(folder: Path, paths: Iterable[str | os.PathLike[str]]) -> bool:
    from ckpt_doctor.layouts.membership import is_part_of_inspected

    return is_part_of_inspected(folder, paths)


def _is_below(folder: Path, paths: Iterable[str | os.PathLike[str]]) -> bool:
    here = Path(os.path.realpath(folder))
    asked = [Path(os.path.realpath(path)) for path in paths]
    return any(path == here or path in here.parents for path in asked)


def _data(path: Path) -> bytes:
    from ckpt_doctor.sources.local_file import FileSource

    try:
        with FileSource(path) as source:
            if source.size > _LIMIT:
                raise SettingsError(f"{from_here(path)}: this is too large to be a settings file")
            return source.read_at(0, source.size)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"{from_here(path)}: cannot be read: {reason}; --no-config goes without it") from error


def _parsed(path: Path) -> SettingsFile | None:
    """The file with our table; ``None`` for the file of a project that has none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: Any = tomllib.loads(_data(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SettingsError(f"{from_here(path)}: this is not TOML: {reason}; --no-config goes without it") from error
    if path.name != PROJECT_FILE:
        return SettingsFile(path, document)
    tools = document.get("tool")
    if not isinstance(tools, dict):
        return None
    if _MISSPELT in tools:
        raise SettingsError(f"{from_here(path)}: there is no tool.{_MISSPELT}; did you mean tool.{TABLE}?")
    return SettingsFile(path, tools[TABLE], ("tool", TABLE)) if TABLE in tools else None
