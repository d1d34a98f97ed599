"""Damages that the rules on layout, keys, configs and shapes must report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.damages.files import Damage
from support.places import HEALTHY, copied


def edit_tensors(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file, metadata)


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def without(*parts: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {k: v for k, v in tensors.items() if not any(part in k for part in parts)}


def weights(fixture: str, change: Callable[[dict[str, Any]], dict[str, Any]], file: str) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        checkpoint = copied(fixture, target)
        edit_tensors(checkpoint / file, change)
        return checkpoint

    return make


def lora(change: Callable[[dict[str, Any]], dict[str, Any]], fixture: str = "peft/lora") -> Callable[[Path], Path]:
    return weights(fixture, change, "adapter_model.safetensors")


def config(fixture: str, **changes: Any) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        checkpoint = copied(fixture, target)
        edit_json(checkpoint / "adapter_config.json", **changes)
        return checkpoint

    return make


def _value_head(tensors: dict[str, Any]) -> dict[str, Any]:
    return {**tensors, "base_model.model.v_head.summary.weight": torch.ones(1, 32)}


def _resized_embedding(target: Path) -> Path:
    """An adapter that names a base with 64 tokens, and holds an embedding with 72."""
    base = target / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": 64, "hidden_size": 32}))
    checkpoint = config("peft/lora", base_model_name_or_path=str(base))(target)
    embedding = {"base_model.model.model.embed_tokens.weight": torch.ones(72, 32)}
    edit_tensors(checkpoint / "adapter_model.safetensors", lambda tensors: {**tensors, **embedding})
    return checkpoint


def removed(fixture: str, *files: str) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        checkpoint = copied(fixture, target)
        for file in files:
            (checkpoint / file).unlink()
        return checkpoint

    return make


def written(fixture: str, file: str, text: str) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        checkpoint = copied(fixture, target)
        (checkpoint / file).write_text(text)
        return checkpoint

    return make


def projections(
    change: Callable[[dict[str, Any]], None], fixture: str = "weaver_safetensors/weaver"
) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        import torch

        checkpoint = copied(fixture, target)
        state = torch.load(checkpoint / "projections.pt", weights_only=True)
        change(state)
        torch.save(state, checkpoint / "projections.pt")
        return checkpoint

    return make


def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(key)


def _narrow_latents(state: dict[str, Any]) -> None:
    state["prompt_query_latents"] = state["prompt_query_latents"][:, :16].clone()


def _flat_latents(state: dict[str, Any]) -> None:
    state["inference_query_latents"] = state["inference_query_latents"].reshape(-1).clone()


def _wider_weaver(state: dict[str, Any]) -> None:
    """Projections and latents that agree with each other, of a weaver with another hidden size than the adapter's."""
    import torch

    for name in ("reasoner_to_weaver", "weaver_to_reasoner"):
        weight = state[name]["weight"]
        rows, columns = (40 if size == 32 else size for size in weight.shape)
        state[name] = {"weight": torch.randn(rows, columns), "bias": torch.randn(rows)}
    for name in ("prompt_query_latents", "inference_query_latents"):
        state[name] = torch.randn(8, 40)


def _with_local_base(change: Callable[[Path], Path], **base: Any) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        checkpoint = change(target)
        folder = target / "base"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "num_hidden_layers": 2, **base}))
        edit_json(checkpoint / "adapter_config.json", base_model_name_or_path=str(folder))
        return checkpoint

    return make


def _nested_peft(target: Path) -> Path:
    outer = target / "checkpoint"
    outer.mkdir()
    shutil.copytree(HEALTHY / "peft/lora", outer / "adapter_model")
    return outer


def _mixed(target: Path) -> Path:
    checkpoint = copied("peft/lora", target)
    shutil.copy(HEALTHY / "transformers/single_safetensors/model.safetensors", checkpoint)
    return checkpoint


