"""Parts of a checkpoint that are named file by file: side files, documents, and the sizes that these state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.layout import Layout, LayoutPart, LayoutSize
from ckpt_doctor.core.parts import ConfigFile, Part
from ckpt_doctor.core.wording import listed

from .contents import Contents
from .names import join

_LARGEST = 1 << 63  # no dimension is larger, and Python refuses to print a number of thousands of digits


def side_file(contents: Contents, item: LayoutPart, place: str | None) -> Iterator[Part]:
    """A part whose files are named one by one; without files where it is absent."""
    if item.form == "document" and place is not None:
        file = contents.disk.weights(contents.root / place, place)
        # That it is there is all that is asked for; a link that leads nowhere is not.
        if file.has_defect(DefectKind.UNREADABLE):
            yield Part(item.name, item.role, files=(file,))
        return
    present = [path for path in item.paths if item.form == "file" and _is_there(contents, path)]
    files = tuple(contents.weights[path] for path in present)
    yield Part(item.name, item.role, files=files, active=tuple(present[:1]), expected_files=item.paths)


def absent_model(contents: Contents, item: LayoutPart) -> Part:
    """A model whose folder holds no weights."""
    directory = item.paths[0]
    expected = tuple(join(directory, name) for name in ("model.safetensors", "pytorch_model.bin"))
    config = config_at(contents, join(directory, "config.json"))
    return Part(item.name, item.role, config=config, expected_files=expected)


def config_at(contents: Contents, path: str) -> ConfigFile | None:
    """The JSON object at this path, or ``None`` if there is no such file."""
    return contents.disk.config(contents.root / path, path) if _is_there(contents, path) else None


def _is_there(contents: Contents, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name in contents.folders[folder].files


def documents(
    contents: Contents, kind: Layout, config: ConfigFile | None, parts: Sequence[Part]
) -> tuple[list[Part], list[KnownSize]]:
    """The JSON files in which ``kind.sizes`` stand, as parts, and the sizes; ``config`` is that of the kind."""
    more: list[Part] = []
    sizes: list[KnownSize] = []
    for path in dict.fromkeys(size.path for size in kind.sizes):
        stated = [size for size in kind.sizes if size.path == path]
        document = config if path == kind.config else config_at(contents, path)
        if path != kind.config:
            more += _document(document, path, stated, (*parts, *more))
        # A length that no tensor can have still contradicts those that are there. A document that must state one and
        # states such a length does not state it.
        sizes += _stated_sizes(document, path, stated, least=-_LARGEST if path == kind.config else 0)
    return more, sizes


def _document(
    config: ConfigFile | None, path: str, sizes: Sequence[LayoutSize], parts: Iterable[Part]
) -> Iterator[Part]:
    """The JSON file that ``sizes`` stand in: where it does not tell them, the shapes cannot be judged."""
    if config is None:
        if all(path not in part.expected_files for part in parts):
            yield Part(path, "config", expected_files=(path,))
        return
    if config.data is not None:
        absent = [".".join(size.keys) for size in sizes if _number(config.data, size.keys) is None]
        if absent:
            config = config._replace(data=None, error=f"it has no whole number at {listed(absent)}")
    yield Part(path, "config", config=config, required=False)


def _stated_sizes(
    config: ConfigFile | None, path: str, sizes: Iterable[LayoutSize], *, least: int
) -> Iterator[KnownSize]:
    for size in sizes:
        number = _number(config.data, size.keys, least) if config is not None and config.data is not None else None
        if number is not None:
            yield KnownSize(size.dim, number, f"{'.'.join(size.keys)} in {path}")


def _number(data: Mapping[str, Any], keys: Iterable[str], least: int = 0) -> int | None:
    value: Any = data
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value < _LARGEST else None
