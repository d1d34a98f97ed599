"""Upstream MemGen: ``projs.bin``, ``weaver.bin`` and ``trigger.bin`` beside two nested adapters, or one whole model."""

from __future__ import annotations

from collections.abc import Iterable

from ckpt_doctor.checkpoint import Checkpoint, Entry, Part

from .adapters import adapters_below, holds_adapter
from .folder import Folder
from .match import Match
from .memgen_parts import LATENT_NORMS, LATENTS, PROJECTIONS, TRIGGER_HEAD, known_sizes, side_part
from .reading import CheckpointReader, join

NAME = "memgen"
_SIDE_FILES = ("projs.bin", "weaver.bin", "trigger.bin")
_ADAPTERS = ("weaver", "trigger")


def match(folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise what ``MemGenModel.save_pretrained`` writes, even where one of its files is absent.

    ``forced`` takes the user's word for it.
    """
    side_files = sum(folder.has_file(name) for name in _SIDE_FILES)
    nested = sum(holds_adapter(folder.child(name).child(name)) for name in _ADAPTERS)
    if not forced and (side_files + nested < 2 or not side_files):
        return None

    def build(reader: CheckpointReader) -> Checkpoint:
        parts = [
            side_part(reader, "projs.bin", "projections", "projections", PROJECTIONS),
            side_part(reader, "weaver.bin", "query latents", "latents", (*LATENTS, *LATENT_NORMS)),
            side_part(reader, "trigger.bin", "trigger head", "trigger-head", TRIGGER_HEAD),
        ]
        for name in _ADAPTERS:
            parts += adapters_below(reader, name, name, nesting_is_usual=True)
        config = reader.config("config.json")
        folders = ["", *_ADAPTERS, *(part.directory for part in parts)]
        return reader.checkpoint(NAME, "MemGen", parts, folders, config=config, known_sizes=known_sizes(parts, config))

    claimed = [*_ADAPTERS]
    for name in _ADAPTERS:
        claimed += [join(name, child) for child in folder.child(name).folders]
    return Match(NAME, folder.path, tuple(claimed), build)


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
