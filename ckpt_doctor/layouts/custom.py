"""A team's own kind of checkpoint, as its settings define it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.layout import Layout, LayoutPart, LayoutSize
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.wording import listed

from .adapters import adapter_part, adapters_below, hidden_sizes, holds_adapter
from .folder import Folder
from .match import Match
from .model_files import holds_model, model_parts
from .names import state_folders
from .reading import CheckpointReader, join

_LARGEST = 1 << 63  # no dimension is larger, and Python refuses to print a number of thousands of digits


def match(definition: Layout, folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise a checkpoint by what its definition says, even where one of its files is absent.

    ``forced`` takes the user's word for it.
    """
    if not forced and not _is_recognised(definition, folder):
        return None
    claimed = tuple(dict.fromkeys(_claimed(definition, folder)))
    return Match(definition, folder.path, claimed, partial(_build, definition, claimed))


def _build(definition: Layout, claimed: tuple[str, ...], reader: CheckpointReader) -> Checkpoint:
    parts: list[Part] = []
    sizes: list[KnownSize] = []
    # What is loaded by itself comes first, as in every layout.
    for item in sorted(definition.parts, key=lambda item: item.beside):
        found = _parts(reader, item)
        parts += found
        if item.hidden_size is not None:
            sizes += (size for part in found[:1] for size in hidden_sizes(part, item.hidden_size))
    parts = list(_without_repetition(parts))
    for path in dict.fromkeys(size.path for size in definition.sizes):
        stated = [size for size in definition.sizes if size.path == path]
        parts += _document(reader, path, stated, parts)
        sizes += _stated_sizes(reader, path, stated)
    title = definition.title or definition.name
    return reader.checkpoint(definition, title, parts, ["", *claimed], known_sizes=tuple(sizes))


def _without_repetition(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, each adapter once: what lies beside one may be asked for itself, or lie beside another as well."""
    parts = list(parts)
    seen = {part.directory for part in parts if part.role == "adapter" and not part.secondary}
    for part in parts:
        if not part.secondary:
            yield part
        elif part.directory not in seen:
            seen.add(part.directory)
            yield part


def _is_recognised(definition: Layout, folder: Folder) -> bool:
    if any(folder.has_file(path) or folder.has_folder(path) for path in definition.markers):
        return True
    if definition.folder is None or not fnmatchcase(folder.name, definition.folder):
        return False
    return any(_place(folder, item) is not None for item in definition.parts)


def _claimed(definition: Layout, top: Folder) -> Iterator[str]:
    """The folders that the files of the layout lie in, and those in which PEFT nests an adapter."""
    for item in definition.parts:
        for path in item.paths:
            folder = item.folder_of(path)
            yield from _with_parents(folder)
            if item.role == "adapter" and folder:
                yield from (join(folder, name) for name in top.child(folder).folders)
            elif item.role == "adapter" and _holds(top.child(item.name)):
                yield item.name
    for size in definition.sizes:
        yield from _with_parents(posixpath.dirname(size.path))
    yield from state_folders(top.folders)


def _with_parents(folder: str) -> Iterator[str]:
    words = folder.split("/") if folder else []
    return ("/".join(words[:depth]) for depth in range(1, len(words) + 1))


def _parts(reader: CheckpointReader, item: LayoutPart) -> list[Part]:
    """The part that is defined, with what of it is there, and after it the adapters that merely lie beside it.

    Nothing where it is absent and may be.
    """
    place = _place(reader.folder(), item)
    for path in item.paths if place is None else item.paths[: item.paths.index(place) + 1]:
        directory = item.folder_of(path)
        folder = reader.folder(directory)
        if reader.disk.has_folder(folder.path) and folder.listing_error() is not None:
            # Nothing may be called absent where nobody could look.
            return [Part(item.name, item.role, directory, files=(folder.as_unreadable_file(directory or "."),))]
    if place is None and not item.required:
        return []
    if item.role == "adapter":
        found = _adapters(reader, item, item.paths[0] if place is None else place)
    elif item.form == "folder" and place is not None:
        found = [part._replace(name=part.name.replace("model", item.name, 1)) for part in model_parts(reader, place)]
    else:
        found = _files(reader, item, place)
    return [part._replace(entries=item.entries, complete_entries=item.complete) for part in found[:1]] + found[1:]


def _adapters(reader: CheckpointReader, item: LayoutPart, place: str) -> list[Part]:
    if place:
        return adapters_below(reader, place, item.name, nesting_is_usual=item.nested)
    # Other adapters below the checkpoint itself are checkpoints of their own, such as those of a Trainer.
    nested = _holds(reader.folder(item.name)) and (item.nested or not holds_adapter(reader.folder()))
    usual = item.nested or not nested
    directory = item.name if nested else ""
    return [adapter_part(reader, directory, f"{item.name} adapter", nested_from=None if usual else "")]


def _files(reader: CheckpointReader, item: LayoutPart, place: str | None) -> list[Part]:
    """A part whose files are named one by one; without files where it is absent."""
    if item.form == "document" and place is not None:
        file = reader.disk.weights(reader.root / place, place)
        # That it is there is all that is asked for; a link that leads nowhere is not.
        return [Part(item.name, item.role, files=(file,))] if file.has_defect(DefectKind.UNREADABLE) else []
    present = [path for path in item.paths if item.form == "file" and reader.disk.has_file(reader.root / path)]
    usual = ("model.safetensors", "pytorch_model.bin")
    expected = [join(item.paths[0], name) for name in usual] if item.form == "folder" else item.paths
    files = reader.weights(present)
    return [Part(item.name, item.role, files=files, active=tuple(present[:1]), expected_files=tuple(expected))]


def _place(top: Folder, item: LayoutPart) -> str | None:
    """The first of the part's places where something of it lies."""
    for path in item.paths:
        if item.role == "adapter":
            folder = _below(top, path)
            nested = map(folder.child, folder.folders if path else [item.name])
            there = holds_adapter(folder) or any(map(_holds, nested))
        elif item.form == "folder":
            there = holds_model(_below(top, path))
        else:
            there = top.has_file(path)
        if there:
            return path
    return None


def _below(top: Folder, path: str) -> Folder:
    return top.child(path) if path else top


def _holds(folder: Folder) -> bool:
    """Whether an adapter lies in this folder, or may: nobody can look into it."""
    return holds_adapter(folder) or (folder.disk.has_folder(folder.path) and folder.listing_error() is not None)


def _document(
    reader: CheckpointReader, path: str, sizes: Sequence[LayoutSize], parts: Iterable[Part]
) -> Iterator[Part]:
    """The JSON file that ``sizes`` stand in: where it does not tell them, the shapes cannot be judged."""
    config = reader.config(path)
    if config is None:
        if all(path not in part.expected_files for part in parts):
            yield Part(path, "config", expected_files=(path,))
        return
    if config.data is not None:
        absent = [".".join(size.keys) for size in sizes if _number(config.data, size.keys) is None]
        if absent:
            config = config._replace(data=None, error=f"it has no whole number at {listed(absent)}")
    yield Part(path, "config", config=config, required=False)


def _stated_sizes(reader: CheckpointReader, path: str, sizes: Iterable[LayoutSize]) -> Iterator[KnownSize]:
    config = reader.config(path)
    for size in sizes:
        number = _number(config.data, size.keys) if config is not None and config.data is not None else None
        if number is not None:
            yield KnownSize(size.dim, number, f"{'.'.join(size.keys)} in {path}")


def _number(data: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    value: Any = data
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None