def _cast_half(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {name: tensor.to(torch.bfloat16) if "lora_A" in name else tensor for name, tensor in tensors.items()}


def _empty_lora_a(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {name: torch.zeros(0) if "lora_A" in name else tensor for name, tensor in tensors.items()}


def _base_weight(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    name = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"
    return {**tensors, name: torch.randn(32, 32)}


def _extra_entry(state: dict[str, Any]) -> None:
    state["temperature"] = 0.5


def lone_with_module(target: Path) -> Path:
    model = copied("transformers/single_safetensors", target)
    lone = target / "lone.safetensors"
    (model / "model.safetensors").rename(lone)
    edit_tensors(lone, lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()})
    return lone


DAMAGES: tuple[Damage, ...] = (
    Damage("CKD201", "bin where safetensors is expected", lambda t: copied("weaver_bin/weaver", t)),
    Damage("CKD201", "safetensors where bin is expected", lambda t: copied("peft/lora", t), {"expect": "bin"}),
    Damage("CKD202", "no projections.pt", removed("weaver_safetensors/weaver", "projections.pt")),
    Damage("CKD202", "no projections.pt, nested", removed("weaver_nested/weaver", "projections.pt")),
    Damage("CKD202", "no trigger.bin", removed("memgen_upstream", "trigger.bin")),
    Damage("CKD202", "no projs.bin", removed("memgen_upstream", "projs.bin")),
    Damage(
        "CKD203", "PEFT's nesting below weaver_lora", lambda t: copied("weaver_nested/weaver", t), severity="warning"
    ),
    Damage("CKD203", "adapter_model/ below the folder asked for", _nested_peft, severity="warning"),
    Damage("CKD205", "peft without config", removed("peft/lora", "adapter_config.json")),
    Damage("CKD205", "weaver without config", removed("weaver_safetensors/weaver", "weaver_lora/adapter_config.json")),
    Damage("CKD213", "model without config", removed("transformers/single_safetensors", "config.json")),
    Damage("CKD213", "shards without config", removed("transformers/sharded_safetensors", "config.json")),
    Damage("CKD206", "peft without weights", removed("peft/lora", "adapter_model.safetensors")),
    Damage(
        "CKD206",
        "weaver without weights",
        removed("weaver_safetensors/weaver", "weaver_lora/adapter_model.safetensors"),
    ),
    Damage(
        "CKD206", "memgen without an adapter", removed("memgen_upstream", "trigger/trigger/adapter_model.safetensors")
    ),
    Damage("CKD207", "adapter and model in one folder", _mixed, severity="warning"),
    Damage("CKD301", "no inference latents", projections(_drop("inference_query_latents"))),
    Damage("CKD301", "no projection", projections(_drop("weaver_to_reasoner"))),
    Damage("CKD302", "one lora_B dropped", lora(without("layers.1.self_attn.v_proj.lora_B"))),
    Damage("CKD302", "every lora_A dropped", lora(without("lora_A"))),
    Damage(
        "CKD303",
        "a layer of the model dropped",
        weights("transformers/single_safetensors", without("layers.1."), "model.safetensors"),
    ),
    Damage("CKD303", "a layer of the adapter dropped", _with_local_base(lora(without("layers.1.")))),
    Damage("CKD304", "_orig_mod", lora(renamed("base_model.model.", "_orig_mod.base_model.model."))),
    Damage("CKD304", "module. before all", lora(renamed("base_model.model.", "module.base_model.model."))),
    Damage("CKD304", "module. behind PEFT's prefix", lora(renamed("base_model.model.", "base_model.model.module."))),
    Damage(
        "CKD304",
        "module. in a model",
        weights(
            "transformers/single_safetensors",
            lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
            "model.safetensors",
        ),
    ),
    Damage("CKD304", "FSDP", lora(renamed(".self_attn.", "._fsdp_wrapped_module.self_attn."))),
    Damage("CKD304", "Fabric", lora(renamed("base_model.model.", "_forward_module.base_model.model."))),
    Damage("CKD305", "prefix twice", lora(renamed("base_model.model.", "base_model.model.base_model.model."))),
    Damage("CKD306", "no prefix", lora(renamed("base_model.model.", ""))),
    Damage("CKD304", "module. in a file by itself", lone_with_module, severity="warning"),
    Damage(
        "CKD307",
        "weaver in the keys of a weaver",
        weights(
            "weaver_safetensors/weaver", renamed(".weight", ".weaver.weight"), "weaver_lora/adapter_model.safetensors"
        ),
        severity="warning",
    ),
    Damage("CKD307", "lora_A.weaver.weight", lora(renamed(".weight", ".weaver.weight"))),
    Damage("CKD307", "lora_A.default.weight", lora(renamed(".weight", ".default.weight")), severity="warning"),
    Damage("CKD307", "ia3_l.weaver", lora(renamed("ia3_l", "ia3_l.weaver"), "peft/ia3")),
    Damage("CKD308", "v_proj not in target_modules", config("peft/lora", target_modules=["q_proj"])),
    Damage("CKD309", "a base layer's weight in the adapter", lora(_base_weight), severity="warning"),
    Damage("CKD309", "a value head in the adapter", lora(_value_head), severity="warning"),
    Damage("CKD310", "lm_head listed and absent", config("peft/lora", modules_to_save=["lm_head"])),
    Damage(
        "CKD310",
        "a task's head absent",
        config("peft/lora", task_type="SEQ_CLS", modules_to_save=["classifier", "score"]),
    ),
    Damage("CKD311", "an entry nobody reads", projections(_extra_entry), severity="note"),
    Damage("CKD501", "r is not the rank", config("peft/lora", r=8)),
    Damage("CKD501", "rank_pattern is not the rank", config("peft/lora", rank_pattern={"q_proj": 8})),
    Damage("CKD518", "an embedding with more rows than the base", _resized_embedding),
    Damage("CKD502", "placeholders of ZeRO-3", lora(_empty_lora_a)),
    Damage("CKD503", "no tensors", lora(lambda tensors: {})),
    Damage("CKD504", "latents of another hidden size", projections(_narrow_latents)),
    Damage("CKD504", "latents in one dimension", projections(_flat_latents)),
    Damage("CKD504", "side file of another weaver", projections(_wider_weaver)),
    Damage("CKD505", "magnitudes without use_dora", config("peft/dora", use_dora=False)),
    Damage("CKD505", "use_dora without magnitudes", config("peft/lora", use_dora=True)),
    Damage("CKD506", "config cut off", written("peft/lora", "adapter_config.json", '{"peft_type": "LO')),
    Damage("CKD506", "not an adapter's config", written("peft/lora", "adapter_config.json", '{"model_type": "qwen2"}')),
    Damage("CKD506", "unknown type", config("peft/lora", peft_type="LORAA")),
    Damage("CKD506", "model config cut off", written("transformers/single_safetensors", "config.json", '{"model')),
    Damage("CKD507", "unknown key", config("peft/lora", lora_gamma=3), severity="warning"),
    Damage(
        "CKD508",
        "a path of another machine",
        config("peft/lora", base_model_name_or_path="/home/trainer/qwen"),
        severity="note",
    ),
    Damage("CKD509", "mixed dtypes", lora(_cast_half), severity="note"),
)
