"""What makes no difference to a contract: formats, shards, file names, and how a tensor lies in its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ckpt_doctor
from ckpt_doctor.contracts import inspect_against
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.policy import Policy
from support.places import HEALTHY, copied
from support.states import save_as

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    torch.bool,
]
MATRIX = torch.arange(12 * 35, dtype=torch.float32).reshape(12, 35)
VIEWS: dict[str, torch.Tensor] = {
    "transposed": MATRIX.t(),
    "sliced": MATRIX[1:11:2, 5:30:7],
    "expanded": MATRIX[:1, :3].expand(8, 3),
    "windows that overlap": MATRIX.flatten().unfold(0, 5, 2),
    "of no dimension": MATRIX[3, 4],
    "empty": MATRIX[:0],
}


def departures(path: Path, contract: Any) -> list[Finding]:
    report = inspect_against(path, contract, Policy(deep=True, expect="any"))
    return [item for item in report.findings if item.code.startswith("CKD85")]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_dtype_in_every_format(dtype: torch.dtype, legacy: bool, tmp_path: Path) -> None:
    bits = torch.arange(48, dtype=torch.uint8)
    tensor = (bits % 2).view(torch.bool) if dtype is torch.bool else bits.view(dtype)
    state = {"tensor": tensor, "none": torch.zeros(0, 4, dtype=dtype), "one": tensor[:1].reshape(()).clone()}
    torch.save(state, tmp_path / "w.bin", _use_new_zipfile_serialization=not legacy)
    contract = ckpt_doctor.lock(tmp_path / "w.bin", values=True, policy=Policy(ignore=("CKD6",)))
    assert {pin.dtype for pin in contract.parts[0].tensors.values()} == {str(dtype).removeprefix("torch.")}
    assert departures(save_as(state, tmp_path / "other.safetensors"), contract) == []
    state["tensor"] = state["tensor"].clone()
    state["tensor"].view(torch.uint8)[-1] ^= 1
    assert [item.code for item in departures(save_as(state, tmp_path / "w.safetensors"), contract)] == ["CKD855"]


def test_4_bit_floats_are_counted_one_by_one(tmp_path: Path) -> None:
    packed = torch.arange(24, dtype=torch.uint8).reshape(3, 8).view(torch.float4_e2m1fn_x2)
    torch.save({"w": packed}, tmp_path / "w.bin")
    contract = ckpt_doctor.lock(tmp_path / "w.bin", values=True)
    assert contract.parts[0].tensors["w"][:2] == ("float4_e2m1", (3, 16))
    ckpt_doctor.convert(tmp_path / "w.bin", tmp_path / "w.safetensors", to="safetensors")
    assert departures(tmp_path / "w.safetensors", contract) == []
    assert ckpt_doctor.diff(tmp_path / "w.bin", tmp_path / "w.safetensors", values=True).equal


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str, tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(save_as({"w": VIEWS[name]}, tmp_path / "w.bin"), values=True)
    plain = save_as({"w": VIEWS[name]}, tmp_path / "w.safetensors")
    assert departures(plain, contract) == []
    assert ckpt_doctor.lock(plain, values=True).parts[0].tensors == contract.parts[0].tensors
    assert departures(tmp_path / "w.bin", ckpt_doctor.lock(plain, values=True)) == []


def test_aliases_and_copies(tmp_path: Path) -> None:
    shared = save_as({"a": MATRIX, "b": MATRIX, "part": MATRIX[:5]}, tmp_path / "w.bin")
    copies = save_as({"a": MATRIX, "b": MATRIX, "part": MATRIX[:5]}, tmp_path / "w.safetensors")
    contract = ckpt_doctor.lock(shared, values=True)
    assert {name: pin.same_as for name, pin in contract.parts[0].tensors.items()} == {"a": None, "b": "a", "part": None}
    assert departures(copies, contract) == []
    assert departures(shared, ckpt_doctor.lock(copies, values=True)) == []


def test_a_name_that_was_dropped_for_another_is_a_note_where_the_file_says_so(tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(save_as({"a": MATRIX, "b": MATRIX}, tmp_path / "w.bin"), values=True)
    ckpt_doctor.convert(tmp_path / "w.bin", tmp_path / "w.safetensors", to="safetensors", shared="drop")
    (note,) = departures(tmp_path / "w.safetensors", contract)
    assert (note.code, note.severity.value, note.tensors) == ("CKD851", "note", ("b",))
    # Where nothing says that a loader will tie them, it is simply not there.
    save_file({"a": MATRIX}, tmp_path / "w.safetensors")
    assert [item.severity.value for item in departures(tmp_path / "w.safetensors", contract)] == ["error"]


def test_a_name_that_was_dropped_is_an_error_where_no_loader_ties(tmp_path: Path) -> None:
    """The metadata helps a lone file; PEFT and transformers do not read it, and a config may untie embeddings."""
    adapter = copied("peft/lora_bin", tmp_path)
    file = adapter / "adapter_model.bin"
    state = torch.load(file, weights_only=True)
    first, second = [name for name in state if "lora_A" in name][:2]
    state[second] = state[first]
    contract = ckpt_doctor.lock(save_as(state, file).parent)
    save_file({n: t for n, t in state.items() if n != second}, file.with_suffix(".safetensors"), {second: first})
    file.unlink()
    assert [item.severity.value for item in departures(adapter, contract)] == ["error"]

    model = copied("transformers/tied_bin", tmp_path)
    contract = ckpt_doctor.lock(model)
    ckpt_doctor.convert(model, to="safetensors")
    (model / "pytorch_model.bin").unlink()
    assert [item.severity.value for item in departures(model, contract)] == ["note"]
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    assert [item.severity.value for item in departures(model, contract)] == ["error"]


def test_the_name_that_stands_for_the_others_may_be_the_one_that_is_dropped(tmp_path: Path) -> None:
    tied = {"embed_tokens.weight": MATRIX, "lm_head.weight": MATRIX}
    contract = ckpt_doctor.lock(save_as(tied, tmp_path / "w.bin"))
    save_file({"lm_head.weight": MATRIX}, tmp_path / "w.safetensors", {"format": "pt"})
    (note,) = departures(tmp_path / "w.safetensors", contract)
    assert (note.severity.value, note.tensors) == ("note", ("embed_tokens.weight",))


def test_a_further_name_of_a_pinned_tensor_is_nothing_new(tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(save_as({"embed.weight": MATRIX}, tmp_path / "w.safetensors"))
    tied = {"embed.weight": MATRIX, "lm_head.weight": MATRIX}
    assert departures(save_as(tied, tmp_path / "w.bin"), contract) == []
    (warning,) = departures(save_as(tied, tmp_path / "w.safetensors"), contract)
    assert (warning.code, warning.tensors) == ("CKD852", ("lm_head.weight",))


@pytest.mark.parametrize("fixture", ["sharded_safetensors", "sharded_bin", "single_safetensors"])
def test_shards_and_one_file(fixture: str, tmp_path: Path) -> None:
    """The fixtures are one model, saved in three ways."""
    contract = ckpt_doctor.lock(HEALTHY / "transformers" / fixture, values=True)
    for other in ("sharded_safetensors", "sharded_bin", "single_safetensors"):
        assert departures(HEALTHY / "transformers" / other, contract) == []


def test_peft_nesting_and_flat(tmp_path: Path) -> None:
    flat = ckpt_doctor.lock(HEALTHY / "weaver_safetensors/weaver", values=True)
    nested = ckpt_doctor.lock(HEALTHY / "weaver_nested/weaver", values=True)
    assert departures(HEALTHY / "weaver_nested/weaver", flat) == []
    assert departures(HEALTHY / "weaver_safetensors/weaver", nested) == []
    assert [part.files for part in flat.parts] != [part.files for part in nested.parts]


def test_an_adapter_that_lies_beside_is_another_checkpoint(tmp_path: Path) -> None:
    both = copied("weaver_and_trigger_nested/weaver", tmp_path)
    contract = ckpt_doctor.lock(both)
    assert [part.name for part in contract.parts] == ["weaver adapter", "projections"]
    for file in (both / "weaver_lora" / "trigger").iterdir():
        file.unlink()
    (both / "weaver_lora" / "trigger").rmdir()
    assert departures(both, contract) == []


def test_training_state_is_not_pinned(tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(HEALTHY / "peft/lora")
    adapter = copied("peft/lora", tmp_path)
    torch.save({"state": {0: torch.ones(3)}}, adapter / "optimizer.pt")
    assert departures(adapter, contract) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["v_proj", "q_proj"]},
        {"use_dora": None, "bias": None, "rank_pattern": None, "alpha_pattern": {}, "modules_to_save": []},
        {"lora_alpha": 8.0},
        {"peft_version": "0.99", "inference_mode": False, "lora_dropout": 0.5, "init_lora_weights": "gaussian"},
    ],
)
def test_settings_that_mean_the_same(changes: dict[str, Any], tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(HEALTHY / "peft/lora")
    adapter = copied("peft/lora", tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    assert departures(adapter, contract) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "ADALORA"},
        {"r": 8},
        {"lora_alpha": 16},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj"]},
        {"use_dora": True},
        {"use_rslora": True},
        {"fan_in_fan_out": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"layers_to_transform": 1},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
    ],
    ids=str,
)
def test_settings_that_change_the_meaning(changes: dict[str, Any], tmp_path: Path) -> None:
    contract = ckpt_doctor.lock(HEALTHY / "peft/lora")
    adapter = copied("peft/lora", tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    (found,) = departures(adapter, contract)
    assert (found.code, found.severity.value) == ("CKD856", "error")
    assert list(found.evidence["settings"]) == list(changes)


def test_a_conjugated_alias_is_no_further_name(tmp_path: Path) -> None:
    numbers = torch.tensor([1 + 2j, 3j])
    contract = ckpt_doctor.lock(save_as({"a": numbers, "b": numbers.conj()}, tmp_path / "w.bin"))
    assert contract.parts[0].tensors["b"].same_as is None


def test_a_second_format_is_not_looked_at(tmp_path: Path) -> None:
    """Loaders read the safetensors file; that another lies beside it has a finding of its own."""
    contract = ckpt_doctor.lock(HEALTHY / "peft/lora", values=True)
    adapter = copied("peft/lora", tmp_path)
    torch.save({"another": torch.ones(1)}, adapter / "adapter_model.bin")
    assert departures(adapter, contract) == []
    tensors = load_file(adapter / "adapter_model.safetensors")
    torch.save(tensors, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert departures(adapter, contract) == []
