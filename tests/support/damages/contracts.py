"""CKD8xx: what shows only beside a contract of the checkpoint as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.damages.edits import (
    ADAPTER,
    ADAPTER_BIN,
    edit_json,
    edit_state,
    edit_tensors,
    edit_zip,
    overwrite_tensors,
    without,
)
from support.damages.record import Contract, Damage, recorder

WEAVER = "weaver_safetensors/weaver"
PEFT = "peft/lora"
MODEL = "transformers/sharded_safetensors"
DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)
HEADERS, VALUES = Contract(), Contract(values=True)


@damage("CKD851", PEFT, against=HEADERS)
def a_layer_less(path: Path) -> None:
    edit_tensors(path / "adapter_model.safetensors", without("layers.1."))


@damage("CKD851", WEAVER, against=HEADERS)
def no_projections(path: Path) -> None:
    (path / "projections.pt").unlink()


@damage("CKD851", MODEL, against=HEADERS)
def a_shard_less(path: Path) -> None:
    (path / "model-00002-of-00003.safetensors").unlink()


@damage("CKD851", "transformers/tied_bin", severity="note", against=HEADERS)
def tied_name_dropped(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.load(path / "pytorch_model.bin", weights_only=True)
    del state["lm_head.weight"]
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    (path / "pytorch_model.bin").unlink()


@damage("CKD852", PEFT, severity="warning", against=HEADERS)
def a_layer_more(path: Path) -> None:
    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        more = {name.replace("layers.1.", "layers.2."): value + 1 for name, value in tensors.items()}
        return {**tensors, **more}

    edit_tensors(path / "adapter_model.safetensors", change)


@damage("CKD853", WEAVER, against=HEADERS)
def longer_latents(path: Path) -> None:
    import torch

    def change(state: dict[str, Any]) -> None:
        state["prompt_query_latents"] = torch.cat([state["prompt_query_latents"].detach()] * 2)

    edit_state(path / "projections.pt", change)


@damage("CKD854", PEFT, severity="warning", against=HEADERS)
def adapter_in_bfloat16(path: Path) -> None:
    import torch

    edit_tensors(
        path / "adapter_model.safetensors", lambda tensors: {n: t.to(torch.bfloat16) for n, t in tensors.items()}
    )


@damage("CKD854", PEFT, against=VALUES)
def adapter_with_pinned_values_in_bfloat16(path: Path) -> None:
    adapter_in_bfloat16(path)


@damage("CKD855", WEAVER, against=VALUES, deep=True)
def one_bit_of_an_adapter(path: Path) -> None:
    overwrite_tensors(path / ADAPTER, r"layers\.1\..*q_proj\.lora_B", lambda data: bytes([data[0] ^ 1]) + data[1:])


@damage("CKD855", "weaver_bin/weaver", against=VALUES, deep=True, expect="bin")
def trained_on(path: Path) -> None:
    edit_state(path / "projections.pt", lambda state: state["reasoner_to_weaver"]["bias"].data.add_(1e-3))


@damage("CKD856", PEFT, against=HEADERS)
def half_of_lora_alpha(path: Path) -> None:
    edit_json(path / "adapter_config.json", lambda config: config.update(lora_alpha=config["lora_alpha"] / 2))


@damage("CKD856", PEFT, severity="note", against=HEADERS)
def base_model_of_another_name(path: Path) -> None:
    edit_json(path / "adapter_config.json", lambda config: config.update(base_model_name_or_path="somewhere/else"))


@damage("CKD857", WEAVER, against=HEADERS)
def the_adapter_alone(path: Path) -> Path:
    return (path / ADAPTER).rename(path.parent / "adapter_model.safetensors")


@damage("CKD858", WEAVER, against=HEADERS)
def adapter_cut_off(path: Path) -> None:
    (path / ADAPTER).write_bytes((path / ADAPTER).read_bytes()[:60])


@damage("CKD858", PEFT, against=HEADERS)
def config_is_no_json(path: Path) -> None:
    (path / "adapter_config.json").write_text("{")


@damage("CKD858", PEFT, against=VALUES, severity="note")
def values_that_nobody_read(path: Path) -> None:
    pass


@damage("CKD858", "weaver_bin/weaver", against=VALUES, deep=True, expect="bin", fail_on="never")
def values_that_cannot_be_read(path: Path) -> None:
    edit_zip(path / ADAPTER_BIN, lambda name, data: None if name.endswith("data/3") else data)
