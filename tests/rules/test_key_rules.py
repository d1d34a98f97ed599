"""CKD3xx and CKD5xx: what hostile or odd names and settings do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from ckpt_doctor import inspect
from ckpt_doctor.core.parts import ConfigFile
from ckpt_doctor.rules.adapter_pair_incomplete import AdapterPairIncomplete
from support.builders import file, part, run
from support.damages.edits import edit_tensors
from support.places import HEALTHY


def adapter_with(tmp_path: Path, **settings: object) -> Path:
    adapter = Path(shutil.copytree(HEALTHY / "peft/lora", tmp_path / "adapter"))
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    return adapter


@pytest.mark.parametrize("layer", ["99999999999", "3000000", "9" * 5000, "9999"])
def test_absurd_layer_numbers_cost_nothing(layer: str, tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path)
    edit_tensors(
        adapter / "adapter_model.safetensors",
        lambda tensors: {name.replace("layers.1.", f"layers.{layer}."): tensor for name, tensor in tensors.items()},
    )
    start = time.process_time()
    assert "CKD303" not in {finding.code for finding in inspect(adapter).findings}
    assert time.process_time() - start < 2


@pytest.mark.parametrize("rank", [float("nan"), float("inf"), 1e308, [8], True, "8", 0, -1])
def test_a_rank_that_is_none(rank: object, tmp_path: Path) -> None:
    assert "CKD501" in {finding.code for finding in inspect(adapter_with(tmp_path, r=rank)).findings}


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "(a+)+$" * 10},
        {"rank_pattern": {"(a+)+$": 3}},
        {"rank_pattern": [1]},
        {"target_modules": {"a": 1}},
        {"modules_to_save": [1, None, {}]},
        {"layers_to_transform": "x", "task_type": 7},
    ],
    ids=str,
)
def test_odd_settings_raise_nothing(settings: dict[str, object], tmp_path: Path) -> None:
    inspect(adapter_with(tmp_path, **settings)).to_json()


def test_weights_of_another_type_than_the_configuration_names(tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path, peft_type="IA3")
    assert "CKD503" in {finding.code for finding in inspect(adapter).findings}


def test_a_magnitude_vector_alone(tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(HEALTHY / "peft/dora", tmp_path / "adapter"))
    edit_tensors(
        adapter / "adapter_model.safetensors",
        lambda tensors: {n: t for n, t in tensors.items() if "layers.0.self_attn.q_proj.lora_A" not in n},
    )
    edit_tensors(
        adapter / "adapter_model.safetensors",
        lambda tensors: {n: t for n, t in tensors.items() if "layers.0.self_attn.q_proj.lora_B" not in n},
    )
    (finding,) = [finding for finding in inspect(adapter).findings if finding.code == "CKD302"]
    assert finding.tensor_count == 2


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [
        (["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], True),
        (["self_attn.q_proj.weight", "self_attn.v_proj.weight"], False),
        (["q_proj.weight", "experts.w1"], True),
        (["weight"], False),
    ],
)
def test_ranks_beside_adapted_parameters_are_judged(targets: list[str], wrong: bool, tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path, r=16, target_parameters=targets)
    assert ("CKD501" in {finding.code for finding in inspect(adapter).findings}) == wrong


def test_parameters_need_no_module_in_target_modules(tmp_path: Path) -> None:
    adapter = adapter_with(tmp_path, target_modules=["q_proj"], target_parameters=["gate.weight"])
    assert "CKD308" not in {finding.code for finding in inspect(adapter).findings}


Q, V = "base_model.model.layers.0.q_proj", "base_model.model.layers.0.v_proj"
LOKR_WHOLE = (f"{Q}.lokr_w1", f"{Q}.lokr_w2", f"{V}.lokr_w1_a", f"{V}.lokr_w1_b", f"{V}.lokr_w2_a", f"{V}.lokr_w2_b")
VERA_WHOLE = ("base_model.vera_A", "base_model.vera_B", f"{Q}.vera_lambda_b", f"{Q}.vera_lambda_d")


def missing_halves(names: tuple[str, ...], **settings: object) -> list[str]:
    config = ConfigFile("adapter_config.json", settings)
    found = run(AdapterPairIncomplete, part(file("adapter_model.safetensors", *names), role="adapter", config=config))
    return [name for finding in found for name in finding.tensors]


def test_both_factors_of_a_lokr_must_be_there_in_one_piece_or_in_two() -> None:
    assert missing_halves(LOKR_WHOLE, peft_type="LOKR") == []
    assert missing_halves(LOKR_WHOLE[1:], peft_type="LOKR") == [f"{Q}.lokr_w1"]
    assert missing_halves(LOKR_WHOLE[:4], peft_type="LOKR") == [f"{V}.lokr_w2"]
    assert missing_halves(LOKR_WHOLE[:5], peft_type="LOKR") == [f"{V}.lokr_w2_b"]


@pytest.mark.parametrize(
    ("names", "saved", "missing"),
    [
        (VERA_WHOLE, True, []),
        (VERA_WHOLE[1:], True, ["base_model.vera_A"]),
        (VERA_WHOLE[2:], True, ["base_model.vera_A"]),
        (VERA_WHOLE[2:], False, []),
    ],
)
def test_a_vera_that_says_so_must_hold_its_projection(names: tuple[str, ...], saved: bool, missing: list[str]) -> None:
    assert missing_halves(names, peft_type="VERA", save_projection=saved) == missing
