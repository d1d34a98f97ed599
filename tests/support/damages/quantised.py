"""CKD314: what a quantised model lost, and what its config does not say or says of plain weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.damages.edits import edit_tensors, without
from support.damages.record import Damage, Harm
from support.quantised import KINDS, configure, experts_in_mxfp4, quantise

MODEL, WHOLE = "transformers/single_safetensors", "model.safetensors"
LAYER = "layers.1.mlp.down_proj."


def of(kind: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Harm:
    """Quantise the fixture, and then change its tensors."""

    def harm(path: Path) -> None:
        edit_tensors(quantise(path, kind) / WHOLE, change)

    return harm


def dropped(kind: str, name: str) -> Harm:
    return of(kind, lambda tensors: {key: value for key, value in tensors.items() if not key.endswith(LAYER + name)})


def shorter(kind: str, name: str) -> Harm:
    """One number less along the first dimension of this tensor."""

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        (full,) = (key for key in tensors if key.endswith(LAYER + name))
        return {**tensors, full: tensors[full][:-1].clone()}

    return of(kind, change)


def without_settings(kind: str) -> Harm:
    def harm(path: Path) -> None:
        configure(quantise(path, kind), lambda config: config.pop("quantization_config"))

    return harm


def settings_alone(kind: str) -> Harm:
    """What is left when the weights are dequantised and the config is not changed."""

    def harm(path: Path) -> None:
        configure(path, lambda config: config.update(quantization_config=KINDS[kind].settings))

    return harm


def half_the_block_size(path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["quantization_config"]["weight_block_size"] = [12, 12]

    configure(quantise(path, "float8-blocks"), change)


def unsaid_and_lost(path: Path) -> None:
    """No config tells that the weights have scales; those of the other layers do."""
    dropped("float8-blocks", "weight_scale_inv")(path)
    configure(path, lambda config: config.update(quantization_config=None, quantization_bit=8))


def experts_without_scales(path: Path) -> None:
    experts = "layers.1.mlp.experts.down_proj_scales"
    edit_tensors(experts_in_mxfp4(path) / WHOLE, without(experts))


def all_scales_lost(path: Path) -> None:
    edit_tensors(quantise(path, "float8-blocks") / WHOLE, without("weight_scale_inv"))


DAMAGES = [
    *(
        Damage("CKD314", f"{kind} without {name}", MODEL, dropped(kind, name))
        for kind, name in (
            ("float8-blocks", "weight_scale_inv"),
            ("bitsandbytes-nf4", "weight.nested_absmax"),
            ("bitsandbytes-fp4", "weight.quant_state.bitsandbytes__fp4"),
            ("bitsandbytes-int8", "SCB"),
            ("gptq", "g_idx"),
            ("awq", "qzeros"),
            ("packed-asymmetric", "weight_zero_point"),
            ("compressed-int8", "weight"),
            ("quanto", "weight._shift"),
            ("hqq", "zero"),
        )
    ),
    Damage("CKD314", "every scale lost", MODEL, all_scales_lost),
    Damage("CKD314", "a scale lost and no config", MODEL, unsaid_and_lost),
    Damage("CKD314", "experts without scales", MODEL, experts_without_scales),
    Damage("CKD314", "packed without weight_shape", MODEL, dropped("packed", "weight_shape"), "warning"),
    Damage("CKD314", "a short scale", MODEL, shorter("gptq", "scales")),
    Damage("CKD314", "another block size", MODEL, half_the_block_size),
    Damage("CKD314", "8 bits without quantization_config", MODEL, without_settings("bitsandbytes-int8")),
    Damage("CKD314", "packed without quantization_config", MODEL, without_settings("packed")),
    Damage("CKD314", "quantization_config of plain weights", MODEL, settings_alone("bitsandbytes-nf4")),
]
