"""Whole models that do not fit their ``config.json``, and adapters that do not fit that of their base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.damages.edits import edit_json, edit_tensors, local_base, renamed, tensors, without
from support.damages.record import Damage

LORA, MODEL, SHARDED = "peft/lora", "transformers/single_safetensors", "transformers/sharded_safetensors"
ADAPTER, WHOLE, CONFIG = "adapter_model.safetensors", "model.safetensors", "config.json"
BASE: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda path: edit_json(path / CONFIG, lambda data: data.update(changes))


def base(**changes: Any) -> Callable[[Path], None]:
    """An adapter whose base is a folder on this machine."""
    return lambda path: local_base(path, **{**BASE, **changes})


def as_classifier(path: Path) -> None:
    """The file of a language model beside the config of a reward model, whose head is called otherwise."""
    edit_tensors(path / WHOLE, renamed("lm_head", "value_head"))
    config(architectures=["Qwen2ForSequenceClassification"])(path)


def other_number_of_labels(path: Path) -> None:
    import torch

    edit_tensors(path / WHOLE, without("lm_head"))
    edit_tensors(path / WHOLE, lambda tensors: {**tensors, "score.weight": torch.randn(1, 32)})
    config(architectures=["Qwen2ForSequenceClassification"])(path)


def with_value_head(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {**tensors, "v_head.summary.weight": torch.randn(1, 32), "v_head.summary.bias": torch.zeros(1)}


def base_model_alone(path: Path) -> None:
    """What ``Qwen2Model`` saves, beside a config that names the class with a head."""
    edit_tensors(path / WHOLE, without("lm_head"))
    edit_tensors(path / WHOLE, lambda tensors: {name.removeprefix("model."): t for name, t in tensors.items()})


def wider(part: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Tensors of which those with ``part`` in their names have eight rows more."""
    import torch

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        return {
            name: torch.cat([tensor, torch.randn(8, *tensor.shape[1:])]) if part in name else tensor
            for name, tensor in tensors.items()
        }

    return change


def resized(path: Path) -> None:
    edit_tensors(path / WHOLE, lambda tensors: wider("lm_head")(wider("embed_tokens")(tensors)))


def wider_projection(path: Path) -> None:
    edit_tensors(path / WHOLE, wider("layers.1.self_attn.q_proj.weight"))


def mixture(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], Path]:
    """A mixture of experts as transformers saves it, changed."""

    def harm(path: Path) -> Path:
        import torch
        from transformers import MixtralConfig, MixtralForCausalLM

        torch.manual_seed(0)
        sizes = {key: BASE[key] for key in BASE if key != "architectures"}
        folder = path.parent / "mixture"
        MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4)).save_pretrained(folder)
        edit_tensors(folder / WHOLE, change)
        return folder

    return harm


def token_too_many(path: Path) -> None:
    decoder = {"64": {"content": "<tool>", "special": True}}
    (path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))


DAMAGES = [
    Damage("CKD303", "a layer of a mixture dropped", MODEL, mixture(without("layers.1."))),
    Damage("CKD315", "more layers than the base", LORA, base(num_hidden_layers=1)),
    Damage(
        "CKD315",
        "another path",
        LORA,
        lambda path: (tensors(ADAPTER, renamed("self_attn", "attn"))(path), base()(path))[0],
    ),
    Damage("CKD316", "another head's name", MODEL, as_classifier),
    Damage("CKD316", "no output matrix", MODEL, tensors(WHOLE, without("lm_head"))),
    Damage("CKD316", "one row for two labels", MODEL, other_number_of_labels),
    Damage("CKD316", "a value head", MODEL, tensors(WHOLE, with_value_head), "note"),
    Damage("CKD316", "saved from the base model", MODEL, base_model_alone, "note"),
    Damage("CKD317", "an expert dropped", MODEL, mixture(without("layers.0.block_sparse_moe.experts.3."))),
    Damage(
        "CKD317", "a projection of an expert dropped", MODEL, mixture(without("layers.1.block_sparse_moe.experts.0.w2"))
    ),
    Damage("CKD318", "names of a wrapper", MODEL, tensors(WHOLE, renamed("model.", "model.language_model."))),
    Damage("CKD318", "a part that is lacking", MODEL, tensors(WHOLE, renamed("self_attn.", ""))),
    Damage("CKD320", "a projection dropped", MODEL, tensors(WHOLE, without("layers.1.mlp.up_proj"))),
    Damage("CKD320", "the last norm dropped", MODEL, tensors(WHOLE, without("model.norm"))),
    Damage("CKD510", "a token without a row", MODEL, token_too_many, "warning"),
    Damage("CKD513", "an older vocab_size", MODEL, resized),
    Damage("CKD513", "another intermediate_size", MODEL, config(intermediate_size=72)),
    Damage("CKD513", "a wider projection", MODEL, wider_projection),
    Damage("CKD513", "an adapter of a wider model", LORA, base(hidden_size=40)),
]
