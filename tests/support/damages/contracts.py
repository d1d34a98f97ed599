"""Damages that show only beside a contract of the checkpoint as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.damages.files import ADAPTER, ADAPTER_BIN, Damage, edit_json, edit_zip, load, overwrite_tensors, save
from support.damages.keys import edit_tensors, without
from support.places import copied

WEAVER = "weaver_safetensors/weaver"
PEFT = "peft/lora"
MODEL = "transformers/sharded_safetensors"
DAMAGES: list[Damage] = []


def damage(
    code: str, fixture: str, *, severity: str = "error", values: bool = False, **options: Any
) -> Callable[[Callable[[Path], Path | None]], Callable[[Path], Path | None]]:
    """Register a function that damages a copy of ``fixture``, which is held against the contract of the original."""

    def register(harm: Callable[[Path], Path | None]) -> Callable[[Path], Path | None]:
        def make(folder: Path) -> Path:
            copy = copied(fixture, folder)
            return harm(copy) or copy

        DAMAGES.append(Damage(code, harm.__name__, make, options, severity, fixture, values))
        return harm

    return register


def edit_projections(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = load(path / "projections.pt")
    change(state)
    save(state, path / "projections.pt")


@damage("CKD851", PEFT)
def a_layer_less(path: Path) -> None:
    edit_tensors(path / "adapter_model.safetensors", without("layers.1."))


@damage("CKD851", WEAVER)
def no_projections(path: Path) -> None:
    (path / "projections.pt").unlink()


@damage("CKD851", MODEL)
def a_shard_less(path: Path) -> None:
    (path / "model-00002-of-00003.safetensors").unlink()


@damage("CKD851", "transformers/tied_bin", severity="note")
def tied_name_dropped(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.load(path / "pytorch_model.bin", weights_only=True)
    del state["lm_head.weight"]
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    (path / "pytorch_model.bin").unlink()


@damage("CKD852", PEFT, severity="warning")
def a_layer_more(path: Path) -> None:
    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        more = {name.replace("layers.1.", "layers.2."): value + 1 for name, value in tensors.items()}
        return {**tensors, **more}

    edit_tensors(path / "adapter_model.safetensors", change)


@damage("CKD853", WEAVER)
def longer_latents(path: Path) -> None:
    import torch

    def change(state: dict[str, Any]) -> None:
        state["prompt_query_latents"] = torch.cat([state["prompt_query_latents"].detach()] * 2)

    edit_projections(path, change)


@damage("CKD854", PEFT, severity="warning")
def adapter_in_bfloat16(path: Path) -> None:
    import torch

    edit_tensors(
        path / "adapter_model.safetensors", lambda tensors: {n: t.to(torch.bfloat16) for n, t in tensors.items()}
    )


@damage("CKD854", PEFT, values=True)
def adapter_with_pinned_values_in_bfloat16(path: Path) -> None:
    adapter_in_bfloat16(path)


@damage("CKD855", WEAVER, values=True, deep=True)
def one_bit_of_an_adapter(path: Path) -> None:
    overwrite_tensors(path / ADAPTER, r"layers\.1\..*q_proj\.lora_B", lambda data: bytes([data[0] ^ 1]) + data[1:])


@damage("CKD855", "weaver_bin/weaver", values=True, deep=True, expect="bin")
def trained_on(path: Path) -> None:
    edit_projections(path, lambda state: state["reasoner_to_weaver"]["bias"].data.add_(1e-3))


@damage("CKD856", PEFT)
def half_of_lora_alpha(path: Path) -> None:
    edit_json(path / "adapter_config.json", lambda config: config.update(lora_alpha=config["lora_alpha"] / 2))


@damage("CKD856", PEFT, severity="note")
def base_model_of_another_name(path: Path) -> None:
    edit_json(path / "adapter_config.json", lambda config: config.update(base_model_name_or_path="somewhere/else"))


@damage("CKD857", WEAVER)
def the_adapter_alone(path: Path) -> Path:
    return (path / ADAPTER).rename(path.parent / "adapter_model.safetensors")


@damage("CKD858", WEAVER)
def adapter_cut_off(path: Path) -> None:
    (path / ADAPTER).write_bytes((path / ADAPTER).read_bytes()[:60])


@damage("CKD858", PEFT)
def config_is_no_json(path: Path) -> None:
    (path / "adapter_config.json").write_text("{")


@damage("CKD858", PEFT, values=True, severity="note")
def values_that_nobody_read(path: Path) -> None:
    pass


@damage("CKD858", "weaver_bin/weaver", values=True, deep=True, expect="bin", fail_on="never")
def values_that_cannot_be_read(path: Path) -> None:
    edit_zip(path / ADAPTER_BIN, lambda name, data: None if name.endswith("data/3") else data)
