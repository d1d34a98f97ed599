"""A checkpoint that was recognised, read part by part as the record of its kind says: the same for all kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.layout import Layout, LayoutPart, LayoutSize
from ckpt_doctor.core.parts import Adapter, ConfigFile, Part
from ckpt_doctor.core.wording import listed

from .adapters import adapter_part, adapters_below, hidden_sizes, holds_adapter
from .disk import Disk
from .found import Found
from .model_files import model_parts
from .reading import CheckpointReader, join
from .recogniser import may_hold_adapter, place_of
from .registry import hooks_of

_LARGEST = 1 << 63  # no dimension is larger, and Python refuses to print a number of thousands of digits


def compose(found: Found, disk: Disk) -> Checkpoint:
    """The checkpoint that was found in a folder, with everything of it that is there."""
    kind = found.kind
    reader = CheckpointReader(found.root, found.path, disk)
    parts: list[Part] = []
    sizes: list[KnownSize] = []
    for item in _ordered(kind):
        of_it = _parts(reader, item, found.place)
        parts += of_it
        if item.hidden_size is not None:
            sizes += (size for part in of_it[:1] for size in hidden_sizes(part, item.hidden_size))
    parts = list(_without_repetition(parts))
    config = reader.config(kind.config) if kind.config else None
    for path in dict.fromkeys(size.path for size in kind.sizes):
        stated = [size for size in kind.sizes if size.path == path]
        document = config if path == kind.config else reader.config(path)
        if path != kind.config:
            parts += _document(document, path, stated, parts)
        # A length that no tensor can have still contradicts those that are there. A document that must state one and
        # states such a length does not state it.
        sizes += _stated_sizes(document, path, stated, least=-_LARGEST if path == kind.config else 0)
    title = found.variant or kind.title or kind.name
    folders = ["", *found.claimed]
    checkpoint = reader.checkpoint(kind, title, parts, folders, config=config, known_sizes=tuple(sizes))
    finished = hooks_of(kind).finished
    checkpoint = checkpoint if finished is None else finished(checkpoint)
    return _note_nesting(checkpoint) if found.nested else checkpoint


def _ordered(kind: Layout) -> Sequence[LayoutPart]:
    return kind.parts if kind.in_order else sorted(kind.parts, key=lambda item: item.beside)


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


def _note_nesting(checkpoint: Checkpoint) -> Checkpoint:
    """Tell a lone adapter below the folder that was asked for that a loader would look in that folder."""
    parts = tuple(
        part._replace(adapter=(part.adapter or Adapter())._replace(nested_from=".."))
        if part.role == "adapter"
        else part
        for part in checkpoint.parts
    )
    return checkpoint._replace(parts=parts)


def _parts(reader: CheckpointReader, item: LayoutPart, place: str | None) -> list[Part]:
    """The part of the record, with what of it is there, and after it the adapters that merely lie beside it.

    ``place`` is where the adapter is, if its sign decided. The list is empty if the part is absent and may be.
    """
    if item.role != "adapter" or place is None:
        place = place_of(item, reader.folder())
        looked_at = item.paths if place is None else item.paths[: item.paths.index(place) + 1]
    else:
        looked_at = (place,)
    unlisted = _unlisted(reader, item, looked_at)
    if unlisted is not None:
        return [unlisted]
    if place is None and not item.required:
        return []
    found = _of_its_form(reader, item, place)
    return [part._replace(entries=item.entries, complete_entries=item.complete) for part in found[:1]] + found[1:]


def _unlisted(reader: CheckpointReader, item: LayoutPart, paths: Iterable[str]) -> Part | None:
    """What stands for the part if one of its folders cannot be listed: then it cannot be called absent."""
    for path in paths:
        directory = item.folder_of(path)
        folder = reader.folder(directory)
        if reader.disk.has_folder(folder.path) and folder.listing_error() is not None:
            files = (folder.as_unreadable_file(directory or "."),)
            return Part(_name_of(item), item.role, directory, files=files)
    return None


def _of_its_form(reader: CheckpointReader, item: LayoutPart, place: str | None) -> list[Part]:
    if item.role == "adapter":
        return _adapters(reader, item, item.paths[0] if place is None else place)
    if item.form == "folder" and place is not None:
        models = [part._replace(name=part.name.replace("model", item.name, 1)) for part in model_parts(reader, place)]
        if models or not item.required:
            return models
    return _absent_model(reader, item) if item.form == "folder" else _files(reader, item, place)


def _adapters(reader: CheckpointReader, item: LayoutPart, place: str) -> list[Part]:
    if place or place in item.gathers:
        return adapters_below(reader, place, item.name, nesting_is_usual=item.nested)
    # Other adapters below the checkpoint itself are checkpoints of their own, such as those of a Trainer.
    nested = bool(item.name) and may_hold_adapter(reader.folder(item.name))
    nested = nested and (item.nested or not holds_adapter(reader.folder()))
    usual = item.nested or not nested
    directory = item.name if nested else ""
    return [adapter_part(reader, directory, _name_of(item), nested_from=None if usual else "")]


def _name_of(item: LayoutPart) -> str:
    return f"{item.name} adapter".strip() if item.role == "adapter" else item.name


def _absent_model(reader: CheckpointReader, item: LayoutPart) -> list[Part]:
    """A model whose folder holds no weights."""
    directory = item.paths[0]
    expected = tuple(join(directory, name) for name in ("model.safetensors", "pytorch_model.bin"))
    config = reader.config(join(directory, "config.json"))
    return [Part(item.name, item.role, config=config, expected_files=expected)]


def _files(reader: CheckpointReader, item: LayoutPart, place: str | None) -> list[Part]:
    """A part whose files are named one by one; without files where it is absent."""
    if item.form == "document" and place is not None:
        file = reader.disk.weights(reader.root / place, place)
        # That it is there is all that is asked for; a link that leads nowhere is not.
        return [Part(item.name, item.role, files=(file,))] if file.has_defect(DefectKind.UNREADABLE) else []
    present = [path for path in item.paths if item.form == "file" and reader.disk.has_file(reader.root / path)]
    return [
        Part(item.name, item.role, files=reader.weights(present), active=tuple(present[:1]), expected_files=item.paths)
    ]


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
