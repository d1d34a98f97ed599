"""A checkpoint of what lies in its folders, part by part as the record of its kind says: the same for all kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.layout import LayoutPart
from ckpt_doctor.core.parts import Adapter, Part

from .adapters import adapter_part, adapters_below, hidden_sizes, holds_adapter, may_hold_adapter
from .contents import Contents
from .found import Found
from .leftovers import with_leftovers
from .model_files import model_parts
from .registry import hooks_of
from .side_files import absent_model, config_at, documents, side_file
from .unfinished import signs


def compose(found: Found, contents: Contents) -> Checkpoint:
    """The checkpoint that was found in a folder, with everything of it that is there."""
    kind = found.kind
    parts: list[Part] = []
    sizes: list[KnownSize] = []
    for item, place in _ordered(found):
        of_it = _parts(contents, item, place)
        parts += of_it
        if item.hidden_size is not None:
            sizes += (size for part in of_it[:1] for size in hidden_sizes(part, item.hidden_size))
    parts = list(_without_repetition(parts))
    config = config_at(contents, kind.config) if kind.config else None
    more, stated = documents(contents, kind, config, parts)
    checkpoint = Checkpoint(
        *(found.root, found.path, kind, found.variant or kind.title or kind.name, (*parts, *more)),
        config=config,
        known_sizes=(*sizes, *stated),
    )
    checkpoint = with_leftovers(checkpoint, contents)._replace(unfinished=signs(found.root, contents.disk))
    finished = hooks_of(kind).finished
    checkpoint = checkpoint if finished is None else finished(checkpoint)
    return _note_nesting(checkpoint) if found.nested else checkpoint


def _ordered(found: Found) -> Sequence[tuple[LayoutPart, str | None]]:
    """The parts of the record, in the order of reports, each with its place."""
    parts = found.kind.parts
    pairs = list(zip(parts, found.places or (None,) * len(parts), strict=True))
    return pairs if found.kind.in_order else sorted(pairs, key=lambda pair: pair[0].beside)


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


def _parts(contents: Contents, item: LayoutPart, place: str | None) -> list[Part]:
    """The part of the record, with what of it is there, and after it the adapters that is only next to it.

    ``place`` is where it lies. The list is empty if the part is absent and may be.
    """
    unlisted = _unlisted(contents, item, place)
    if unlisted is not None:
        return [unlisted]
    if place is None and not item.required:
        return []
    found = _of_its_form(contents, item, place)
    return [part._replace(entries=item.entries, complete_entries=item.complete) for part in found[:1]] + found[1:]


def _unlisted(contents: Contents, item: LayoutPart, place: str | None) -> Part | None:
    """What means the part if a folder where it may lie cannot be listed: then it cannot be called absent."""
    paths = item.paths if place is None else item.paths[: item.paths.index(place) + 1]
    for directory in map(item.folder_of, paths):
        folder = contents.folders[directory]
        if folder.error is not None and contents.disk.has_folder(folder.path):
            files = (folder.as_unreadable_file(directory or "."),)
            return Part(_name_of(item), item.role, directory, files=files)
    return None


def _of_its_form(contents: Contents, item: LayoutPart, place: str | None) -> list[Part]:
    if item.role == "adapter":
        return _adapters(contents, item, item.paths[0] if place is None else place)
    if item.form == "folder" and place is not None:
        models = [part._replace(name=part.name.replace("model", item.name, 1)) for part in model_parts(contents, place)]
        if models or not item.required:
            return models
    return [absent_model(contents, item)] if item.form == "folder" else list(side_file(contents, item, place))


def _adapters(contents: Contents, item: LayoutPart, place: str) -> list[Part]:
    if place or place in item.gathers:
        return adapters_below(contents, place, item.name, nesting_is_usual=item.nested)
    # Other adapters below the checkpoint itself are checkpoints of their own, such as those of a Trainer.
    own = contents.folders[""]
    nested = item.name in own.folders and may_hold_adapter(contents.folders[item.name])
    nested = nested and (item.nested or not holds_adapter(own))
    usual = item.nested or not nested
    directory = item.name if nested else ""
    return [adapter_part(contents, directory, _name_of(item), nested_from=None if usual else "")]


def _name_of(item: LayoutPart) -> str:
    return f"{item.name} adapter".strip() if item.role == "adapter" else item.name
