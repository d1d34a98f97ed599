"""Adapters as PEFT saves them, with their bases, and what can be done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from peft_variants import BASES, VARIANTS, Variant
from safetensors.torch import load_file, save_file

from support.zoo.adapters import _UNHEALTHY, build
from support.zoo.common import quiet

SAVED = tuple(item for item in VARIANTS if item.peft_type not in _UNHEALTHY)
"""Every variant that PEFT can save here."""
ONE_OF_EACH = tuple({item.peft_type: item for item in reversed(SAVED)}.values())
"""One for each PEFT type."""


def names(variant: Variant) -> str:
    return variant.name


def save(variant: Variant, directory: Path) -> tuple[Path, Any, set[str]]:
    """Train and save an adapter.

    Returns its folder, what to give as model (its base's folder, or a factory), and the names of what was trained.
    """
    trained: set[str] = set()

    def write(where: Path) -> Path:
        targets = variant.settings.get("target_modules") or ()
        embeddings = isinstance(targets, list) and any(name in targets for name in ("embed_tokens", "lm_head"))
        model = build(variant)
        trained.update(name for name, value in model.named_parameters(remove_duplicate=False) if value.requires_grad)
        model.save_pretrained(where / "adapter", save_embedding_layers=embeddings)
        base = BASES[variant.base]()
        if hasattr(base, "save_pretrained"):
            base.save_pretrained(where / "base")
        return where

    quiet(write)(directory)
    has_config = (directory / "base").is_dir()
    return directory / "adapter", str(directory / "base") if has_config else BASES[variant.base], trained


@contextmanager
def edited(adapter: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Within this block the adapter's tensors can be changed; afterwards they are written back."""
    file = adapter / "adapter_model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    yield tensors
    save_file(tensors, file, metadata={"format": "pt"})


def leaves_out(victim: str) -> Callable[[Any, str], Any]:
    """A loader that does everything right but for one tensor."""

    def load(model: Any, path: str) -> Any:
        config = peft.PeftConfig.from_pretrained(path)
        adapted = peft.get_peft_model(model, config)
        before = {name: value.detach().clone() for name, value in adapted.state_dict().items()}
        peft.set_peft_model_state_dict(adapted, peft.load_peft_weights(path, device="cpu"))
        live = dict(adapted.named_parameters(remove_duplicate=False))
        # A prompt encoder's embedding may be put together from several parameters.
        hit = [victim] if victim in live else [name for name in live if name.startswith("prompt_encoder.")]
        with torch.no_grad():
            for name in hit:
                live[name].copy_(before[name])
        return adapted

    return load
