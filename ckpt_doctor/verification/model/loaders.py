"""``--loader auto``: for each layout the ecosystem's own loader."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.parts import Part
from ckpt_doctor.layouts import LAYOUTS
from ckpt_doctor.verification.hosting.dependencies import require
from ckpt_doctor.verification.values.reading import TensorReader

MEMGEN = ("weaver", "trigger", "memgen")
"""Layouts for which this package has a model and a loader of its own."""


def model_part(checkpoint: Checkpoint) -> Part:
    """The part that a loader is asked for: the first that is neither secondary nor beside the point."""
    return next(part for part in checkpoint.parts if not part.auxiliary and not part.secondary)


def refuse_unknown(checkpoint: Checkpoint) -> None:
    """Raise ``VerificationError`` for a team's own layout of several parts: nobody here knows where each belongs."""
    parts = [part for part in checkpoint.parts if (part.files or part.required) and not part.auxiliary]
    names = [part.name for part in parts if not part.secondary]
    if checkpoint.layout not in LAYOUTS and len(names) > 1:
        raise VerificationError(
            f"only your own code knows how to load a {checkpoint.layout} checkpoint ({', '.join(names)}): name the "
            "model with --model FILE.py:FUNCTION and the loader with --loader FILE.py:FUNCTION"
        )


def load(model: Any, checkpoint: Checkpoint) -> Any:
    """Load ``checkpoint`` into ``model`` with the loader of its layout, and return the model that holds it."""
    if checkpoint.layout in MEMGEN:
        from ckpt_doctor.verification.memgen.building import load as load_memgen

        for line in load_memgen(model, checkpoint).warnings:
            logging.getLogger(__name__).warning(line)
        return model
    part = model_part(checkpoint)
    folder = checkpoint.root / part.directory
    if part.role == "adapter":
        return _load_adapter(model, folder)
    if checkpoint.layout == "transformers":
        return load_transformers(checkpoint, model.config, type(model))
    model.load_state_dict(_state_dict(checkpoint, part), strict=True)
    return model


def _load_adapter(model: Any, folder: Path) -> Any:
    peft = require("peft")
    if isinstance(model, peft.PeftModel):
        # Into the model's own adapter if it has just one, as a training script that resumes does.
        name = model.active_adapter if isinstance(model.active_adapter, str) else model.active_adapter[0]
        weights = peft.load_peft_weights(str(folder), device="cpu")
        peft.set_peft_model_state_dict(model, weights, adapter_name=name)
        return model
    return peft.PeftModel.from_pretrained(model, str(folder))


def load_transformers(checkpoint: Checkpoint, config: Any, chosen: Any) -> Any:
    """A whole model of class ``chosen``, loaded by ``from_pretrained``."""
    part = model_part(checkpoint)
    folder = str(checkpoint.root / part.directory)
    variant = _variant(part)
    more: dict[str, Any] = {} if variant is None else {"variant": variant}
    return chosen.from_pretrained(
        folder, config=config, dtype="auto", local_files_only=True, trust_remote_code=False, **more
    )


def _variant(part: Part) -> str | None:
    """What stands between the name and the ending of the files, as in ``model.fp16.safetensors``."""
    pattern = re.compile(r"(?:pytorch_)?model\.(.+?)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
    names = [file.path.rpartition("/")[2] for file in part.preferred]
    found = {match[1] for name in names if (match := pattern.fullmatch(name))}
    return found.pop() if len(found) == 1 else None


def _state_dict(checkpoint: Checkpoint, part: Part) -> dict[str, Any]:
    with TensorReader(checkpoint.root) as reader:
        return {
            tensor.name: reader.whole(file.path, tensor).clone() for file in part.preferred for tensor in file.tensors
        }


def hollow_adapter(build: Callable[[], Any], checkpoint: Checkpoint) -> Any:
    """The adapter of ``checkpoint`` around the base on the meta device that ``build`` makes.

    Raises ``VerificationError`` for the few types of adapters that are computed from the base's weights.
    """
    torch, peft = require("torch"), require("peft")
    folder = str(checkpoint.root / model_part(checkpoint).directory)
    config = peft.PeftConfig.from_pretrained(folder)
    config.inference_mode = True  # as PeftModel.from_pretrained does
    ranks = getattr(config, "rank_pattern", None) if config.peft_type == "ADALORA" else None
    # MonteCLoRA makes no sampler on the meta device, and saves one.
    context = contextlib.nullcontext() if getattr(config, "monteclora_config", None) else torch.device("meta")
    try:
        with context:
            model = peft.get_peft_model(build(), copy.deepcopy(config))
    except (NotImplementedError, RuntimeError):
        # Some compute small tensors of their own while they are built: then the adapter alone gets memory.
        try:
            model = peft.get_peft_model(build(), config)
        except (NotImplementedError, RuntimeError) as error:
            raise VerificationError(
                f"a {config.peft_type.value} adapter is computed from the weights of its base, which --mode keys does "
                f"not have ({' '.join(str(error).split())[:200]}): use --mode load"
            ) from None
    for name, kept in (ranks or {}).items():
        # What AdaLoRA does with the masks of its pruned ranks, without the values that it would keep.
        words = name.split(".")
        layer = model.base_model.model.get_submodule(".".join(words[: -2 if "default" in words else -1]))
        layer.update_layer("default", sum(kept), config.lora_alpha, config=config)
    return model
