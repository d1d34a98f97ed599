"""Upstream MemGen: ``projs.bin``, ``weaver.bin`` and ``trigger.bin`` beside two nested adapters, or one whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.entries import Entry
from ckpt_doctor.core.parts import Part

from .adapters import adapters_below, holds_adapter
from .folder import Folder
from .match import Match
from .memgen_parts import LATENT_NORMS, LATENTS, PROJECTIONS, TRIGGER_HEAD, known_sizes, side_part
from .model_files import holds_model
from .reading import CheckpointReader, join
from .registry import MEMGEN

_SIDE_FILES = ("projs.bin", "weaver.bin", "trigger.bin")
_ADAPTERS = ("weaver", "trigger")
_HEAD = 1 << 16
"""Bytes of a ``config.json`` that cannot be parsed in which MemGen's own keys are looked for."""


def match(folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise what ``MemGenModel.save_pretrained`` writes, even where it stopped after the first of its files.

    ``forced`` takes the user's word for it.
    """
    side_files = sum(folder.has_file(name) for name in _SIDE_FILES)
    nested = sum(holds_adapter(folder.child(name).child(name)) for name in _ADAPTERS)
    if not forced and (side_files + nested < 2 or not side_files) and not _is_begun(folder):
        return None

    claimed = [*_ADAPTERS]
    for name in _ADAPTERS:
        claimed += [join(name, child) for child in folder.child(name).folders]
    return Match(MEMGEN, folder.path, tuple(claimed), _build)


def _is_begun(folder: Folder) -> bool:
    """Whether a save was begun here: a ``config.json`` that says so, or the projections by themselves."""
    if folder.has_file("projs.bin") and not folder.has_file("config.json"):
        known = {entry.name for entry in PROJECTIONS}
        return any(item.name in known for item in folder.disk.weights(folder.path / "projs.bin", "projs.bin").tensors)
    if not folder.has_file("config.json") or holds_adapter(folder) or holds_model(folder):
        return False
    config = folder.disk.config(folder.path / "config.json", "config.json").data
    if config is None:  # its keys are sorted: the lengths stand before the type
        return b'_latents_len"' in folder.disk.head(folder.path / "config.json", _HEAD)
    return config.get("model_type") == "memgen"


def _build(reader: CheckpointReader) -> Checkpoint:
    # In the order in which they are saved.
    parts = [
        side_part(reader, "projs.bin", "projections", "projections", PROJECTIONS),
        side_part(reader, "weaver.bin", "query latents", "latents", (*LATENTS, *LATENT_NORMS)),
        side_part(reader, "trigger.bin", "trigger head", "trigger-head", TRIGGER_HEAD),
    ]
    for name in _ADAPTERS:
        parts += adapters_below(reader, name, name, nesting_is_usual=True)
    config = reader.config("config.json")
    if config is not None and config.data is not None and config.data.get("trigger_active") is False:
        parts = list(_without_trigger(parts))
    folders = ["", *_ADAPTERS, *(part.directory for part in parts)]
    return reader.checkpoint(MEMGEN, "MemGen", parts, folders, config=config, known_sizes=known_sizes(parts, config))


def _without_trigger(parts: list[Part]) -> Iterator[Part]:
    """The parts of a run that trains no trigger, which may have been left out of a copy as a whole.

    MemGen itself always writes them: what is there in part, or not there though it comes before what is, is no choice.
    """
    of_the_trigger = [part for part in parts if "trigger" in part.name]
    weaver = [part for part in parts if part.role == "adapter" and part not in of_the_trigger]
    optional = any(part.files for part in weaver) and not any(part.files or part.config for part in of_the_trigger)
    for part in parts:
        yield part._replace(required=False) if optional and part in of_the_trigger else part


def is_whole_model(names: Iterable[str]) -> bool:
    """Whether the tensor names are those of a whole ``MemGenModel``: reasoner and weaver in one state dict."""
    heads = {name.partition(".")[0] for name in names}
    return "reasoner" in heads and bool(heads & {"weaver", "reasoner_to_weaver"})


def whole_model(parts: list[Part]) -> list[Part]:
    """The parts of a model folder, the first of which is a whole ``MemGenModel``.

    Norms, scales and the trigger's head came in later versions, so they are no obligation here.
    """
    required = (*PROJECTIONS, *(Entry(f"weaver.{entry.name}", entry.dims) for entry in LATENTS))
    later = (
        *(Entry(f"weaver.{entry.name}", entry.dims, required=False) for entry in LATENT_NORMS),
        *(Entry(f"trigger.{entry.name}", entry.dims, required=False) for entry in TRIGGER_HEAD),
    )
    return [parts[0]._replace(entries=(*required, *later)), *parts[1:]]
