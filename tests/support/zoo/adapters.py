"""Adapters: every variant of the table, and what ``save_pretrained`` makes of special circumstances."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import peft
import torch
from peft_variants import BASES, VARIANTS, Variant

from .common import Animal, disturb, quiet

# PEFT 0.21 saves X-LoRA's classifier without the layers whose number is also an expert's: those files are not healthy.
_UNHEALTHY = {"XLORA"}
_HUB_ID = "tiny/base-model"
_ATTENTION = ["q_proj", "v_proj"]


def build(variant: Variant, adapter_name: str = "default") -> peft.PeftModel:
    """A trained adapter of this variant."""
    base = BASES[variant.base]()
    base.name_or_path = _HUB_ID
    return disturb(peft.get_peft_model(base, variant.config(), adapter_name=adapter_name), trainable_only=True)


def lora(base: str = "qwen2", adapter_name: str = "default", **settings: object) -> peft.PeftModel:
    """A trained LoRA adapter."""
    return build(Variant("", "LORA", {"r": 4, "target_modules": _ATTENTION, **settings}, base), adapter_name)


def _save_variant(variant: Variant, directory: Path, *, safe: bool = True) -> Path:
    # "auto" would go online for some; what is targeted decides, as "auto" does.
    targets = variant.settings.get("target_modules") or ()
    embeddings = isinstance(targets, list) and any(name in targets for name in ("embed_tokens", "lm_head"))
    build(variant).save_pretrained(directory, safe_serialization=safe, save_embedding_layers=embeddings)
    return directory


def _resized_embeddings(directory: Path) -> Path:
    base = BASES["qwen2"]()
    base.resize_token_embeddings(80)
    config = peft.LoraConfig(r=4, target_modules=_ATTENTION, task_type="CAUSAL_LM")
    disturb(peft.get_peft_model(base, config), trainable_only=True).save_pretrained(
        directory, save_embedding_layers=True
    )
    return directory


def _several(directory: Path) -> Path:
    model = lora()
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["k_proj"], task_type="CAUSAL_LM"))
    disturb(model).save_pretrained(directory, save_embedding_layers=False)
    return directory


def _named(directory: Path) -> Path:
    lora(adapter_name="mine").save_pretrained(directory, save_embedding_layers=False)
    return directory


def _pruned_adalora(directory: Path) -> Path:
    settings = {"init_r": 6, "target_r": 1, "tinit": 1, "tfinal": 1, "deltaT": 1, "total_step": 8}
    model = build(Variant("", "ADALORA", {"target_modules": _ATTENTION, **settings}))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    tokens = torch.arange(32).reshape(2, 16)
    for step in range(8):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    model.save_pretrained(directory, save_embedding_layers=False)
    return directory


def _pissa_as_lora(directory: Path) -> Path:
    model = lora(init_lora_weights=True)
    model.peft_config["default"].init_lora_weights = "pissa"
    model.save_pretrained(directory / "initial", save_embedding_layers=False)
    disturb(model, trainable_only=True)
    model.save_pretrained(
        directory / "converted",
        path_initial_model_for_weight_conversion=str(directory / "initial"),
        save_embedding_layers=False,
    )
    return directory / "converted"


def _first_release(directory: Path) -> Path:
    """A config as PEFT 0.2 wrote it, with settings that were removed since and without those that came later."""
    lora().save_pretrained(directory, safe_serialization=False, save_embedding_layers=False)
    config = {
        "base_model_name_or_path": "somebody/llama-7b",
        "bias": "none",
        "enable_lora": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 8,
        "lora_dropout": 0.05,
        "merge_weights": False,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 4,
        "target_modules": _ATTENTION,
        "task_type": "CAUSAL_LM",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def _half(directory: Path) -> Path:
    lora().to(torch.bfloat16).save_pretrained(directory, save_embedding_layers=False)
    return directory


def _local_base(directory: Path, base_name: str, **settings: object) -> Path:
    base = directory / "base"
    model = BASES[base_name]()
    model.save_pretrained(base)
    model.name_or_path = str(base)
    config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", **settings)
    adapted = disturb(peft.get_peft_model(model, config), trainable_only=True)
    adapted.save_pretrained(directory / "adapter", save_embedding_layers=False)
    return directory / "adapter"


def _hybrid_base(directory: Path, kind: str) -> Path:
    from .models import MODELS

    model = MODELS[kind]()
    model.save_pretrained(directory / "base")
    model.name_or_path = str(directory / "base")
    config = peft.LoraConfig(r=4, target_modules=_ATTENTION, task_type="CAUSAL_LM")
    adapted = disturb(peft.get_peft_model(model, config), trainable_only=True)
    adapted.save_pretrained(directory / "adapter", save_embedding_layers=False)
    return directory / "adapter"


def _animals() -> Iterator[tuple[str, Animal]]:
    for variant in VARIANTS:
        if variant.peft_type not in _UNHEALTHY:
            yield variant.name, functools.partial(_save_variant, variant)
    for variant in VARIANTS:
        if variant.name in ("lora-dora", "lora-tied-embeddings", "vera", "prefix-tuning", "adalora", "lily"):
            yield f"{variant.name}-bin", functools.partial(_save_variant, variant, safe=False)
    yield "resized-embeddings", _resized_embeddings
    yield "several", _several
    yield "named", _named
    yield "adalora-pruned", _pruned_adalora
    yield "pissa-as-lora", _pissa_as_lora
    yield "first-release", _first_release
    yield "bfloat16", _half
    yield "local-base", functools.partial(_local_base, base_name="qwen2", target_modules=_ATTENTION)
    yield "local-base-t5", functools.partial(_local_base, base_name="t5", target_modules=["q", "v"])
    yield (
        "local-base-one-layer",
        functools.partial(_local_base, base_name="qwen2", target_modules=_ATTENTION, layers_to_transform=[1]),
    )
    yield (
        "local-base-regex",
        functools.partial(_local_base, base_name="qwen2", target_modules=r".*layers\.1\.self_attn\.q_proj"),
    )
    yield "local-base-jamba", functools.partial(_hybrid_base, kind="jamba")
    yield "local-base-qwen3-next", functools.partial(_hybrid_base, kind="qwen3-next")


ANIMALS: dict[str, Animal] = {name: quiet(animal) for name, animal in _animals()}
