"""MemGen's own loaders, step by step, so a report shows what an evaluation with them restores.

Nothing here knows what will arrive: the same calls are made on a model of the same structure, with the PEFT that is
installed. Two things differ and change no name and no shape. Files are only read with ``weights_only=True``. And a new
adapter is not given the zeros that PEFT begins with, so a zero of the checkpoint is not taken for a loaded one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import MEMGEN_FORK, MEMGEN_UPSTREAM
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.wording import shape

from .config import MemGenSettings
from .contents import ADAPTERS, adapter_of, contents_of
from .lora import adapter_config

_LOG = logging.getLogger(__name__)
_BANKS = ("prompt", "inference")


def upstream(model: Any, checkpoint: Checkpoint) -> None:
    """``MemGenModel.from_pretrained`` of KANABOON1/MemGen at a1b7397, ``memgen/model/modeling_memgen.py``.

    The constructor has put a ``PeftModel`` around a base for the weaver and another for the trigger. Then
    ``projs.bin``, ``weaver.bin`` and ``trigger.bin`` are read into their modules, latents and scales with
    ``.data.copy_``, which raises for another shape. Last, ``PeftModel.from_pretrained`` is called for each adapter, not
    on the base but on ``.base_model`` of that first ``PeftModel``: a ``LoraModel``, whose names PEFT prefixes again.
    """
    root = checkpoint.root
    projections = _read(root / "projs.bin")
    model.reasoner_to_weaver.load_state_dict(projections["reasoner_to_weaver"])
    model.weaver_to_reasoner.load_state_dict(projections["weaver_to_reasoner"])
    latents = _read(root / "weaver.bin")
    for bank in _BANKS:
        getattr(model.weaver, f"{bank}_query_latents").data.copy_(latents[f"{bank}_query_latents"])
        getattr(model.weaver, f"{bank}_latent_ln").load_state_dict(latents[f"{bank}_latent_ln"])
        getattr(model.weaver, f"{bank}_latent_scale").data.copy_(latents[f"{bank}_latent_scale"])
    head = _read(root / "trigger.bin")
    model.trigger.output_layer.load_state_dict(head["output_layer"])
    for adapter in ADAPTERS:
        _adapted_once_more(getattr(model, adapter), checkpoint, adapter)


def fork(model: Any, checkpoint: Checkpoint) -> None:
    """``_load_pretrained_weaver`` and ``_load_pretrained_trigger`` of iamseungpil/MemGenforARC, branch ``ltpo``.

    ``<weaver_lora>/weaver/adapter_model.bin`` is opened (ad8fd8e; ``<weaver_lora>/adapter_model.bin`` at 996ef8f), and
    what has a name of the live state dict, and its shape, goes into that; everything else is skipped. Then
    ``projections.pt`` of the parent folder is read, the latents by assignment to ``.data``, which accepts any shape.
    The trigger is loaded the same way, and its ``output_layer`` is neither saved nor loaded.
    """
    for part in checkpoint.parts_with("adapter"):
        if part.secondary or adapter_of(part) not in ADAPTERS:
            continue
        folder = _given_folder(checkpoint.root, part)
        adapter = adapter_of(part)
        _by_live_names(getattr(model, adapter).model, folder, adapter)
        if adapter == "weaver":
            _projections(model, folder.parent / "projections.pt")


LOADERS: Mapping[str, Callable[[Any, Checkpoint], None]] = {MEMGEN_UPSTREAM: upstream, MEMGEN_FORK: fork}
"""By the names that ``--loader`` knows them by."""


def _adapted_once_more(owner: Any, checkpoint: Checkpoint, adapter: str) -> None:
    from peft import PeftModel

    folder = (checkpoint.root / adapter / adapter).absolute()
    if not (folder / "adapter_config.json").is_file():
        # PEFT would look for it on the hub before it says so.
        raise ValueError(f"Can't find 'adapter_config.json' at '{folder}'")
    config: Any
    config, _ = adapter_config(contents_of(checkpoint), adapter, MemGenSettings())
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = False
    inner = owner.model.base_model
    owner.model = PeftModel.from_pretrained(inner, str(folder), adapter_name=adapter, config=config)
    owner.model.set_adapter(adapter)
    part = next(part for part in checkpoint.parts_with("adapter") if adapter_of(part) == adapter)
    _tell_names(owner.model, part, adapter, type(inner).__name__)


def _tell_names(model: Any, part: Part, adapter: str, inner: str) -> None:
    """Say so where the names that PEFT asks for now are not those of the file."""
    from peft import get_peft_model_state_dict

    asked = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    saved = {tensor.name for tensor in part.loaded_tensors}
    absent = [name for name in asked if name not in saved]
    if absent:
        _LOG.warning(
            "%s: PeftModel.from_pretrained was called on a %s, as MemGen does: %d of %d names that it asks for are not "
            "in %s, %s first",
            *(adapter, inner, len(absent), len(asked), part.preferred[0].path if part.files else part.directory),
            absent[0],
        )


def _given_folder(root: Path, part: Part) -> Path:
    """What the evaluation is given as ``load_weaver_path``: the folder in which PEFT may have nested the adapter."""
    directory = root / part.directory
    return directory.parent if directory.name == adapter_of(part) else directory


def _by_live_names(model: Any, folder: Path, adapter: str) -> None:
    places = (folder / adapter / "adapter_model.bin", folder / "adapter_model.bin")
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise FileNotFoundError(f"{adapter.capitalize()} adapter not found: {places[0]}")
    live = model.state_dict()
    loaded = 0
    for key, value in _read(place).items():
        if key not in live:
            continue
        if live[key].shape == value.shape:
            live[key] = value.to(live[key].dtype)
            loaded += 1
        else:
            _LOG.warning("Shape mismatch for %s: expected %s, got %s", key, live[key].shape, value.shape)
    model.load_state_dict(live, strict=True)
    _LOG.warning("Loaded %d %s adapter weights from checkpoint", loaded, adapter)


def _projections(model: Any, path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"projections.pt not found: {path}")
    state = _read(path)
    model.reasoner_to_weaver.load_state_dict(state["reasoner_to_weaver"])
    model.weaver_to_reasoner.load_state_dict(state["weaver_to_reasoner"])
    for bank in _BANKS:
        latents = getattr(model.weaver, f"{bank}_query_latents")
        before = tuple(latents.shape)
        latents.data = state[f"{bank}_query_latents"].data.to(latents.device)
        if tuple(latents.shape) != before:
            _LOG.warning(
                "%s_query_latents is %s where the model was configured with %s: the loader assigns to .data, which "
                "checks nothing",
                *(bank, shape(latents.shape), shape(before)),
            )


def _read(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)
