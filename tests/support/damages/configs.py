"""CKD5xx: configs that are broken, and shapes and dtypes that do not fit them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.damages.edits import edit_tensors, local_base, projections, settings, tensors, written
from support.damages.record import Damage, Harm

LORA, DORA, WEAVER = "peft/lora", "peft/dora", "weaver_safetensors/weaver"
MODEL = "transformers/single_safetensors"
ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


def settings_of_the_model(**values: Any) -> Harm:
    """Add these to the ``config.json``, which says ``rope_parameters`` of type ``default`` with a base of 10,000."""

    def harm(path: Path) -> None:
        config = path / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **values}))

    return harm


def resized_embedding(path: Path) -> None:
    """The adapter names a base with 64 tokens, and holds an embedding with 72."""
    import torch

    local_base(path, vocab_size=64, hidden_size=32)
    embedding = {"base_model.model.model.embed_tokens.weight": torch.ones(72, 32)}
    edit_tensors(path / ADAPTER, lambda tensors: {**tensors, **embedding})


def empty_lora_a(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {name: torch.zeros(0) if "lora_A" in name else tensor for name, tensor in tensors.items()}


def half_in_bfloat16(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {name: tensor.to(torch.bfloat16) if "lora_A" in name else tensor for name, tensor in tensors.items()}


def narrow_latents(state: dict[str, Any]) -> None:
    state["prompt_query_latents"] = state["prompt_query_latents"][:, :16].clone()


def flat_latents(state: dict[str, Any]) -> None:
    state["inference_query_latents"] = state["inference_query_latents"].reshape(-1).clone()


def wider_weaver(state: dict[str, Any]) -> None:
    """Projections and latents that agree with each other, of a weaver with another hidden size than the adapter's."""
    import torch

    for name in ("reasoner_to_weaver", "weaver_to_reasoner"):
        weight = state[name]["weight"]
        rows, columns = (40 if size == 32 else size for size in weight.shape)
        state[name] = {"weight": torch.randn(rows, columns), "bias": torch.randn(rows)}
    for name in ("prompt_query_latents", "inference_query_latents"):
        state[name] = torch.randn(8, 40)


DAMAGES = [
    Damage("CKD501", "r is not the rank", LORA, settings(r=8)),
    Damage("CKD501", "rank_pattern is not the rank", LORA, settings(rank_pattern={"q_proj": 8})),
    Damage("CKD502", "placeholders of ZeRO-3", LORA, tensors(ADAPTER, empty_lora_a)),
    Damage("CKD503", "no tensors", LORA, tensors(ADAPTER, lambda tensors: {})),
    Damage("CKD504", "latents of another hidden size", WEAVER, projections(narrow_latents)),
    Damage("CKD504", "latents in one dimension", WEAVER, projections(flat_latents)),
    Damage("CKD504", "side file of another weaver", WEAVER, projections(wider_weaver)),
    Damage("CKD505", "magnitudes without use_dora", DORA, settings(use_dora=False)),
    Damage("CKD505", "use_dora without magnitudes", LORA, settings(use_dora=True)),
    Damage("CKD506", "config cut off", LORA, written(CONFIG, '{"peft_type": "LO')),
    Damage("CKD506", "not an adapter's config", LORA, written(CONFIG, '{"model_type": "qwen2"}')),
    Damage("CKD506", "unknown type", LORA, settings(peft_type="LORAA")),
    Damage("CKD506", "model config cut off", MODEL, written("config.json", '{"model')),
    Damage("CKD507", "unknown key", LORA, settings(lora_gamma=3), "warning"),
    Damage("CKD508", "a path of another machine", LORA, settings(base_model_name_or_path="/home/trainer/qwen"), "note"),
    Damage("CKD509", "mixed dtypes", LORA, tensors(ADAPTER, half_in_bfloat16), "note"),
    Damage("CKD514", "another base", MODEL, settings_of_the_model(rope_theta=1e6), "warning"),
    Damage("CKD514", "a scaling for one reader", MODEL, settings_of_the_model(rope_scaling=YARN), "warning"),
    Damage("CKD518", "an embedding with more rows than the base", LORA, resized_embedding),
]
