"""CKD3xx: names of tensors that a loader does not look for, or misses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.damages.edits import edit_tensors, local_base, projections, renamed, settings, tensors, without
from support.damages.record import Damage

LORA, WEAVER, MODEL = "peft/lora", "weaver_safetensors/weaver", "transformers/single_safetensors"
ADAPTER, WHOLE = "adapter_model.safetensors", "model.safetensors"


def lora(change: Any) -> Any:
    return tensors(ADAPTER, change)


def in_a_module(tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def lone_file_in_a_module(path: Path) -> Path:
    lone = (path / WHOLE).rename(path.parent / "lone.safetensors")
    edit_tensors(lone, in_a_module)
    return lone


def layer_less_than_the_base(path: Path) -> None:
    edit_tensors(path / ADAPTER, without("layers.1."))
    local_base(path, num_hidden_layers=2)


def weight_of_the_base(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    name = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"
    return {**tensors, name: torch.randn(32, 32)}


def value_head(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {**tensors, "base_model.model.v_head.summary.weight": torch.ones(1, 32)}


PEFT = "base_model.model."
DAMAGES = [
    Damage("CKD301", "no inference latents", WEAVER, projections(lambda state: state.pop("inference_query_latents"))),
    Damage("CKD301", "no projection", WEAVER, projections(lambda state: state.pop("weaver_to_reasoner"))),
    Damage("CKD302", "one lora_B dropped", LORA, lora(without("layers.1.self_attn.v_proj.lora_B"))),
    Damage("CKD302", "every lora_A dropped", LORA, lora(without("lora_A"))),
    Damage("CKD303", "a layer of the model dropped", MODEL, tensors(WHOLE, without("layers.1."))),
    Damage("CKD303", "a layer of the adapter dropped", LORA, layer_less_than_the_base),
    Damage("CKD304", "_orig_mod", LORA, lora(renamed(PEFT, f"_orig_mod.{PEFT}"))),
    Damage("CKD304", "module. before all", LORA, lora(renamed(PEFT, f"module.{PEFT}"))),
    Damage("CKD304", "module. behind PEFT's prefix", LORA, lora(renamed(PEFT, f"{PEFT}module."))),
    Damage("CKD304", "module. in a model", MODEL, tensors(WHOLE, in_a_module)),
    Damage("CKD304", "FSDP", LORA, lora(renamed(".self_attn.", "._fsdp_wrapped_module.self_attn."))),
    Damage("CKD304", "Fabric", LORA, lora(renamed(PEFT, f"_forward_module.{PEFT}"))),
    Damage("CKD304", "module. in a file by itself", MODEL, lone_file_in_a_module, "warning"),
    Damage("CKD305", "prefix twice", LORA, lora(renamed(PEFT, 2 * PEFT))),
    Damage("CKD306", "no prefix", LORA, lora(renamed(PEFT, ""))),
    Damage(
        "CKD307",
        "weaver in the keys of a weaver",
        WEAVER,
        tensors(f"weaver_lora/{ADAPTER}", renamed(".weight", ".weaver.weight")),
        "warning",
    ),
    Damage("CKD307", "lora_A.weaver.weight", LORA, lora(renamed(".weight", ".weaver.weight"))),
    Damage("CKD307", "lora_A.default.weight", LORA, lora(renamed(".weight", ".default.weight")), "warning"),
    Damage("CKD307", "ia3_l.weaver", "peft/ia3", lora(renamed("ia3_l", "ia3_l.weaver"))),
    Damage("CKD308", "v_proj not in target_modules", LORA, settings(target_modules=["q_proj"])),
    Damage("CKD309", "a base layer's weight in the adapter", LORA, lora(weight_of_the_base), "warning"),
    Damage("CKD309", "a value head in the adapter", LORA, lora(value_head), "warning"),
    Damage("CKD310", "lm_head listed and absent", LORA, settings(modules_to_save=["lm_head"])),
    Damage(
        "CKD310",
        "a task's head absent",
        LORA,
        settings(task_type="SEQ_CLS", modules_to_save=["classifier", "score"]),
    ),
    Damage("CKD311", "an entry nobody reads", WEAVER, projections(lambda state: state.update(temperature=0.5)), "note"),
]
