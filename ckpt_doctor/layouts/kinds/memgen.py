"""Upstream MemGen: ``projs.bin``, ``weaver.bin`` and ``trigger.bin`` beside two nested adapters, or one whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.entries import Entry
from ckpt_doctor.core.layout import Layout, LayoutPart, LayoutSize, Sign
from ckpt_doctor.core.parts import Part
from ckpt_doctor.layouts.adapters import holds_adapter
from ckpt_doctor.layouts.disk import Folder
from ckpt_doctor.layouts.model_files import holds_model

from . import Hooks
from .memgen_entries import LATENT_NORMS, LATENTS, PROJECTIONS, TRIGGER_HEAD, TRIGGER_HIDDEN, WEAVER_HIDDEN

_PROJECTIONS = "projs.bin"
_SIDE_FILES = (_PROJECTIONS, "weaver.bin", "trigger.bin")
_NESTED = ("weaver/weaver", "trigger/trigger")
_CONFIG = "config.json"
_HEAD = 1 << 16
"""Bytes of a ``config.json`` that cannot be parsed in which MemGen's own keys are looked for."""


def _is_begun(folder: Folder) -> bool:
    """True if the ``config.json`` says that a save was begun here: it is the first file that is written."""
    if _CONFIG not in folder.files or holds_adapter(folder) or holds_model(folder):
        return False
    config = folder.disk.config(folder.path / _CONFIG, _CONFIG).data
    if config is None:  # its keys are sorted: the lengths stand before the type
        return b'_latents_len"' in folder.disk.head(folder.path / _CONFIG, _HEAD)
    return config.get("model_type") == "memgen"


def _finished(checkpoint: Checkpoint) -> Checkpoint:
    config = checkpoint.config
    if config is None or config.data is None or config.data.get("trigger_active") is not False:
        return checkpoint
    return checkpoint._replace(parts=tuple(_without_trigger(checkpoint.parts)))


def _without_trigger(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts of a run that trains no trigger, which may have been left out of a copy as a whole.

    MemGen itself always writes them: what is there in part, or not there though it comes before what is, is no choice.
    """
    parts = list(parts)
    of_the_trigger = [part for part in parts if "trigger" in part.name]
    weaver = [part for part in parts if part.role == "adapter" and part not in of_the_trigger]
    optional = any(part.files for part in weaver) and not any(part.files or part.config for part in of_the_trigger)
    for part in parts:
        yield part._replace(required=False) if optional and part in of_the_trigger else part


def is_whole_model(names: Iterable[str]) -> bool:
    """True if the tensor names are those of a whole ``MemGenModel``: reasoner and weaver in one state dict."""
    heads = {name.partition(".")[0] for name in names}
    return "reasoner" in heads and bool(heads & {"weaver", "reasoner_to_weaver"})


def as_whole_model(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose first part is a whole ``MemGenModel`` in the files of any other model.

    Norms, scales and the trigger's head came in later versions, so they are no obligation here.
    """
    required = (*PROJECTIONS, *(Entry(f"weaver.{entry.name}", entry.dims) for entry in LATENTS))
    later = (
        *(Entry(f"weaver.{entry.name}", entry.dims, required=False) for entry in LATENT_NORMS),
        *(Entry(f"trigger.{entry.name}", entry.dims, required=False) for entry in TRIGGER_HEAD),
    )
    model, *others = checkpoint.parts
    parts = (model._replace(entries=(*required, *later)), *others)
    return checkpoint._replace(kind=KIND, variant="MemGen whole model", parts=parts)


KIND = Layout(
    "memgen",
    title="MemGen",
    # In the order in which they are saved.
    parts=(
        LayoutPart("projections", (_PROJECTIONS,), "file", "projections", entries=PROJECTIONS, complete=True),
        LayoutPart(
            "latents", ("weaver.bin",), "file", "query latents", entries=(*LATENTS, *LATENT_NORMS), complete=True
        ),
        LayoutPart("trigger-head", ("trigger.bin",), "file", "trigger head", entries=TRIGGER_HEAD, complete=True),
        LayoutPart("adapter", ("weaver",), "folder", "weaver", nested=True, hidden_size=WEAVER_HIDDEN),
        LayoutPart("adapter", ("trigger",), "folder", "trigger", nested=True, hidden_size=TRIGGER_HIDDEN),
    ),
    sizes=tuple(
        LayoutSize(f"{bank} latents length", _CONFIG, (f"{bank}_latents_len",)) for bank in ("prompt", "inference")
    ),
    # Two of its five pieces, one of them a side file: the adapters alone may be anybody's.
    signs=(
        *(Sign(files=pair) for pair in combinations(_SIDE_FILES, 2)),
        *(Sign(files=(file,), adapters=(folder,)) for file in _SIDE_FILES for folder in _NESTED),
        # A save that stopped after its first file of weights.
        Sign(holds=_PROJECTIONS, unless=(_CONFIG,)),
    ),
    # It contains folders that look like those of a weaver and a trigger.
    alone=True,
    config=_CONFIG,
    in_order=True,
    loads="memgen",
    resumes=False,
    trainer="MemGen",
    loader="memgen-upstream",
)
HOOKS = Hooks(recognises=_is_begun, finished=_finished)
